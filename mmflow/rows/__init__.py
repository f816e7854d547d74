"""Random access to rows by their number, without reading those before them (docs/random-access.md)."""
