"""Rewrites of a plan that make it faster without changing what it computes."""

from workers.compute.autograd.builder import Fusion

FUSIONS: tuple[Fusion, ...] = ()
