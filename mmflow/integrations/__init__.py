"""Plugins by which other libraries take datasets. Each library is imported by its own package only."""
