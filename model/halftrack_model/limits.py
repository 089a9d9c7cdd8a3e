"""Bounds that both sides of the wire must agree on. It imports nothing, so that whoever only needs a number gets it at once."""

MAX_PLAN_BYTES = 4 << 20
"""A plan names rings and workloads, it does not carry artifacts: a hundred graphs fit many times over."""
