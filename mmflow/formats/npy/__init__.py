"""npy arrays as tables."""
