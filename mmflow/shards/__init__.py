"""Files to shards, in O(shards) and without reading data."""

from mmflow.shards.model import FileEntry, Shard

__all__ = ["FileEntry", "Shard"]
