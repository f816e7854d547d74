"""Files that can't be read as what they should be, for `skip_bad_files`: found before anything runs.

    each file opened, its header or footer read -> files that are read | files that are left out, and why

A file is left out as a whole, so that no row of it is in a result. What is only found while rows are read (a damaged
page, a bad record) is an error as ever: `on_bad_record` says what happens to records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmflow.errors import MmflowError, SourceError, SourceUnreachableError
from mmflow.formats import Format, detect, open_format
from mmflow.formats.compression import read_first_bytes
from mmflow.formats.decoding.scan import ScannedFormat
from mmflow.formats.schemas.file_columns import UNION, read_each
from mmflow.mapping import MappedFile
from mmflow.plan.stages import BadFile, Plan, ScanInput
from mmflow.remote.opening import open_file

__all__ = ["bad_files_message", "detect_any", "skipped_files", "without_bad_files"]

#: Files that are named in a message.
_SHOWN = 3


def without_bad_files(
    files: Sequence[str], name: str, options: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[BadFile, ...]]:
    """Return the files that can be read, and those that can't.

    Args:
        files: Paths or URLs.
        name: Name of the format.
        options: Options of the format, with `schema`.

    Raises:
        SourceError: None can be read; the error of the first.
        SourceUnreachableError: A store does not answer: its files may be as good as others.
        ConfigError: An option does not fit.
    """
    given = {key: value for key, value in options.items() if key not in ("missing_columns", "extra_columns")}
    if given.get("schema") == UNION:
        del given["schema"]
    errors: dict[str, MmflowError] = {}
    probe: Format | None = None
    for path in files:
        try:
            probe = open_format(
                name, (path,), **{**given, "missing_columns": "null", "extra_columns": "ignore"}
            )
            break
        except SourceUnreachableError:
            raise
        except SourceError as error:
            errors[path] = error
    if probe is None:
        raise next(iter(errors.values()))
    form = probe
    others = [path for path in dict.fromkeys(files) if path not in errors]
    errors.update(
        (p, e) for p, e in zip(others, read_each(others, lambda p: _error_of(form, p)), strict=True) if e
    )
    good = tuple(path for path in files if path not in errors)
    if not good:
        raise next(iter(errors.values()))
    return good, tuple(BadFile(path, errors[path].message) for path in dict.fromkeys(files) if path in errors)


def _error_of(form: Format, path: str) -> MmflowError | None:
    """Return why a file can't be read; None: it can."""
    try:
        with open_file(path, io="pread", access="random") as file:
            if file.size == 0 and not form.record_oriented:
                return SourceError(f"{path} is empty, which no {form.name} file is", path=path)
            form.check(file)
            _check_text(form, file)
    except SourceUnreachableError:
        raise
    except SourceError as error:
        return error
    return None


def _check_text(form: Format, file: MappedFile) -> None:
    """Check the first bytes of formats whose `check` accepts any file.

    Raises:
        SourceError: They are of something else.
    """
    if isinstance(form, ScannedFormat) and file.size:
        start = read_first_bytes(file, 4096)
        from mmflow.formats.ndjson.format import NdjsonFormat  # noqa: PLC0415  (slow)

        if isinstance(form, NdjsonFormat):
            from mmflow.formats.ndjson.format import check_ndjson  # noqa: PLC0415  (slow)

            check_ndjson(file.path, form.encoding)
        elif (
            form.name == "text"
            and b"\0" in start.strip(b"\0")
            and form.spec().get("encoding", "utf-8") == "utf-8"
        ):
            raise SourceError(f"{file.path} is no text: it holds NUL characters", path=file.path)


def detect_any(files: Sequence[str], encoding: str) -> tuple[str, dict[str, Any]]:
    """Return the format, and options, of the first file that has one that is known.

    Raises:
        SourceError: None has; the error of the first.
    """
    first: SourceError | None = None
    for path in files:
        try:
            return detect(path, encoding)
        except SourceUnreachableError:
            raise
        except SourceError as error:
            first = first or error
    assert first is not None  # there is a file
    raise first


def skipped_files(plan: Plan) -> tuple[BadFile, ...]:
    """Return the files that the sources of a plan leave out, each once."""
    inputs = (given for stage in plan.stages for given in stage.inputs if isinstance(given, ScanInput))
    return tuple(dict.fromkeys(bad for given in inputs for bad in given.source.skipped))


def bad_files_message(bad: Iterable[BadFile]) -> str:
    """Return one sentence about files that were left out."""
    listed = list(bad)
    shown = "; ".join(f"{each.reason}" if each.path in each.reason else f"{each.path}: {each.reason}"
                      for each in listed[:_SHOWN])  # fmt: skip
    more = f"; and {len(listed) - _SHOWN:,} more" if len(listed) > _SHOWN else ""
    files = "1 file was" if len(listed) == 1 else f"{len(listed):,} files were"
    return f"{files} left out, as skip_bad_files says: {shown}{more}"
