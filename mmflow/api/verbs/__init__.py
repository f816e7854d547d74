"""Verbs of datasets, a class for each topic. `Dataset` inherits them all."""
