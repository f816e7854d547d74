"""`inspect`: facts about a source, without a run."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Mapping
from typing import Any

from mmflow.api.source_info import MAX_SHARDS, proposal_of
from mmflow.cli.options import read_source, session_of
from mmflow.cli.parsing import Options
from mmflow.errors import SourceError
from mmflow.formats.schemas.schema import name_text
from mmflow.formats.sniffing import LIKELY, SURE
from mmflow.formats.sniffing.files import option_texts, python_call
from mmflow.mapping.streams import is_stream_path

__all__ = ["inspect"]


def inspect(options: Options) -> int:
    """Print the format, schema, shards and page-cache residency of a source, and how it would be mapped."""
    session = session_of(options)
    try:
        info = read_source(session, options.path, options.opt).source_info()
    except SourceError as error:
        return _inspect_unreadable(options, error)
    if options.json:
        print(json.dumps(info.as_dict()))
        return 0
    shards = f"{info.shards:,}" if info.shards < MAX_SHARDS else f"more than {info.shards:,}"
    cached = "(empty file)" if info.in_page_cache is None else f"{info.in_page_cache:.0%} of the first file"
    compressed = "" if info.compression is None else f" compressed by {info.compression}"
    files = f"{info.files:,} file{'s' * (info.files != 1)}"
    streams = not info.bytes and is_stream_path(options.path)
    size = "a stream" if streams else f"{files}, {info.bytes:,} bytes"
    print(f"{options.path}: {info.format}{compressed}, {size}")
    if info.sections is not None:
        print(
            f"  sections    {info.sections}; all workers read them, and single rows are read from any place"
        )
    _print_options(info.options)
    if info.sniffed is not None:
        print(f"  sniffed     {info.sniffed}")
    if not streams:  # of which nobody knows the size
        print(f"  shards      {shards} of up to {info.shard_size:,} bytes")
        print(f"  page cache  {cached}")
    if info.in_cache is not None:
        print(f"  fetched     {info.in_cache:,} bytes of the first file are in the cache")
    print(f"  reads by    {info.reads_by}: {info.reason}")
    print(f"  columns     {len(info.schema)}")
    for name, kind in info.schema.items():
        print(f"    {name_text(name)}: {kind}")
    if info.proposal is not None:
        _print_proposal(info.proposal, options.path)
    return 0


def _print_options(options: Mapping[str, Any]) -> None:
    """Print options, as many a line as fit."""
    text = ", ".join(f"{k}={v!r}" for k, v in options.items()) or "(none)"
    width = shutil.get_terminal_size().columns
    first, others = "  options     ", " " * 14
    print(
        textwrap.fill(
            text, width, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
        )
    )  # fmt: skip


def _inspect_unreadable(options: Options, error: SourceError) -> int:
    """Print what a file that can't be read as it was asked for looks like, if it looks like CSV.

    Raises:
        SourceError: It does not.
    """
    path = error.context.get("path")
    if not isinstance(path, str) or type(error) is not SourceError:
        raise error
    try:
        proposal = proposal_of(path)
    except SourceError:
        raise error from None
    if proposal is None or not proposal["options"] or proposal["confidence"] < LIKELY:
        raise error
    if options.json:
        print(json.dumps({"path": options.path, "error": error.message, "proposal": proposal}))
        return 0
    print(error.message.partition("\n")[0])
    _print_proposal(proposal, options.path)
    return 0


def _print_proposal(proposal: Mapping[str, Any], path: str) -> None:
    """Print what a sniffer proposes, so that it can be pasted, and why."""
    chosen, confidence = proposal["options"], proposal["confidence"]
    how = "sure" if confidence >= SURE else "likely" if confidence >= LIKELY else "a guess"
    print(
        f"  proposes    {', '.join(map(_said, chosen.items())) or 'the defaults'} ({how}, {confidence:.0%})"
    )
    for reason in proposal["reasons"]:
        print(f"    {reason}")
    print(f"  to read it  {option_texts(chosen) or '(no options)'}")
    print(f"              {python_call(path, chosen)}")
    if how != "a guess":
        print("              or --opt dialect=auto")


def _said(option: tuple[str, Any]) -> str:
    name, value = option
    if name in ("skip_rows", "skip_footer"):
        return f"skip {value:,} {'lines' if value != 1 else 'line'}{' at the end' if name == 'skip_footer' else ''}"
    if name == "date_format" and isinstance(value, str):
        order = {"%d": "day first", "%m": "month first", "%Y": "year first"}.get(value[:2])
        return f"dates {order or value} ({value})" if order else f"dates {value}"
    if name == "header":
        return "no header" if value is False else f"header {value}"
    return f"{name.replace('_', ' ')} {value if name == 'encoding' else repr(value)}"
