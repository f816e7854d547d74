"""Images as arrays: BMP files against Pillow, rasters against numpy, and files that are no such images."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image

import mmflow as mf
from tests.arrays.bmp_files import bmp

KINDS = [
    (3, 40, ""),
    (4, 40, ""),
    (4, 40, "BGRX"),
    (4, 56, "XBGR"),
    (4, 108, "BGRA"),
    (4, 124, "ABGR"),
    (4, 108, "RGBA"),
    (3, 124, ""),
]


def _by_pillow(path: Path) -> dict[str, Any]:
    with Image.open(path) as opened:
        image = opened.convert("RGBA" if opened.mode == "RGBA" else "RGB")
    pixels = np.asarray(image)
    return {name: pixels[..., n] for n, name in enumerate(image.mode)}


def _by_mmflow(path: Path) -> dict[str, Any]:
    image = mf.open_image(path)
    return {name: image[..., n] for n, name in enumerate(image.channels)}


def _same(path: Path) -> None:
    ours, pillow = _by_mmflow(path), _by_pillow(path)
    for channel in "RGB":
        assert np.array_equal(ours[channel], pillow[channel])
    assert ("A" in ours) == ("A" in pillow)
    if "A" in ours:
        assert np.array_equal(ours["A"], pillow["A"])


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS), width=st.integers(1, 40), height=st.integers(1, 40), top_down=st.booleans(),
    mode=st.sampled_from(["r+", "c", "copy"]), data=st.data(),
)  # fmt: skip
def test_bmp_is_what_pillow_reads(
    tmp_path_factory: pytest.TempPathFactory,
    kind: Any,
    width: int,
    height: int,
    top_down: bool,
    mode: str,
    data: Any,
) -> None:
    depth, header, channels = kind
    pixels = np.random.default_rng(width * height).integers(0, 256, (height, width, depth), np.uint8)
    path = tmp_path_factory.mktemp("bmp") / "a.bmp"
    before = bmp(pixels, top_down=top_down, header=header, channels=channels, profile=b"profile")
    path.write_bytes(before)
    assert np.array_equal(mf.open_image(path)[...], pixels)
    _same(path)
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    with mf.open_image(path, "r+" if mode == "r+" else "c") as image:
        image[row:, column] = 77
        if mode != "r+":
            assert image.commit(in_place=mode == "c") == len(range(1)) or height * width * depth > 4000
    pixels[row:, column] = 77
    assert np.array_equal(mf.open_image(path)[...], pixels)
    _same(path)
    # Nothing but pixels was written.
    assert path.read_bytes() == bmp(
        pixels, top_down=top_down, header=header, channels=channels, profile=b"profile"
    )
    assert [p.name for p in path.parent.iterdir()] == ["a.bmp"]


@given(
    shape=st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 4)), pad=st.integers(0, 5),
    offset=st.integers(0, 40), bottom_up=st.booleans(), dtype=st.sampled_from(["u1", ">u2", "f4"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_raw_rasters(
    tmp_path_factory: pytest.TempPathFactory, shape: Any, pad: int, offset: int, bottom_up: bool, dtype: str
) -> None:
    pixels = np.random.default_rng(offset).integers(0, 200, shape).astype(dtype)
    packed = np.dtype(dtype).itemsize * shape[1] * shape[2]
    path = tmp_path_factory.mktemp("raw") / "a.raw"
    rows = [r.tobytes() + b"\xee" * pad for r in (pixels[::-1] if bottom_up else pixels)]
    path.write_bytes(b"h" * offset + b"".join(rows) + b"tail")
    how: Any = {
        "shape": shape,
        "dtype": dtype,
        "offset": offset,
        "bottom_up": bottom_up,
        "row_bytes": packed + pad,
    }
    with mf.open_image(path, "r+", **how) as image:
        assert image[...].tobytes() == pixels.tobytes()
        if shape[1]:
            assert image.to_arrow().to_pylist() == pixels.tolist()
        image[1:] = 3
        pixels[1:] = 3
        assert image[...].tobytes() == pixels.tobytes()
        assert image.snapshot(slice(1, 3)).tobytes() == pixels[1:3].tobytes()
    found = path.read_bytes()
    assert found[:offset] == b"h" * offset
    assert found.endswith(b"tail")
    assert len(found) == offset + (packed + pad) * shape[0] + 4


def _head(**changes: int) -> bytes:
    fields = {"offset": 54, "header": 40, "width": 2, "height": 2, "bits": 24, "packing": 0} | changes
    second = (fields["header"], fields["width"], fields["height"], 1, fields["bits"], fields["packing"])
    return struct.pack("<2sI4xI", b"BM", 0, fields["offset"]) + struct.pack("<IiiHHI", *second).ljust(
        200, b"\0"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no BMP"),
        (b"BM" + b"\0" * 20, "no whole header"),
        (b"\x89PNG" + b"\0" * 60, "does not begin with BM"),
        (_head(header=12), "OS/2"),
        (_head(bits=8), "palette"),
        (_head(bits=16), "16 bits a pixel"),
        (_head(bits=8, packing=1), "RLE8"),
        (_head(packing=4), "JPEG"),
        (_head(packing=5), "PNG"),
        (_head(bits=32, packing=3), "whole bytes"),
        (_head(bits=24, packing=3), "don't go with"),
        (_head(width=-3), "-3 by 2"),
        (_head(height=0), "2 by 0"),
        (_head(offset=20), "within its header"),
        (_head(width=1 << 30, height=-(1 << 30)), "cut short"),
        (_head(bits=32, packing=3, offset=68)[:60], "within its masks"),
    ],
)  # fmt: skip
def test_reports_files_that_are_no_such_image(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.bmp"
    path.write_bytes(content)
    with pytest.raises(mf.SourceError, match=message):
        mf.open_image(path)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"shape": (9, 9, 3)}, "cut short"),
        ({"shape": (-1, 3)}, "nowhere"),
        ({"shape": (2, 2), "offset": -1}, "nowhere"),
        ({"shape": (2, 2), "dtype": "O"}, "plain dtype"),
        ({"shape": (2, 20), "row_bytes": 10}, "less than the 20"),
    ],
)
def test_refuses_impossible_rasters(tmp_path: Path, how: Any, message: str) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(b"x" * 100)
    with pytest.raises(mf.MmflowError, match=message):
        mf.open_image(path, **how)
