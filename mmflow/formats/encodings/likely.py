"""Guess of a text's encoding by its bytes.

    marks (BOM, escape sequences) -> NULs of UTF-16 and UTF-32 -> UTF-8 -> plausibility of each legacy encoding's text

A legacy encoding is a guess: several decode the same bytes. Each candidate's text is scored by what text of people
looks like: frequent letters of its script, words of one script, capitals only at the front.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Iterator
from functools import cache

from mmflow.lazy.patterns import lazy_regex

__all__ = ["likely_encodings"]

_PROBED = 1 << 16  # bytes of a sample that are scored
_WORDS = 2000
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ESCAPES = (
    (lazy_regex(rb"\x1b\$[@B]|\x1b\(J"), "iso-2022-jp"),
    (lazy_regex(rb"\x1b\$\)C"), "iso-2022-kr"),
)
#: East Asian encodings, and the characters of each that are frequent in its language.
_WIDE = (
    ("shift_jis", "cp932", lazy_regex("[\u3040-\u30ff\u3001\u3002\u30fb\u30fc]")),
    ("euc_jp", "euc_jp", lazy_regex("[\u3040-\u30ff\u3001\u3002\u30fb\u30fc]")),
    ("gb18030", "gb18030", lazy_regex("[\u3001\u3002\uff0c\uff1a\uff08\uff09]")),
    ("euc_kr", "cp949", lazy_regex("[\uac00-\ud7a3]")),
    ("big5", "big5", lazy_regex("[\u3001\u3002\uff0c\uff1a\uff08\uff09]")),
)
#: Lead bytes of each one's most frequent characters, those of the first level of its standard.
_COMMON_LEADS = {"shift_jis": (0x88, 0x98), "euc_jp": (0xB0, 0xD0), "gb18030": (0xB0, 0xD8), "euc_kr": (0xB0, 0xC9),
                 "big5": (0xA4, 0xC7)}  # fmt: skip
_WEST = "éèêàâäáåçñöôóøüúíîæßëòùìïãœÉÀÄÖÜÅØÇÑÊÈÁÓÚÍÆ"
_CENTRAL = "áéíóúýäöüőűąćęłńśźżčďěňřšťůžľĺŕđçëțșăâîŁŚŻŹŠČŘŽÁÉÍÓÚÝÖÜŐŰßĆĐ"
_TURKISH = "çğıöşüâîÇĞİÖŞÜ"
_BALTIC = "āčēģīķļņšūžąęėįųõäöüåæøóĀČĒĢĪĶĻŅŠŪŽĄĘĖĮŲ"
_CYRILLIC = "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъёіїєґ"
_GREEK = "αοιετσνηυρπκμλςωόίάέήύώγδθφχβξζψ"
_HEBREW = "יוהלאבתרשמנםדפקחטעכסגץןזךףצ"
_ARABIC = "اليمنرتبودعهسفقكحجةىشصطخغضذثزظءأإآؤئپچژگ"
_THAI = "านรอกเงมยลวดทส่้ีิตัคใปบขหแจะพช์ไผโซูถุฉธศษภณญฐึื็"
#: Encodings of one byte a character: the letters of its languages, and how often it is met.
_SINGLE = (
    ("windows-1252", _WEST, 1.0),
    ("windows-1251", _CYRILLIC, 0.95),
    ("windows-1250", _CENTRAL, 0.9),
    ("iso-8859-2", _CENTRAL, 0.84),
    ("koi8-r", _CYRILLIC, 0.85),
    ("koi8-u", _CYRILLIC, 0.83),
    ("cp866", _CYRILLIC, 0.8),
    ("mac-cyrillic", _CYRILLIC, 0.7),
    ("iso-8859-5", _CYRILLIC, 0.75),
    ("windows-1253", _GREEK, 0.9),
    ("windows-1254", _TURKISH, 0.88),
    ("windows-1255", _HEBREW, 0.9),
    ("windows-1256", _ARABIC, 0.9),
    ("windows-1257", _BALTIC, 0.82),
    ("iso-8859-6", _ARABIC, 0.8),
    ("cp874", _THAI, 0.85),
    ("mac-roman", _WEST, 0.75),
    ("cp850", _WEST, 0.7),
    ("cp437", _WEST, 0.68),
    ("cp852", _CENTRAL, 0.68),
)
#: Signs that stand in text of all kinds.
_SIGNS = frozenset("\xa0«»°·§©®€£–—‘’‚“”„…•¿¡ªº№²³½¼¾±×µ¹™¢¥؟،、。")
_LEAST = 0.2  # of a score that is worth a mention


def likely_encodings(sample: bytes) -> list[tuple[str, float]]:
    """Return the encodings that some bytes may be text of, the likeliest first, with a confidence of 0 to 1.

    The names are those that the option `encoding` takes. Plain ASCII, and the empty text, are UTF-8. Bytes that look
    like no text at all give an empty list.

    Args:
        sample: Bytes from a file. A character that the end cuts is left out.

    >>> likely_encodings("naïve café".encode())[0][0], likely_encodings("naïve café".encode("cp1252"))[0][0]
    ('utf-8', 'windows-1252')
    """
    for mark, name in _MARKS:
        if sample.startswith(mark):
            return [(name, 1.0)]
    sample = sample[:_PROBED]
    if unmarked := _unmarked_wide(sample):
        return unmarked
    for pattern, name in _ESCAPES:
        if sample.isascii() and pattern.search(sample):
            return [(name, 0.95)]
    text = _decode(sample, "utf-8")
    if text is not None and (sample.isascii() or not text.isascii()):
        return [("utf-8", 1.0 if sample.isascii() else 0.99)]
    if _is_binary(sample):
        return []
    scores = [*_score_wide(sample), *_score_single(sample)]
    found: dict[str, float] = {}
    for name, score in sorted(scores, key=lambda s: -s[1]):
        if score >= _LEAST:
            found.setdefault(name, round(score, 2))
    if "windows-1252" in found and not any(0x80 <= b <= 0x9F for b in sample):
        found["latin-1"] = found["windows-1252"]  # the same but for these
    return sorted(found.items(), key=lambda s: -s[1])[:4]


def _decode(sample: bytes, codec: str) -> str | None:
    """Return the text of a sample, whose end may cut a character; None: it is not of that encoding."""
    decoder = codecs.getincrementaldecoder(codec)()
    try:
        return decoder.decode(sample)
    except UnicodeDecodeError:
        return None


def _is_binary(sample: bytes) -> bool:
    """Return whether there are control characters that text does not have, in more than a few places."""
    controls = sum(sample.count(bytes([b])) for b in (*range(1, 9), *range(14, 26), *range(28, 32), 127))
    return (controls + sample.count(b"\0") // 8) * 50 > len(sample)


def _unmarked_wide(sample: bytes) -> list[tuple[str, float]]:
    """Return UTF-16 or UTF-32 by where the NULs of ASCII characters are."""
    if sample.count(b"\0") * 20 < len(sample) or len(sample) < 4:
        return []
    sample = sample[: len(sample) // 4 * 4]
    zeros = [sample[i::4].count(0) / (len(sample) // 4) for i in range(4)]
    for name, places in (("utf-32-le", (1, 2, 3)), ("utf-32-be", (0, 1, 2))):
        other = 0 if name == "utf-32-le" else 3
        if min(zeros[places[1]], zeros[places[2] if other == 0 else places[0]]) > 0.95 and zeros[other] < 0.1:
            text = _decode(sample, name)
            return [(name, 0.95)] if text is not None and "\0" not in text else []
    even, odd = (zeros[0] + zeros[2]) / 2, (zeros[1] + zeros[3]) / 2
    for name, many, few in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if many > 0.1 and few < 0.05:
            text = _decode(sample, name)
            if text is not None and text.count("\0") * 50 <= len(text):
                return [(name, 0.95 if many > 0.5 else 0.85)]
    return []


def _score_wide(sample: bytes) -> Iterator[tuple[str, float]]:
    high = sum(1 for b in sample if b > 127)
    for name, codec, typical in _WIDE:
        text = _decode(sample, codec)
        if text is None:
            continue
        wide = [c for c in text if ord(c) > 127]
        if not wide or high < 2:
            continue
        asian = sum(map(_is_east_asian, wide)) / len(wide)
        low, top = _COMMON_LEADS[name]
        encoded = [c.encode(codec, "replace") for c in wide]
        common = sum(1 for e in encoded if len(e) == 2 and low <= e[0] < top) / len(wide)
        marks = len(typical.findall(text)) / len(wide)
        # Half-width katakana are single bytes, which any text of accents is full of.
        single = sum(1 for e in encoded if len(e) == 1) / len(wide)
        certain = min(1.0, 0.7 + len(wide) / 40)
        if name in ("shift_jis", "euc_jp"):
            plausible = min(1.0, common * 0.75 + marks)
        elif name == "euc_kr":
            plausible = min(1.0, common) * marks * (1.02 if marks > 0.95 else 1.0)  # Chinese is a third Hanja
        else:
            plausible = min(1.0, common + marks)
        yield (
            name,
            min(1.0, max(0.0, 0.98 * asian * plausible * certain * (1 - single) - 0.01 * (name == "big5"))),
        )


def _is_east_asian(character: str) -> bool:
    code = ord(character)
    return (
        0x3000 <= code <= 0x30FF
        or 0x4E00 <= code <= 0x9FFF
        or 0xAC00 <= code <= 0xD7A3
        or 0xFF00 <= code <= 0xFFEF
    )


def _score_single(sample: bytes) -> Iterator[tuple[str, float]]:
    words = _words(sample)
    if not words:
        return
    for name, letters, usual in _SINGLE:
        scores = []
        for word in words:
            try:
                text = word.decode(name)
            except UnicodeDecodeError:
                break
            scores.append(_word_score(text, name, letters))
        else:
            yield name, usual * sum(scores) / len(scores)


def _words(sample: bytes) -> list[bytes]:
    """Return words with bytes beyond ASCII, each once."""
    found = re.findall(rb"[A-Za-z']*[\x80-\xff][A-Za-z'\x80-\xff]*", sample)
    return list(dict.fromkeys(found))[:_WORDS]


def _word_score(text: str, name: str, letters: str) -> float:
    """Return how much a word looks like one, by its characters beyond ASCII."""
    frequent, rank = _ranks(letters)
    total, count, before = 0.0, 0, ""
    scripts = set()
    for character in text:
        if character > "\x7f":
            count += 1
            category = unicodedata.category(character)
            if character in rank or character.lower() in rank:
                total += 1.0 if character.lower() in frequent else 0.8
            elif character in _SIGNS:
                # Signs stand beside words, not within them.
                total += (
                    0.7 if not before.isalpha() or text[-1] == character or character in "’\xa0–" else 0.2
                )
            elif category[0] == "L":
                total += 0.3
            elif category in ("Cc", "Cn", "Co"):
                total -= 1.0
            elif category == "So" or "\u2500" <= character <= "\u259f":
                total -= 0.2
        if character.isalpha():
            scripts.add(_script(character))
            if character.isupper() and before.islower():
                total -= 0.6  # a capital within a word
        before = character
    if len(scripts) > 1:
        total -= 0.5 * count
    elif "LATIN" in scripts and count > 2 and count * 2 > len(text):
        total -= 0.4 * count  # words of accented letters alone are of another script
    return total / count if count else 0.0


@cache
def _ranks(letters: str) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(letters[: max(12, len(letters) // 2)]), frozenset(letters)


@cache
def _script(character: str) -> str:
    return unicodedata.name(character, "?").partition(" ")[0]
