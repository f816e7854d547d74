"""DataFusion's logical plans, on their way to Substrait with nothing lost."""
