"""Encoding of samples: marks, NULs, validity as UTF-8, and else the likeliest of those with eight bits."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from mmflow.formats.encodings.likely import likely_encodings
from mmflow.lazy.dataclasses import dataclass

__all__ = ["Decoded", "decode_samples"]

_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_PROBED = 4096
#: Lines that are not ASCII by which an encoding is known.
_LINES = 400


@dataclass(frozen=True, slots=True)
class Decoded:
    """Samples as text.

    Attributes:
        texts: Texts of the samples, without byte order marks, their lines ended by LF; of the first sample alone in
            encodings in which lines can't be found elsewhere.
        encoding: Name of the encoding; `utf-8` where that reads them.
        confidence: Confidence that it is this one, in [0, 1].
        reason: Reason; empty for UTF-8.
    """

    texts: tuple[str, ...]
    encoding: str
    confidence: float
    reason: str = ""


def decode_samples(samples: Sequence[bytes], encoding: str | None = None) -> Decoded | None:
    """Return samples as text; None: they are no text.

    Args:
        samples: Bytes of the start of a file, and of further places.
        encoding: Encoding, where it is known.
    """
    if encoding is not None:
        name = codecs.lookup(encoding).name
        if name == "utf-8":
            name = "utf-8-sig"
        if name.startswith(("utf-16", "utf-32")):
            return Decoded((_wide_text(samples[0], name),), encoding, 1.0)
        return Decoded(tuple(_text(s, name) for s in samples), encoding, 1.0)
    start = samples[0]
    for mark, name in _MARKS:
        if start.startswith(mark):
            codec = {"utf-16": f"utf-16-{'le' if mark[0] == 0xFF else 'be'}", "utf-8": "utf-8"}.get(
                name, f"utf-32-{'le' if mark[0] == 0xFF else 'be'}"
            )
            if name != "utf-8":
                return Decoded(
                    (_wide_text(start[len(mark) :], codec),), name, 1.0, "it begins with a byte order mark"
                )
            texts = (_text(start[len(mark) :], codec), *(_text(s, codec) for s in samples[1:]))
            return Decoded(texts, name, 1.0)
    if (wide := _by_nuls(start[:_PROBED])) is not None:
        return Decoded((_wide_text(start, wide),), wide, 0.95, "every other byte is NUL")
    samples = [s.strip(b"\0") for s in samples]
    if any(b"\0" in s for s in samples):
        return None
    if all(map(_is_utf8, samples)):
        return Decoded(tuple(_text(s, "utf-8") for s in samples), "utf-8", 1.0)
    joined = b"\n".join(samples)
    name, confidence = _eight_bits(joined)
    at = next(i for i, s in enumerate(samples) if not _is_utf8(s))
    byte = _first_invalid(samples[at])
    reason = f"byte 0x{byte:02x} is not valid UTF-8, and is a letter of {name}"
    return Decoded(tuple(_text(s, name) for s in samples), name, confidence, reason)


def _text(sample: bytes, codec: str) -> str:
    return sample.decode(codec, errors="replace").replace("\r\n", "\n").replace("\r", "\n")


def _wide_text(sample: bytes, codec: str) -> str:
    """Return the text of the start of a file whose characters have two bytes or four; samples are cut amid one."""
    return (
        _text(sample[: len(sample) // 4 * 4], codec)
        if "32" in codec
        else _text(sample[: len(sample) // 2 * 2], codec)
    )


def _by_nuls(probe: bytes) -> str | None:
    """Return UTF-16 without a mark, for text of mostly Latin letters."""
    half = len(probe) // 2
    if half < 2:
        return None
    even, odd = probe[: 2 * half : 2].count(0), probe[1 : 2 * half : 2].count(0)
    if odd > 0.6 * half and even < 0.05 * half:
        return "utf-16-le"
    if even > 0.6 * half and odd < 0.05 * half:
        return "utf-16-be"
    return None


def _is_utf8(sample: bytes) -> bool:
    """Return whether it is valid, but for a character that its end cuts off."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return False
    return True


def _first_invalid(sample: bytes) -> int:
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        return sample[error.start]
    raise AssertionError("the sample is valid")


def _eight_bits(text: bytes) -> tuple[str, float]:
    """Return the likeliest encoding of text that is not UTF-8, and how sure that is."""
    lines = [line for line in text.split(b"\n") if not line.isascii()]
    likely = dict(likely_encodings(b"\n".join(lines[:_LINES])))
    if not likely:
        return "latin-1", 0.3
    name, confidence = next(iter(likely.items()))
    # Without bytes that only Windows has, both are one, and the standard's name says enough.
    return ("latin-1" if likely.get("latin-1") == confidence else name), confidence
