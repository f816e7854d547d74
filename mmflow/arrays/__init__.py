"""npy files as arrays in memory: read, changed in place, or changed in private; larger than memory."""

from mmflow.arrays.array import MappedArray, create_array, open_array

__all__ = ["MappedArray", "create_array", "open_array"]
