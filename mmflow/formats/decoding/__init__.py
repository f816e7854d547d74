"""Bytes to record batches: windows, decoders, kernels and views."""
