"""Files to shards, in O(shards) and without reading data; and the check that shards chain."""

from mmflow.shards.chain import Chained, FileChain, Right, Span, Verdict, WrongStart
from mmflow.shards.discover import Paths, find_files
from mmflow.shards.model import FileEntry, Shard
from mmflow.shards.plan import cut_rest, default_shard_size, entries, group_shards, plan_shards

__all__ = [
    "Chained",
    "FileChain",
    "FileEntry",
    "Paths",
    "Right",
    "Shard",
    "Span",
    "Verdict",
    "WrongStart",
    "cut_rest",
    "default_shard_size",
    "entries",
    "find_files",
    "group_shards",
    "plan_shards",
]
