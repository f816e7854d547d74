"""Types of fields by a sample of lines."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from mmflow.errors import SourceError
from mmflow.formats.encodings.encoding import UTF8, Encoding
from mmflow.formats.schemas.encodings import BOM, check_text
from mmflow.formats.schemas.sampling import sample_file
from mmflow.formats.text.conversion import infer_field
from mmflow.formats.text.lines import line_decoder
from mmflow.formats.text.logfmt import LogfmtSplitter, logfmt_names
from mmflow.formats.text.splitting import Splitter

__all__ = ["infer_fields", "sampled_lines"]


def sampled_lines(path: str, begins: int = 0, encoding: Encoding = UTF8) -> list[pa.Array]:
    """Return the lines of each piece of a sample, as `string`; the first `begins` bytes, as UTF-8, don't count."""
    sample = sample_file(path, enough=lambda start: b"\n" in start[begins:], encoding=encoding)
    check_text(path, sample.start)
    reader = line_decoder(())
    found = []
    for piece in (sample.start[begins:].removeprefix(BOM), *sample.others):
        done = 0
        while done < len(piece):
            data = pa.py_buffer(piece[done:])
            decoded = reader.decode(data, data.size, final=True, located=True)
            found.append(decoded.batch.column(0).cast(pa.string()).drop_null())
            if not decoded.consumed:
                break
            done += decoded.consumed
    return found


def infer_fields(
    path: str, pieces: Sequence[pa.Array], splitter: Splitter, nulls: tuple[str, ...]
) -> pa.Schema:
    """Infer types that hold every value of the lines of a sample; of logfmt, the fields too.

    Raises:
        SourceError: No line of the sample is of the form.
    """
    if isinstance(splitter, LogfmtSplitter):
        names = dict.fromkeys(name for lines in pieces for name in logfmt_names(lines))
        splitter = LogfmtSplitter(tuple(names), closed=False)
    columns: dict[str, list[str]] = {name: [] for name in splitter.names}
    records, example = 0, ""
    for lines in pieces:
        split = splitter.split(lines, splitter.names)
        fit = [
            row
            for row in range(len(lines))
            if row not in split.bad and (split.left_out is None or not split.left_out[row])
        ]
        records += len(fit)
        example = example or next((lines[row].as_py() for row in split.bad), "")
        chosen = pa.array(fit, pa.int64())
        for name, values in columns.items():
            values += [
                t for t in split.texts[name].take(chosen).to_pylist() if t is not None and t not in nulls
            ]
    if example and not records:
        raise SourceError(
            f"{path}: no line of its sample has the form that pattern= says; one is {example[:200]!r}",
            path=path,
        )
    if not columns:
        raise SourceError(
            f"{path} is empty, so its fields are unknown; give schema=name:type,... if that is all right",
            path=path,
        )
    kinds = {name: infer_field(values) for name, values in columns.items()}
    return pa.schema(list(kinds.items()))
