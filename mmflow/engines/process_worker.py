"""A worker process: calls functions on batches that lie in the shared store. See `engines.processes`.

Exits when its parent closes the socket, or dies.
"""

from __future__ import annotations

import pickle
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from mmflow.exec.returned import returned_batches
from mmflow.exec.task import BlockRef
from mmflow.store import SharedStore

__all__ = ["serve"]


def serve(link: Connection[Any, Any]) -> None:
    """Answer calls until the parent is gone."""
    store, path = pickle.loads(link.recv_bytes())
    sys.path[:] = path
    functions: dict[int, Callable[..., Any]] = {}
    while True:
        number, code, given = pickle.loads(link.recv_bytes())
        link.send_bytes(pickle.dumps(_answer(store, functions, number, code, given)))


def _answer(
    store: SharedStore,
    functions: dict[int, Callable[..., Any]],
    number: int,
    code: bytes | None,
    given: BlockRef,
) -> tuple[str, Any]:
    try:
        if code is not None:
            functions[number] = pickle.loads(code)
        (batch,) = store.get(given)
        made = returned_batches(functions[number](batch))
        # Batches of one call may differ in schema; the caller says what is wrong with that.
        return "blocks", [store.put([b], b.schema) for b in made]
    except BaseException as error:  # noqa: BLE001  (whatever the function raised goes to the parent)
        return "error", {
            "type": type(error).__name__,
            "message": str(error),
            "traceback": traceback.format_exc(),
        }


if __name__ == "__main__":
    try:
        serve(Connection(int(sys.argv[1])))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        sys.exit(0)
