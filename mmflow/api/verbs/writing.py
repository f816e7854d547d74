"""Writers of datasets: one function for each format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Unpack, cast

from mmflow.api.options import FileOptions, WriteOptions
from mmflow.api.results import WriteResult
from mmflow.api.verbs.core import DatasetCore
from mmflow.plan.stages import Write

if TYPE_CHECKING:
    from mmflow.sinks import IfExists

__all__ = ["WritingVerbs"]


class WritingVerbs(DatasetCore):
    """Verbs that write all rows, or nothing."""

    def write(
        self,
        path: str,
        format: str | None = None,
        *,
        partition_by: Sequence[str] | str = (),
        if_exists: IfExists = "error",
        **options: Unpack[WriteOptions],
    ) -> WriteResult:
        """Write all rows, or nothing.

        Parameters
        ----------
        path
            Local path or URL (`s3://bucket/out`): one file if it ends in a suffix of the format, else a folder. `-`
            (standard output) and named pipes are streams of CSV, NDJSON or Arrow, which get rows as they come.
        format
            `parquet`, `arrow`, `csv`, `ndjson`, `npy`, or `delta` (by default for `delta:///folder`). By default by the
            suffix; Parquet for folders, CSV for streams.
        partition_by
            Columns that become folders `k=v`.
        if_exists
            What is done if the destination exists: `error`, `replace`, `append`, or `replace-partitions` (the folders
            `k=v` that get files lose what they had; others stay).
        **options
            Options of the format; `max_rows_per_file` and `approximate_bytes_per_file`, at which a task begins another
            file of a folder; `storage_options` of the fsspec file system of a URL, as a dict or JSON (secrets are
            refused: the environment gives them). Files are as sorted as the rows: `sort` before sorts each of them.

        Returns
        -------
        WriteResult
            Path, files, rows and bytes, and the summary of the run.

        Raises
        ------
        SinkError
            The destination exists, is an input, is full, or can't hold a type.
        ConfigError
            An unknown format or option, or a value that does not fit.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2]}).write("out.csv").rows
        2
        """
        from mmflow.sinks import check_sink  # noqa: PLC0415  (slow)
        from mmflow.sinks.streamed import writes_stream  # noqa: PLC0415  (slow)

        if writes_stream(path):
            given = {**options, "partition_by": partition_by, "if_exists": if_exists}
            from mmflow.sinks.streamed import stream_spec  # noqa: PLC0415  (slow)

            streamed = stream_spec(path, format, given)
            check_sink(streamed, self._table_schema())
            from mmflow.api.destinations import StreamDestination  # noqa: PLC0415  (slow)

            destination = StreamDestination(streamed, self._table_schema())
            return self.context.write(self._plan(), self.context.new_run_name(), destination)
        from mmflow.sinks import sink_spec  # noqa: PLC0415  (slow)

        spec = sink_spec(path, format, partition_by=partition_by, if_exists=if_exists, **options)
        check_sink(spec, self._table_schema())
        plan, name = self._plan(Write(spec)), self.context.new_run_name()
        resumable = self.context.resumable
        from mmflow.api.destinations import FileDestination  # noqa: PLC0415  (slow)

        files = FileDestination(spec, name, plan, self._table_schema(), resumable=resumable)
        return self.context.write(plan, name, files)

    def write_parquet(
        self,
        path: str,
        *,
        compression: Literal["snappy", "zstd", "gzip", "lz4", "brotli", "none"] = "snappy",
        compression_level: int | None = None,
        row_group_rows: int = 1 << 20,
        statistics: bool = True,
        bloom_filters: Sequence[str] = (),
        partition_by: Sequence[str] | str = (),
        if_exists: IfExists = "error",
        **files: Unpack[FileOptions],
    ) -> WriteResult:
        """Write Parquet files.

        Parameters
        ----------
        path, partition_by, if_exists, files
            As of `write`, which also says what is returned and raised.
        compression, compression_level
            Codec of the pages, and its level, where it has levels.
        row_group_rows
            Most rows of a row group. Wide rows make smaller ones.
        statistics
            Whether row groups say the least and the greatest value of each column, by which readers skip them.
        bloom_filters
            Columns with a filter in each row group, by which DuckDB and Spark (not mmflow) skip it where a value is not
            there.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2]}).write_parquet("a.parquet", compression="zstd").rows
        2
        """
        options: WriteOptions = {
            **cast("WriteOptions", files), "compression": compression, "row_group_rows": row_group_rows,
            "statistics": statistics, "bloom_filters": bloom_filters,
        }  # fmt: skip
        if compression_level is not None:
            options["compression_level"] = compression_level
        return self.write(
            path,
            "parquet",
            partition_by=partition_by,
            if_exists=if_exists,
            **options,
        )

    def write_delta(
        self,
        path: str,
        *,
        partition_by: Sequence[str] | str = (),
        if_exists: IfExists = "error",
        compression: Literal["snappy", "zstd", "gzip", "lz4", "brotli", "none"] = "snappy",
        row_group_rows: int = 1 << 20,
        max_rows_per_file: int | None = None,
        approximate_bytes_per_file: int | None = None,
    ) -> WriteResult:
        """Write one version of a Delta table, or nothing, by deltalake (`pip install 'mmflow-engine[delta]'`).

        Tasks write the Parquet files, which the version then names. It names the run, too: a run that is resumed after
        it wrote its version writes no other.

        Parameters
        ----------
        path
            Folder of the table, or `delta:///folder`. It is local.
        partition_by
            Columns that become folders `k=v`: those of the table, where it exists.
        if_exists
            What happens to the files of a table that exists: nothing is written (`error`), they stay
            (`append`), go (`replace`), or go where the partition gets rows (`replace-partitions`). Earlier versions
            keep theirs.
        compression, row_group_rows
            As of `write_parquet`.
        max_rows_per_file, approximate_bytes_per_file
            Where a task begins another file.

        Returns
        -------
        WriteResult
            Path, files, rows and bytes of this version, and the summary of the run.

        Raises
        ------
        SinkError
            The table exists, has other columns, or uses a feature that mmflow does not write; or another writer changed
            the same files meanwhile.
        ConfigError
            deltalake is not installed, or a value does not fit.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"v": [1, 2]}).write_delta("numbers").rows
        2
        >>> _ = mf.from_arrow({"v": [3]}).write_delta("numbers", if_exists="append")
        >>> mf.read_delta("numbers").count()
        3
        """
        options: WriteOptions = {"compression": compression, "row_group_rows": row_group_rows}
        if max_rows_per_file is not None:
            options["max_rows_per_file"] = max_rows_per_file
        if approximate_bytes_per_file is not None:
            options["approximate_bytes_per_file"] = approximate_bytes_per_file
        return self.write(path, "delta", partition_by=partition_by, if_exists=if_exists, **options)

    def write_arrow(
        self,
        path: str,
        *,
        compression: Literal["none", "lz4", "zstd"] = "none",
        batch_rows: int = 64 << 10,
        partition_by: Sequence[str] | str = (),
        if_exists: IfExists = "error",
        **files: Unpack[FileOptions],
    ) -> WriteResult:
        """Write Arrow IPC files.

        Parameters
        ----------
        path, partition_by, if_exists, files
            As of `write`, which also says what is returned and raised.
        compression
            Codec of the buffers. Uncompressed files are read without a copy.
        batch_rows
            Most rows of a record batch.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2]}).write_arrow("a.arrow").rows
        2
        """
        options: WriteOptions = {
            **cast("WriteOptions", files),
            "compression": compression,
            "batch_rows": batch_rows,
        }
        return self.write(
            path,
            "arrow",
            partition_by=partition_by,
            if_exists=if_exists,
            **options,
        )

    def write_csv(
        self,
        path: str,
        *,
        delimiter: str | None = None,
        header: bool = True,
        null: str = "",
        compression: Literal["none", "gzip", "zstd"] | None = None,
        partition_by: Sequence[str] | str = (),
        if_exists: IfExists = "error",
        **files: Unpack[FileOptions],
    ) -> WriteResult:
        """Write CSV files, as RFC 4180 has them.

        Parameters
        ----------
        path, partition_by, if_exists, files
            As of `write`, which also says what is returned and raised.
        delimiter
            Character between fields. By default a comma, or a tab where the path ends in `.tsv`.
        header
            Whether each file begins with the names of the columns.
        null
            Text of nulls.
        compression
            Compression of each file. By default by the suffix (`.csv.gz`, `.csv.zst`), and none for folders.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2]}).write_csv("a.csv", delimiter=";").rows
        2
        """
        options: WriteOptions = {**cast("WriteOptions", files), "header": header, "null": null}
        if delimiter is not None:
            options["delimiter"] = delimiter
        if compression is not None:
            options["compression"] = compression
        return self.write(path, "csv", partition_by=partition_by, if_exists=if_exists, **options)

    def write_ndjson(
        self,
        path: str,
        *,
        compression: Literal["none", "gzip", "zstd"] | None = None,
        partition_by: Sequence[str] | str = (),
        if_exists: IfExists = "error",
        **files: Unpack[FileOptions],
    ) -> WriteResult:
        """Write files of newline-delimited JSON, one object a line.

        Parameters
        ----------
        path, partition_by, if_exists, files
            As of `write`, which also says what is returned and raised.
        compression
            As of `write_csv`.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2]}).write_ndjson("a.ndjson").rows
        2
        """
        options = cast("WriteOptions", files)
        if compression is not None:
            options["compression"] = compression
        return self.write(path, "ndjson", partition_by=partition_by, if_exists=if_exists, **options)

    def write_npy(
        self,
        path: str,
        *,
        partition_by: Sequence[str] | str = (),
        if_exists: IfExists = "error",
        **files: Unpack[FileOptions],
    ) -> WriteResult:
        """Write npy files: of one column a one-dimensional array, else a structured one.

        Parameters
        ----------
        path, partition_by, if_exists, files
            As of `write`, which also says what is returned and raised.

        Examples
        --------
        >>> import mmflow as mf
        >>> mf.from_arrow({"a": [1, 2]}).write_npy("a.npy").rows
        2
        """
        return self.write(path, "npy", partition_by=partition_by, if_exists=if_exists, **files)
