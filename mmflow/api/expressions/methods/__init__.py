"""Methods and namespaces of expressions, by topic."""
