"""Compressed files with places from which on they can be decompressed."""

from __future__ import annotations

import lzma
import struct
import zlib

import pyarrow as pa

__all__ = ["bgzf", "bgzf_block", "seekable_zstd", "xz_blocks", "zstd_frames"]


def bgzf_block(text: bytes, extra: bytes = b"") -> bytes:
    """Return one block of BGZF, with another subfield before its own."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    body = packer.compress(text) + packer.flush()
    fields = extra + b"BC\x02\0" + struct.pack("<H", len(body) + len(extra) + 25)
    head = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + struct.pack("<H", len(fields)) + fields
    return head + body + struct.pack("<II", zlib.crc32(text), len(text))


def bgzf(data: bytes, size: int = 0xFF00, *, end: bool = True) -> bytes:
    """Return data as BGZF, with the empty block at its end."""
    blocks = [bgzf_block(data[i : i + size]) for i in range(0, len(data), size)]
    return b"".join([*blocks, bgzf_block(b"")] if end else blocks)


def zstd_frames(data: bytes, size: int) -> bytes:
    """Return data as frames of zstd, each of which states the length of its text."""
    return b"".join(
        bytes(pa.compress(data[i : i + size], "zstd", asbytes=True)) for i in range(0, len(data), size)
    )


def seekable_zstd(data: bytes, size: int) -> bytes:
    """Return data as frames that don't state the length of their text, which a table at the end does."""
    frames, table = [], []
    for begin in range(0, len(data), size):
        text = data[begin : begin + size]
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(text)
        frames.append(sink.getvalue().to_pybytes())
        table.append(struct.pack("<II", len(frames[-1]), len(text)))
    body = b"".join(table) + struct.pack("<IBI", len(table), 0, 0x8F92EAB1)
    return b"".join(frames) + struct.pack("<II", 0x184D2A5E, len(body)) + body


def xz_blocks(data: bytes, size: int) -> bytes:
    """Return data as one stream of xz with several blocks, as `xz -T0 --block-size` makes it."""
    blocks, records, flags = [], [], b""
    for begin in range(0, len(data), size):
        text = data[begin : begin + size]
        packed = lzma.compress(text, check=lzma.CHECK_CRC32)
        flags = packed[6:8]
        index = packed[-12 - 4 * (int.from_bytes(packed[-8:-4], "little") + 1) :]
        end = len(packed) - len(index)
        blocks.append(packed[12:end])
        at = 2  # behind the mark of the index and the number of records
        while index[at] > 127:
            at += 1
        unpadded = index[2 : at + 1]
        records.append(unpadded + _number(len(text)))
    body = b"\0" + _number(len(blocks)) + b"".join(records)
    body += bytes(-len(body) % 4)
    body += struct.pack("<I", zlib.crc32(body))
    footer = struct.pack("<I", len(body) // 4 - 1) + flags
    head = b"\xfd7zXZ\0" + flags + struct.pack("<I", zlib.crc32(flags))
    return head + b"".join(blocks) + body + struct.pack("<I", zlib.crc32(footer)) + footer + b"YZ"


def _number(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])
