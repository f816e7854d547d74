"""npy files and images as arrays in memory: read, changed in place, or changed in private; larger than memory."""

from mmflow.arrays.array import MappedArray
from mmflow.arrays.opening import create_array, open_array, open_image

__all__ = ["MappedArray", "create_array", "open_array", "open_image"]
