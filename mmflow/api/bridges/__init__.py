"""Bridges to Dask and Ray, whose schedulers read partitions of datasets, and whose partitions datasets read."""
