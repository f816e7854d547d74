"""Jobs: named computations with typed parameters, as Python functions or as TOML.

    @mf.job
    def top_errors(session, *, source: str, top: int = 10) -> mf.Dataset: ...

Each keyword-only parameter becomes a flag of `mmflow run`, with its type, its default, and its line of the
docstring's `Args:` as help.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import re
import sys
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmflow.errors import ConfigError
from mmflow.summary import WriteResult

__all__ = ["Job", "Parameter", "filled_output", "job", "load_job"]

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a job. `parse` turns a flag's text into its value; `required` without a default."""

    name: str
    parse: Callable[[str], Any]
    kind: str
    required: bool
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    many: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """A computation that `mmflow run` can run.

    Attributes:
        name: Of the function or the file.
        build: Called with a session and parameters; gives a Dataset, or what its own write gave (WriteResult).
        parameters: In order.
        doc: What it does.
        output: Where its rows go if the caller doesn't say: keyword arguments of `Dataset.write`; None: printed.
        writes: It writes by itself, and gives a WriteResult, as its annotation says.
    """

    name: str
    build: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    doc: str = ""
    output: Mapping[str, Any] | None = None
    writes: bool = False

    def __call__(self, session: Any, **parameters: Any) -> Any:
        """Build the dataset, or write."""
        return self.build(session, **parameters)

    def bound(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values for all parameters, defaults put in.

        Raises:
            ConfigError: An unknown parameter (with a suggestion), or one that is missing.
        """
        known = {p.name: p for p in self.parameters}
        for name in values:
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean --{_flag(close[0])}?" if close else f"it has {_listed(known)}"
                raise ConfigError(f"job {self.name} has no parameter --{_flag(name)}; {hint}")
        missing = [p.name for p in self.parameters if p.required and p.name not in values]
        if missing:
            raise ConfigError(f"job {self.name} needs {_listed(missing)}")
        return {p.name: values.get(p.name, p.default) for p in self.parameters}


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _listed(names: Any) -> str:
    return ", ".join(f"--{_flag(n)}" for n in names) or "no parameters"


def job(function: Callable[..., Any]) -> Job:
    """Make a function a job. Its first parameter is the session, the others are keyword-only and annotated.

    Raises:
        ConfigError: A parameter that no flag can be made of.
    """
    hints = typing.get_type_hints(function)
    helps = _helps(function.__doc__ or "")
    parameters = []
    for number, p in enumerate(inspect.signature(function).parameters.values()):
        if number == 0:
            continue
        if p.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise ConfigError(
                f"job {function.__name__}: parameter {p.name!r} must be keyword-only: put * before it"
            )
        default = _MISSING if p.default is inspect.Parameter.empty else p.default
        parameters.append(
            _parameter(function.__name__, p.name, hints.get(p.name, str), default, helps.get(p.name, ""))
        )
    doc = (inspect.getdoc(function) or "").split("\n\n")[0]
    writes = hints.get("return") is WriteResult
    return Job(function.__name__, function, tuple(parameters), doc, writes=writes)


def _helps(doc: str) -> dict[str, str]:
    """Lines of the `Args:` section by parameter."""
    return {m[1]: m[2] for m in re.finditer(r"^\s+(\w+): (.+)$", doc, re.MULTILINE)}


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise ValueError("must be true or false")


_KINDS: dict[Any, tuple[Callable[[str], Any], str]] = {
    str: (str, "text"),
    int: (int, "integer"),
    float: (float, "number"),
    bool: (_boolean, "true|false"),
    Path: (Path, "path"),
}


def _parameter(job_name: str, name: str, hint: Any, default: Any, help_text: str) -> Parameter:
    choices: tuple[str, ...] = ()
    many = False
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        (hint,) = [a for a in arguments if a is not type(None)][:1]
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is list:
        many, hint = True, (arguments or (str,))[0]
    elif origin is typing.Literal:
        choices, hint = tuple(map(str, arguments)), str
    if hint not in _KINDS:
        raise ConfigError(
            f"job {job_name}: parameter {name!r} is {hint}; flags can be str, int, float, bool, Path, Literal, "
            "list of these, or optional"
        )
    parse, kind = _KINDS[hint]
    required = default is _MISSING
    return Parameter(name, parse, kind, required, None if required else default, help_text, choices, many)


# ---- loading ------------------------------------------------------------------------------------


def load_job(path: str) -> Job:
    """The job of a .py file (the one decorated function in it) or a .toml file.

    Raises:
        ConfigError: The file is missing or holds no job, or several.
    """
    file = Path(path)
    if not file.exists():
        folder = file.parent if file.parent.is_dir() else Path()
        close = difflib.get_close_matches(file.name, [p.name for p in folder.iterdir()], 1)
        hint = f"; did you mean {folder / close[0]}?" if close else ""
        raise ConfigError(f"there is no job file {path}{hint}")
    if file.suffix == ".toml":
        return _toml_job(file)
    if file.suffix == ".py":
        return _python_job(file)
    raise ConfigError(f"{path}: a job is a .py or a .toml file")


def _python_job(file: Path) -> Job:
    spec = importlib.util.spec_from_file_location(f"mmflow_job_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file}: can't be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found = [v for v in vars(module).values() if isinstance(v, Job)]
    if len(found) != 1:
        names = ", ".join(j.name for j in found) or "none"
        raise ConfigError(f"{file} must hold one function decorated with @mf.job, found: {names}")
    return found[0]


_TOML_KEYS = {"name", "description", "params", "source", "sources", "sql", "output"}
_TOML_TYPES: dict[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool, "path": str}


def _toml_job(file: Path) -> Job:
    try:
        spec = tomllib.loads(file.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error
    unknown = sorted(set(spec) - _TOML_KEYS)
    if unknown:
        close = difflib.get_close_matches(unknown[0], _TOML_KEYS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"keys are {', '.join(sorted(_TOML_KEYS))}"
        raise ConfigError(f"{file}: unknown key {unknown[0]!r}; {hint}")
    parameters = tuple(_toml_parameter(file, n, p) for n, p in spec.get("params", {}).items())
    sources = spec.get("sources") or ({"source": spec["source"]} if "source" in spec else {})
    if not sources:
        raise ConfigError(f"{file}: needs [source] with a path, or [sources.NAME] for several")

    def build(session: Any, **values: Any) -> Any:
        tables = {}
        for name, options in sources.items():
            filled = dict(_filled(options, values, file))
            path = filled.pop("path", None)
            if path is None:
                raise ConfigError(f"{file}: source {name!r} has no path")
            tables[name] = session.read(path, filled.pop("format", None), **filled)
        query = _filled(spec.get("sql", "SELECT * FROM source"), values, file)
        return session.sql(query, **tables)

    output = spec.get("output")
    return Job(spec.get("name", file.stem), build, parameters, spec.get("description", ""), output)


def _toml_parameter(file: Path, name: str, spec: Mapping[str, Any]) -> Parameter:
    kind = spec.get("type", "string")
    if kind not in _TOML_TYPES:
        raise ConfigError(f"{file}: parameter {name!r} has type {kind!r}; types are {', '.join(_TOML_TYPES)}")
    default = spec.get("default", _MISSING)
    return _parameter(file.stem, name, _TOML_TYPES[kind], default, spec.get("help", ""))


def filled_output(job_: Job, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Where a TOML job writes, its `${parameters}` filled in."""
    if job_.output is None:
        return None
    return dict(_filled(job_.output, values, Path(job_.name)))


def _filled(value: Any, values: Mapping[str, Any], file: Path) -> Any:
    """Text with each `${name}` replaced by the parameter's value, at every depth."""
    if isinstance(value, str):

        def fill(match: re.Match[str]) -> str:
            if match[1] not in values:
                raise ConfigError(f"{file}: ${{{match[1]}}} is no parameter; declare it under [params]")
            return str(values[match[1]])

        return re.sub(r"\$\{(\w+)\}", fill, value)
    if isinstance(value, Mapping):
        return {k: _filled(v, values, file) for k, v in value.items()}
    if isinstance(value, list):
        return [_filled(v, values, file) for v in value]
    return value
