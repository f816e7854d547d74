"""Rewrites of Substrait plans: exact integers, one order of floats, nulls kept."""
