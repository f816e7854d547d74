"""Facts by which the planner chooses between plans that give the same rows: sizes, keys, what may be skipped."""
