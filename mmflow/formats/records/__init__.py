"""Fixed-width binary records."""
