"""Trees of expressions, and what resolves them against the schema of a dataset."""
