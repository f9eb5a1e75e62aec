"""Finds recipes for a goal: which candidates to run, round after round, and what of the measured to recommend.

Pure: from contracts to contracts, no clock, no store and no tensor, so the same survey and the same reports give the
same plan.
"""
