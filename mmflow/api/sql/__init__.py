"""SQL of sessions: statements, their tables and their parameters."""
