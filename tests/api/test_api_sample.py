"""Samples: independent uniform picks, the same on every way to read the rows."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmflow as mf
from mmflow import col
from mmflow.api.sampling import pick_numbers
from mmflow.worker.scan import place_of

ROWS = 4_000
Picks = npt.NDArray[np.bool_]


def _picks(offsets: npt.NDArray[np.int64], seed: int, fraction: float, path: str = "a.csv") -> Picks:
    places = pa.array(place_of(path, pa.array(offsets)))
    return pick_numbers(places, seed, 0) < int(fraction * 2**63)


def _chi_square(counts: npt.NDArray[Any], expected: npt.NDArray[Any] | float, variance: float = 1.0) -> float:
    """Chi-square less its mean, in standard deviations; counts that are rarely met are counted together.

    `variance`: of a count, as a part of its mean.
    """
    wanted = np.broadcast_to(np.asarray(expected, np.float64), counts.shape)
    common = wanted >= 5
    counts = np.append(counts[common], counts[~common].sum())
    wanted = np.append(wanted[common], wanted[~common].sum())
    known = wanted > 0
    freedom = int(known.sum()) - 1
    value = float(((counts - wanted)[known] ** 2 / wanted[known]).sum()) / variance
    return (value - freedom) / float(np.sqrt(2 * freedom))


SEEDS = [0, 1, 2, 3, 172_787, -1, 2**63, 10**30]
#: About one in a million for each, if picks are random; a lattice gives hundreds.
_MOST = 6.0


@pytest.mark.parametrize("width", [1, 8, 10, 64, 100, 4096])
@pytest.mark.parametrize("seed", SEEDS)
def test_gaps_and_phases_are_those_of_independent_picks(width: int, seed: int) -> None:
    rows, fraction = 100_000, 0.2
    taken = np.flatnonzero(_picks(np.arange(rows) * width, seed, fraction))
    assert abs(len(taken) - rows * fraction) < _MOST * np.sqrt(rows * fraction * (1 - fraction))
    gaps = np.bincount(np.diff(taken))[1:]
    wanted = (len(taken) - 1) * fraction * (1 - fraction) ** np.arange(len(gaps))
    assert abs(_chi_square(gaps, wanted)) < _MOST  # adjacent rows (a gap of one) among them
    for period in (2, 3, 7, 64, 1000):
        phases = np.bincount(taken % period, minlength=period)
        assert abs(_chi_square(phases, len(taken) / period, 1 - fraction)) < _MOST


def test_samples_of_different_seeds_and_files_are_independent() -> None:
    rows, fraction = 100_000, 0.5
    offsets = np.arange(rows) * 10
    sets = [_picks(offsets, seed, fraction) for seed in range(12)]
    sets += [_picks(offsets, 0, fraction, path) for path in ("b.csv", "folder/a.csv")]
    for number, one in enumerate(sets):
        for other in sets[:number]:
            both = int((one & other).sum())
            assert abs(both - rows / 4) < _MOST * np.sqrt(rows * 3 / 16)


def _write(folder: Path, name: str) -> tuple[Callable[[mf.Session], mf.Dataset], str]:
    """A file of numbers in some format, how it is read, and its column of numbers."""
    path = folder / f"data.{name}"
    table = pa.table({"n": np.arange(ROWS)})
    match name:
        case "csv":
            path.write_text("n\n" + "".join(f"{n:06}x\n" for n in range(ROWS)))
            return lambda s: s.read_csv(str(path)), "n"
        case "ndjson":
            path.write_text("".join(f'{{"n":{n}}}\n' for n in range(ROWS)))
            return lambda s: s.read_ndjson(str(path)), "n"
        case "text":
            path.write_text("".join(f"{n:06}\n" for n in range(ROWS)))
            return lambda s: s.read_text(str(path)), "line"
        case "records":
            path.write_bytes(struct.pack(f"<{ROWS}q", *range(ROWS)))
            layout = [{"name": "n", "type": "int64", "offset": 0}]
            return lambda s: s.read_records(str(path), layout=layout), "n"
        case "npy":
            np.save(path, np.arange(ROWS))
            return lambda s: s.read_npy(str(path)), "value"
        case "parquet":
            pq.write_table(table, path, row_group_size=333)
            return lambda s: s.read_parquet(str(path)), "n"
        case "arrow":
            with pa.ipc.new_file(path, table.schema) as file:
                file.write_table(table, max_chunksize=333)
            return lambda s: s.read_arrow(str(path)), "n"
        case "stream":
            with pa.ipc.new_stream(path, table.schema) as stream:
                stream.write_table(table, max_chunksize=333)
            return lambda s: s.read_arrow(str(path)), "n"
    return lambda s: s.from_arrow(table), "n"


FORMATS = ["csv", "ndjson", "text", "records", "npy", "parquet", "arrow", "stream", "memory"]


@pytest.fixture(scope="module")
def sessions() -> Iterator[list[mf.Session]]:
    with mf.Session(shard_size=4096, workers=2) as small, mf.Session(workers=1) as large:
        yield [small, large]


def _values(ds: mf.Dataset, column: str) -> list[Any]:
    found: list[Any] = ds.to_arrow()[column].to_pylist()
    return sorted(found)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_samples_that_do_not_depend_on_how_it_is_read(
    sessions: list[mf.Session], tmp_path: Path, name: str
) -> None:
    read, column = _write(tmp_path, name)
    taken = []
    for session in sessions:
        ds = read(session)
        every = _values(ds, column)
        sample = ds.sample(0.25, seed=172_787)
        taken.append(_values(sample, column))
        assert sample.columns == ds.columns
        half = col(column) < every[ROWS // 2]
        assert _values(ds.filter(half).sample(0.25, seed=172_787), column) == _values(
            sample.filter(half), column
        )
        assert sample.count() == len(taken[-1])
    assert taken[0] == taken[1]
    assert set(taken[0]) <= set(every)
    assert abs(len(taken[0]) - ROWS / 4) < _MOST * np.sqrt(ROWS * 3 / 16)
    gaps = np.bincount(np.diff([every.index(value) for value in taken[0]]))[1:]
    assert abs(_chi_square(gaps, (len(taken[0]) - 1) * 0.25 * 0.75 ** np.arange(len(gaps)))) < _MOST


def test_verbs_that_keep_rows_keep_their_samples(sessions: list[mf.Session], tmp_path: Path) -> None:
    read, _ = _write(tmp_path, "parquet")
    ds = read(sessions[0])
    wanted = _values(ds.sample(0.1), "n")
    assert _values(ds.with_columns(m=col("n") + 1).rename(n="k").drop("m").sample(0.1), "k") == wanted
    assert _values(ds.select("n").sort("n", descending=True).sample(0.1), "n") == wanted
    assert _values(ds.limit(1000).sample(0.1), "n") == [n for n in wanted if n < 1000]


def test_a_sample_of_a_sample_is_independent_of_it(sessions: list[mf.Session], tmp_path: Path) -> None:
    read, _ = _write(tmp_path, "npy")
    once = read(sessions[0]).sample(0.5)
    assert abs(once.sample(0.5).count() - ROWS / 4) < _MOST * np.sqrt(ROWS * 3 / 16)


def test_no_row_and_every_row(sessions: list[mf.Session], tmp_path: Path) -> None:
    read, _ = _write(tmp_path, "csv")
    ds = read(sessions[0])
    assert ds.sample(0).to_arrow().num_rows == ds.sample(0.0, seed=5).count() == 0
    assert ds.sample(1).count() == ds.sample(1.0, seed=172_787).to_arrow().num_rows == ROWS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.5,), "from 0 to 1"),
        ((-0.1,), "from 0 to 1"),
        ((float("nan"),), "from 0 to 1"),
        (("0.5",), "is a number"),
        ((True,), "is a number"),
        ((0.5, 1.5), "a seed is an integer"),
        ((0.5, None), "a seed is an integer"),
        ((), "either a fraction"),
    ],
)
def test_bad_arguments(sessions: list[mf.Session], arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(mf.PlanError, match=message):
        sessions[0].from_arrow({"n": [1]}).sample(*arguments)


@pytest.mark.parametrize("number", [-1, 1.5, True])
def test_bad_numbers_of_rows(sessions: list[mf.Session], number: Any) -> None:
    with pytest.raises(mf.PlanError, match="natural number"):
        sessions[0].from_arrow({"n": [1]}).sample(n=number)


@pytest.mark.parametrize("kind", ["union", "join", "unique", "grouped", "mapped"])
def test_rows_that_no_file_has_are_picked_independently(
    sessions: list[mf.Session], tmp_path: Path, kind: str
) -> None:
    read, _ = _write(tmp_path, "ndjson")
    ds, half = read(sessions[0]), ROWS // 2
    other = ds.filter(col("n") >= half).select((col("n") - half).alias("n"), col("n").alias("m"))
    made = {
        "union": ds.filter(col("n") < half).union(ds.filter(col("n") >= half)),
        "join": ds.join(other, on="n", how="left"),
        "unique": ds.unique("n", keep="last"),
        "grouped": ds.value_counts("n"),
        "mapped": ds.map_batches(lambda batch: batch, schema={"n": "int64"}),
    }[kind].select("n")
    spread = _MOST * np.sqrt(ROWS * 0.25 * 0.75)
    picks = [_values(made.sample(0.25, seed=seed), "n") for seed in range(4)]
    for taken in picks:
        assert len(set(taken)) == len(taken)
        assert abs(len(taken) - ROWS / 4) < spread
        assert abs(len({n + 1 for n in taken} & set(taken)) - ROWS / 16) < spread
    assert abs(len(set(picks[0]) & set(picks[1])) - ROWS / 16) < spread
    places = np.concatenate(picks) // (ROWS // 50)
    assert abs(_chi_square(np.bincount(places, minlength=50), len(places) / 50, 0.75)) < _MOST
    assert abs(len(made.sample(0.5).sample(0.5).to_arrow()) - ROWS / 4) < spread


@pytest.mark.parametrize("placed", [True, False])
def test_a_number_of_rows_is_that_number_and_every_row_is_as_likely(
    sessions: list[mf.Session], tmp_path: Path, placed: bool
) -> None:
    read, _ = _write(tmp_path, "ndjson")
    ds = read(sessions[0]) if placed else read(sessions[0]).unique("n", keep="first")
    picks = [_values(ds.sample(n=200, seed=seed), "n") for seed in range(12)]
    assert [len(set(taken)) for taken in picks] == [200] * 12
    counts = np.bincount(np.concatenate(picks) // (ROWS // 40), minlength=40)
    assert abs(_chi_square(counts, 12 * 200 / 40, 1 - 200 / ROWS)) < _MOST
    assert placed == (picks[0] == _values(read(sessions[1]).sample(n=200, seed=0), "n"))
    assert ds.sample(n=0).count() == 0
    assert ds.sample(n=2 * ROWS).count() == ROWS


def test_places_are_not_among_the_columns(sessions: list[mf.Session], tmp_path: Path) -> None:
    read, _ = _write(tmp_path, "parquet")
    ds = read(sessions[0]).sample(0.01)
    assert ds.columns == ["n"]
    assert ds.to_arrow().column_names == ["n"]
