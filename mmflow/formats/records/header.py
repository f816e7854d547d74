"""Bytes of a file that are no records: its header, its footer, and a record that was cut off."""

from __future__ import annotations

from mmflow.errors import SourceError

__all__ = ["check_header", "cut_off"]


def cut_off(size: int, length: int, footer: int) -> str:
    """Return why the last bytes of a file are no record."""
    behind = f", and behind its {footer:,} bytes of footer_bytes the file has no more" if footer else ""
    return f"expected {size:,} bytes, the file ends after {length:,}{behind}"


def check_header(path: str, size: int, header: int, footer: int = 0) -> None:
    """Check that a file of `size` bytes is not shorter than its header and footer.

    Raises:
        SourceError: It is.
    """
    if header <= size < header + footer:
        raise SourceError(
            f"can't read {path}: it has {size:,} bytes, less than header_bytes ({header:,}) and footer_bytes "
            f"({footer:,}) together; the file was cut short, or these are wrong",
            path=path,
        )
    if size < header:
        raise SourceError(
            f"can't read {path}: it has {size:,} bytes, and header_bytes is {header:,}; the file was cut short, or "
            "header_bytes is wrong",
            path=path,
        )
