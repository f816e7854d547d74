"""Public interface: sessions, datasets, readers, expressions, jobs."""
