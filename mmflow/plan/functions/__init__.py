"""Scalar functions that the planner puts into plans and workers run."""
