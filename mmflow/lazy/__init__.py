"""Stand-ins for what is slow to import: the same names, and the work is done when they are first used."""
