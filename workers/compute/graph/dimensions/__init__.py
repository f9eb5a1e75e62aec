"""Coupled dimensions: which positions of which tensors shrink together, and how to shrink them."""

from workers.compute.graph.dimensions.cutting import remove_units
from workers.compute.graph.dimensions.groups import Coupling, Group, Member, couple

__all__ = ["Coupling", "Group", "Member", "couple", "remove_units"]
