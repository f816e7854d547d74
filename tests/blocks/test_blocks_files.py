"""Block files: which tier they go to, and what their errors say."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from mmflow.blocks.files import BlockWriter, Tier, read_block_file
from mmflow.errors import BlockLostError, EngineError


def test_only_a_full_tier_is_left_for_the_next(tmp_path: Path) -> None:
    tiers = [Tier(str(tmp_path / name), None, "") for name in ("a", "b")]
    for tier in tiers:
        os.mkdir(tier.folder)
    writer = BlockWriter("x.block", tiers)
    writer.write(bytes(2000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(EngineError, match=r"can't write .*a/x\.block: File too large"):
            writer.finish(0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        writer.discard()
    assert writer.moved == ""
    assert [list(Path(tier.folder).iterdir()) for tier in tiers] == [[], []]


def test_errors_of_files_say_where_and_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder, message in (
        ("missing", r"no folder .*missing: .* names a folder that is not there$"),
        ("file", r"can't make .*file/x\.block: Not a directory$"),
    ):
        with pytest.raises(EngineError, match=message):
            BlockWriter("x.block", [Tier(str(tmp_path / folder), None, "")])
    with pytest.raises(EngineError, match=r"can't read .*: Is a directory$"):
        read_block_file(str(tmp_path), check=True)
    (tmp_path / "short").write_bytes(b"x" * 10)
    with pytest.raises(BlockLostError, match=r"damaged on disk: .*short: it has 10 bytes; check"):
        read_block_file(str(tmp_path / "short"), check=True)
