"""Shards: files cut into byte ranges, and the check of the record boundaries between them."""

from mmflow.shards.boundary_check import BoundaryCheck, BoundaryReport, StartMismatch, Valid, VerifiedPrefix
from mmflow.shards.discovery import Paths, find_files
from mmflow.shards.model import FileEntry, Shard
from mmflow.shards.plan import cut_remainder, default_shard_size, group_shards, identify_files, plan_shards

__all__ = [
    "BoundaryCheck",
    "BoundaryReport",
    "FileEntry",
    "Paths",
    "Shard",
    "StartMismatch",
    "Valid",
    "VerifiedPrefix",
    "cut_remainder",
    "default_shard_size",
    "find_files",
    "group_shards",
    "identify_files",
    "plan_shards",
]
