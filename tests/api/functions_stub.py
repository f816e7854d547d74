"""Writer of mmflow/api/functions.pyi: the signatures of DataFusion's functions, with mmflow's expressions.

After an update of DataFusion: `python tests/api/functions_stub.py > mmflow/api/functions.pyi`.
"""

from __future__ import annotations

import inspect

from datafusion import functions

from mmflow import functions as F  # noqa: N812  (as users write it)

_HEAD = """# Signatures of the functions, written by tests/api/functions_stub.py.
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from datafusion.common import NullTreatment

from mmflow.api.expressions import Expr

def count(*expressions: Expr, distinct: bool = ..., filter: Expr | None = ...) -> Expr: ...
def col(name: str, *more: str) -> Expr: ...
"""


def stub() -> str:
    """Return the text of the stub."""
    written = [name for name in dir(F) if name not in ("count", "col")]
    return _HEAD + "".join(f"def {name}({_parameters(name)}) -> Expr: ...\n" for name in written)


def _parameters(name: str) -> str:
    made = []
    for p in inspect.signature(getattr(functions, name)).parameters.values():
        kind = str(p.annotation).replace("SortKey", "Expr | str").replace("Expr | SortExpr", "Expr")
        stars = "*" if p.kind is p.VAR_POSITIONAL else "**" if p.kind is p.VAR_KEYWORD else ""
        made.append(f"{stars}{p.name}: {kind}" + ("" if p.default is p.empty else " = ..."))
    return ", ".join(made)


if __name__ == "__main__":
    print(stub(), end="")
