"""Jobs: named computations with typed parameters, as Python functions or as TOML.

    @mf.job
    def top_errors(session, *, source: str, top: int = 10) -> mf.Dataset: ...

Each keyword-only parameter becomes a flag of `mmflow run`, with its type, its default, and its line of the
docstring's `Args:` as help.
"""

from __future__ import annotations

import inspect
import re
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from mmflow.api.dataset import Dataset
from mmflow.api.results import WriteResult
from mmflow.api.run_context import ExplainedSignal
from mmflow.api.session import Session
from mmflow.api.sql.query import plan_query
from mmflow.errors import ConfigError, MmflowError, plain_text
from mmflow.lazy import difflib
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.explain import explain
from mmflow.plan.reachable import Reached, source_digest
from mmflow.plan.tokens import parameters_of
from mmflow.usercode.failures import function_error
from mmflow.usercode.folder import JobFolder
from mmflow.usercode.tracebacks import PublicApi, public

__all__ = ["Job", "Parameter", "code_digest", "filled_output", "job", "load_job"]

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Parameter:
    """Parameter of a job. `parse` converts the text of a flag; a parameter without a default is `required`."""

    name: str
    parse: Callable[[str], Any]
    kind: str
    required: bool
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    many: bool = False


@dataclass(frozen=True, slots=True)
class Job(PublicApi):
    """Computation that `mmflow run` can run.

    Attributes
    ----------
    name
        Name of the function or the file.
    build
        Function of a session and parameters. It returns a Dataset, or the WriteResult of its own write.
    parameters
        Parameters, in order.
    doc
        First paragraph of its documentation.
    output
        Keyword arguments of `Dataset.write`, for callers that give no output. None: rows are printed.
    writes
        Whether the job writes by itself and returns a WriteResult, by its annotation.
    environment
        Names of environment variables that its functions read.
    """

    name: str
    build: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    doc: str = ""
    output: Mapping[str, Any] | None = None
    writes: bool = False
    environment: tuple[str, ...] = ()

    def __call__(self, session: Any, **parameters: Any) -> Any:
        """Build the dataset, or write."""
        session.declare_environment(self.environment)
        return self.build(session, **parameters)

    def run(self, session: Any, **parameters: Any) -> Any:
        """Call the job for a command: what its own code raises is a UserFunctionError with the place of the line.

        Raises:
            UserFunctionError: The function raised an error that is not mmflow's.
        """
        try:
            return self(session, **parameters)
        except (MmflowError, ExplainedSignal):
            raise
        except Exception as error:
            raise function_error(f"job {self.name!r}", error, self.name) from error

    def explain(self, session: Session, **parameters: Any) -> str:
        """Return the stages of the job's dataset, or of its first write, without running them.

        Raises:
            ConfigError: The job returns something else than a dataset.
        """
        context = session.context
        context.explaining = True
        try:
            made = self.run(session, **parameters)
        except ExplainedSignal as signal:
            return plain_text(explain(signal.plan))
        finally:
            context.explaining = False
        if not isinstance(made, Dataset):
            raise ConfigError(f"job {self.name} returned {type(made).__name__}, expected a Dataset")
        return made.explain()

    def bound(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return values for all parameters, with defaults.

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


@overload
def job(function: Callable[..., Any]) -> Job: ...


@overload
def job(*, environment: Sequence[str]) -> Callable[[Callable[..., Any]], Job]: ...


@public
def job(
    function: Callable[..., Any] | None = None, *, environment: Sequence[str] = ()
) -> Job | Callable[[Callable[..., Any]], Job]:
    """Make a function a job, as a decorator.

    The first parameter of the function is the session. The others are keyword-only and annotated; each is a flag of
    `mmflow run`, with its line of the docstring's `Args:` as help.

    Parameters
    ----------
    function
        Function that returns a Dataset, or the WriteResult of its own write.
    environment
        Names of environment variables that functions of the job read while they run. A run that is resumed with other
        values recomputes what functions compute; workers with other values are refused.

    Returns
    -------
    Job
        Job, which is called like the function.

    Raises
    ------
    ConfigError
        A parameter has a type that flags can't have, or `environment` is no list of names.

    Examples
    --------
    >>> import mmflow as mf
    >>> @mf.job
    ... def numbers(session, *, count: int = 3):
    ...     return session.from_arrow({"n": list(range(count))})
    >>> numbers(mf.Session(), count=2).to_arrow().to_pydict()
    {'n': [0, 1]}
    """
    names = _environment(environment, "@mf.job")
    return (lambda f: _job(f, names)) if function is None else _job(function, names)


def _environment(names: Any, where: str) -> tuple[str, ...]:
    listed = isinstance(names, list | tuple)
    if not listed or not all(isinstance(n, str) and n and "=" not in n for n in names):
        raise ConfigError(f"{where}: environment is {names!r}, expected a list of names of variables")
    return tuple(names)


def _job(function: Callable[..., Any], environment: tuple[str, ...]) -> Job:
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
    return Job(function.__name__, function, tuple(parameters), doc, writes=writes, environment=environment)


def _helps(doc: str) -> dict[str, str]:
    """Return lines of the `Args:` section by parameter."""
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
    """Load the job of a .py file (the one decorated function in it) or a .toml file.

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
    try:
        module = JobFolder(file.parent).load(file)
    except MmflowError:
        raise
    except Exception as error:  # whatever the user's code raises while it is imported
        raise function_error(f"{file}:", error) from error
    found = [v for v in vars(module).values() if isinstance(v, Job)]
    if len(found) != 1:
        names = ", ".join(j.name for j in found) or "none"
        raise ConfigError(f"{file} must hold one function decorated with @mf.job, found: {names}")
    return found[0]


def code_digest(job_: Job, path: str) -> str:
    """Return a digest of a loaded job's code: its TOML file, or its module and those of the user that this imports."""
    if Path(path).suffix == ".toml":
        return source_digest(path).hex()[:32]
    reached = Reached()
    reached.add_module(job_.build.__module__)
    return reached.users_digest()


_TOML_KEYS = {"name", "description", "params", "source", "sources", "sql", "output", "environment"}
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
    if not sources and "sql" not in spec:
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
        wanted = parameters_of(query)
        texts = {n: str(v) if isinstance(v, Path) else v for n, v in values.items() if n in wanted}
        return plan_query(session, query, {**texts, **tables})

    output = spec.get("output")
    environment = _environment(spec.get("environment", ()), str(file))
    return Job(
        spec.get("name", file.stem),
        build,
        parameters,
        spec.get("description", ""),
        output,
        environment=environment,
    )


def _toml_parameter(file: Path, name: str, spec: Mapping[str, Any]) -> Parameter:
    kind = spec.get("type", "string")
    if kind not in _TOML_TYPES:
        raise ConfigError(f"{file}: parameter {name!r} has type {kind!r}; types are {', '.join(_TOML_TYPES)}")
    default = spec.get("default", _MISSING)
    return _parameter(file.stem, name, _TOML_TYPES[kind], default, spec.get("help", ""))


def filled_output(job_: Job, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the output of a TOML job, its `${parameters}` filled in."""
    if job_.output is None:
        return None
    return dict(_filled(job_.output, values, Path(job_.name)))


def _filled(value: Any, values: Mapping[str, Any], file: Path) -> Any:
    """Return text with each `${name}` replaced by the parameter's value, at every depth."""
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
