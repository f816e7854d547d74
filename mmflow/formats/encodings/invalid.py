"""Reasons for text that is not valid in its encoding, with the encodings that it likely is of."""

from __future__ import annotations

from mmflow.formats.encodings.likely import likely_encodings

__all__ = ["encoding_advice", "invalid_reason", "invalid_utf8_reason"]


def encoding_advice(sample: bytes, encoding: str) -> str:
    """Return what to set, as the end of a sentence: the likely encodings of some bytes that are not of `encoding`."""
    likely = [name for name, _ in likely_encodings(sample) if name != encoding]
    if not likely:
        return "set encoding= to what it is"
    return f"it is likely {' or '.join(likely[:2])}: set encoding={likely[0]!r}"


def invalid_reason(sample: bytes, encoding: str, at: int, what: str = "", *, advise: bool = True) -> str:
    """Return the reason for bytes that are not valid in an encoding.

    Args:
        sample: Bytes of the record, or of the value.
        encoding: Encoding that was asked for.
        at: Offset of the first byte that is wrong, in the sample.
        what: What the offset is counted in: " of the record".
        advise: Also say what they likely are of, which takes up to some milliseconds.
    """
    name = "UTF-8" if encoding == "utf-8" else encoding
    byte = f" ({sample[at]:#04x})" if at < len(sample) else ""
    reason = f"not valid {name} at byte {at:,}{byte}{what}"
    return f"{reason}; {encoding_advice(sample, encoding)}" if advise else reason


def invalid_utf8_reason(value: bytes, *, advise: bool = True) -> str:
    """Return the reason for bytes that are not valid UTF-8; arguments as of `invalid_reason`."""
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return invalid_reason(value, "utf-8", error.start, advise=advise)
    return "not valid UTF-8"
