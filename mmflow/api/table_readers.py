"""Methods of a session that open tables of lakehouses."""

from __future__ import annotations

import datetime as dt
import os
from typing import TYPE_CHECKING, Any

from mmflow.api.dataset import Dataset
from mmflow.errors import ConfigError
from mmflow.usercode.tracebacks import PublicApi

if TYPE_CHECKING:
    from mmflow.tables.delta import DeltaSnapshot
    from mmflow.tables.iceberg import IcebergSnapshot

__all__ = ["TableReaders"]


class TableReaders(PublicApi):
    """Readers of tables, whose log says which files they have."""

    def _read_files(
        self, files: tuple[str, ...], label: str, options: dict[str, Any], **facts: Any
    ) -> Dataset:
        raise NotImplementedError

    def from_arrow(self, data: Any) -> Dataset:
        raise NotImplementedError

    def read_delta(
        self,
        path: str | os.PathLike[str],
        *,
        version: int | None = None,
        timestamp: str | dt.datetime | None = None,
    ) -> Dataset:
        """Open a version of a Delta table, whose log deltalake reads (`pip install 'mmflow-engine[delta]'`).

        Files without a wanted row are left out, by the folders of their partitions and by the bounds in the log.

        Parameters
        ----------
        path
            Folder of the table, or `delta:///folder`. It is local.
        version
            Number of the version. By default the newest when this is called.
        timestamp
            Moment whose version is read, instead of its number: RFC 3339 text, or a datetime (in UTC without a zone).

        Returns
        -------
        Dataset
            Rows of the files of that version, in order of the files' names.

        Raises
        ------
        SourceError
            There is no table or version, or it uses deletion vectors, names of columns that are mapped, or another
            feature that mmflow does not read.
        ConfigError
            deltalake is not installed, or the path is no local one.

        Examples
        --------
        >>> import mmflow as mf
        >>> _ = mf.from_arrow({"day": [1, 1, 2], "v": [3, 4, 5]}).write_delta("orders", partition_by="day")
        >>> mf.read_delta("orders", version=0).to_arrow().to_pydict()
        {'day': [1, 1, 2], 'v': [3, 4, 5]}
        """
        if version is not None and timestamp is not None:
            raise ConfigError("version and timestamp both say which version of the table is read: give one")
        from mmflow.tables.delta import read_snapshot  # noqa: PLC0415  (slow, and an extra)
        from mmflow.tables.paths import delta_path  # noqa: PLC0415  (slow)

        folder = delta_path(path)
        snapshot = read_snapshot(folder, timestamp if version is None else version)
        return self._read_snapshot(snapshot, f"delta://{folder}", hive=bool(snapshot.partition_by))

    def read_iceberg(self, table: Any, *, snapshot_id: int | None = None) -> Dataset:
        """Open a snapshot of an Iceberg table, whose metadata pyiceberg reads (`pip install 'mmflow-engine[iceberg]'`).

        Files without a wanted row are left out, by the bounds in the manifests.

        Parameters
        ----------
        table
            Table of pyiceberg's catalogs, or the path of a table's metadata (`….metadata.json`). Its files are local.
        snapshot_id
            Number of the snapshot. By default the current one.

        Returns
        -------
        Dataset
            Rows of the files of that snapshot, in order of the files' names.

        Raises
        ------
        SourceError
            There is no table or snapshot, or it uses files of deletes, columns that were renamed, or another feature
            that mmflow does not read.
        ConfigError
            pyiceberg is not installed, or `table` is no table.

        Examples
        --------
        >>> from pathlib import Path
        >>> import mmflow as mf
        >>> import pyarrow as pa
        >>> from pyiceberg.catalog.sql import SqlCatalog
        >>> catalog = SqlCatalog("shop", uri="sqlite:///shop.db", warehouse=Path.cwd().as_uri())
        >>> catalog.create_namespace("shop")
        >>> table = catalog.create_table("shop.orders", pa.schema([("v", pa.int64())]))
        >>> table.append(pa.table({"v": [3, 4]}))
        >>> mf.read_iceberg(table).to_arrow().to_pydict()
        {'v': [3, 4]}
        """
        from mmflow.tables.iceberg import read_snapshot  # noqa: PLC0415  (slow, and an extra)

        snapshot = read_snapshot(table, snapshot_id)
        return self._read_snapshot(snapshot, f"iceberg {snapshot.name}", hive=False)

    def _read_snapshot(self, snapshot: DeltaSnapshot | IcebergSnapshot, label: str, *, hive: bool) -> Dataset:
        """Return the rows of a snapshot's files."""
        if not snapshot.files:
            return self.from_arrow(snapshot.schema.empty_table())
        options = {
            "schema": snapshot.schema,
            "missing_columns": "null",
            "extra_columns": "ignore",
            "hive": hive,
        }
        return self._read_files(snapshot.files, label, options, statistics=snapshot.statistics)
