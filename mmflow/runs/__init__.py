"""Runs: what is kept of them, how they go on, and what can be asked about them."""
