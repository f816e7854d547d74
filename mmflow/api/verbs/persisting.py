"""Rows that are computed once, for several plans over them."""

from __future__ import annotations

import weakref
from functools import cache
from typing import Self

from mmflow.api.verbs.writing import WritingVerbs
from mmflow.formats import PLACE
from mmflow.plan.catalog import SourceLeaf

__all__ = ["PersistingVerbs"]


class PersistingVerbs(WritingVerbs):
    """Verbs that keep rows for later plans."""

    def persist(self) -> Self:
        """Run the plan now, and return its rows as a dataset that later plans read without running it again.

        The rows lie in Arrow files below `spill_dir`, which all workers must see, and are mapped. They go with the last
        dataset of the session, or with the process, however it ends. To keep rows for longer, `write_arrow` them.

        Returns
        -------
        Dataset
            The same rows in the same order, with numbers and places of their own.

        Raises
        ------
        EngineError
            The folder can't be made.
        SinkError
            The folder is full, or Arrow files can't hold a type.

        Examples
        --------
        >>> import mmflow as mf
        >>> kept = mf.from_arrow({"a": [2, 1]}).sort("a").persist()
        >>> kept[0], kept.count()
        ({'a': 1}, 2)
        """
        from mmflow.blocks import RunFolder  # noqa: PLC0415  (slow)

        folder = RunFolder(self.context.settings.spill_dir, "persisted")
        weakref.finalize(self.context, folder.close)
        written = self.write_arrow(f"{folder.path}/rows/")
        from mmflow.plan.sources import open_source  # noqa: PLC0415  (slow)
        from mmflow.shards import find_files  # noqa: PLC0415  (slow)

        source = open_source(find_files(written.path), "arrow_ipc", "persisted", "", {"hive": False})
        offer = cache(lambda names: self.context.catalog.add(SourceLeaf(source, names)))
        from mmflow.rows.selection import Selection  # noqa: PLC0415  (slow)

        return type(self)(self.context, offer(()), (PLACE,), Selection.all(source), offer=offer)
