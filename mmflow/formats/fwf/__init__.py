"""Text of fixed width: columns at the same positions of each line."""
