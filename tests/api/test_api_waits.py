"""Every wait is in docs/waits.md: calls with a limit by their module, those without one by their function."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Methods and functions that may wait, and from how many positional arguments on one of these is a limit.
WAITING = {
    "accept": 99,
    "acquire": 2,
    "as_completed": 2,
    "communicate": 2,
    "flock": 99,
    "get": 1,  # of a queue; a mapping's has a key
    "join": 1,  # of a thread; a string's has strings
    "lockf": 99,
    "locking": 99,
    "poll": 1,
    "recv": 99,
    "recv_into": 99,
    "recvfrom": 99,
    "recvmsg": 99,
    "result": 1,
    "serve_forever": 99,
    "shutdown": 99,
    "urlopen": 3,
    "wait": 1,
    "waitid": 99,
    "waitpid": 99,
}
#: Functions of modules, by both names.
QUALIFIED = {
    ("ray", "get"): 99,
    ("ray", "wait"): 99,
    ("select", "select"): 4,
    ("subprocess", "call"): 99,
    ("subprocess", "check_call"): 99,
    ("subprocess", "check_output"): 99,
    ("subprocess", "run"): 99,
    ("socket", "create_connection"): 2,
    ("_client", "run"): 99,
    ("_client", "sync"): 99,
    ("client", "run"): 99,
    ("client", "sync"): 99,
}
#: Names that are other things than waits.
OTHERS = {
    ("_current", "get"), ("_group", "get"), ("_seen", "get"),  # of context variables
    ("ObjectLock", "acquire"),  # refuse at once, or wait in what they call
    ("_Run", "result"), ("_process", "poll"), ("ray", "shutdown"), ("select", "poll"),
}  # fmt: skip
LIMITS = {"timeout", "timeout_seconds", "callback_timeout", "seconds"}
#: Flags of system calls, and arguments, by which a call does not wait.
AT_ONCE = {"LOCK_NB", "LOCK_UN", "LK_NBLCK", "WNOHANG", "MSG_DONTWAIT", "SHUT_RDWR", "_FLAGS"}


def calls(source: str) -> Iterator[tuple[str, ast.Call]]:
    """Calls of a module, each with the qualified name of the function that it is in."""

    def walk(node: ast.AST, inside: str) -> Iterator[tuple[str, ast.Call]]:
        for child in ast.iter_child_nodes(node):
            within = inside
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                within = f"{inside}.{child.name}" if inside else child.name
            if isinstance(child, ast.Call):
                yield inside, child
            yield from walk(child, within)

    return walk(ast.parse(source), "")


def limited(call: ast.Call) -> bool | None:
    """Return whether a wait has a limit; None if the call is no wait."""
    match call.func:
        case ast.Attribute(
            attr=name,
            value=ast.Name(id=owner) | ast.Attribute(attr=owner) | ast.Call(func=ast.Name(id=owner)),
        ):
            pass
        case ast.Attribute(attr=name):
            owner = ""
        case ast.Name(id="as_completed" | "urlopen" | "wait" as name):
            owner = ""
        case _:
            return None
    least = QUALIFIED.get((owner, name), WAITING.get(name))
    if least is None or (owner, name) in OTHERS:
        return None
    options = {keyword.arg: keyword.value for keyword in call.keywords}
    if "asynchronous" in options:  # awaited, within `asyncio.wait_for`
        return None
    if (
        (owner, name) not in QUALIFIED
        and name in ("get", "join")
        and call.args
        and not LIMITS & options.keys()
    ):
        return None  # of a mapping, and of a string
    names = {
        n.attr if isinstance(n, ast.Attribute) else n.id
        for n in ast.walk(call)
        if isinstance(n, ast.Attribute | ast.Name)
    }
    if name in ("acquire", "shutdown") and not _waits(
        options.get("blocking" if name == "acquire" else "wait")
    ):
        return True
    unlimited = any(isinstance(value, ast.Constant) and value.value is None for value in options.values())
    return not unlimited and (
        len(call.args) >= least or bool(LIMITS & options.keys()) or bool(AT_ONCE & names)
    )


def _waits(option: ast.expr | None) -> bool:
    return not (isinstance(option, ast.Constant) and option.value is False)


@cache
def found() -> tuple[set[str], set[str]]:
    """Modules that wait with a limit, and functions that do without."""
    modules, functions = set(), set()
    for path in sorted((ROOT / "mmflow").rglob("*.py")):
        name = str(path.relative_to(ROOT / "mmflow"))
        for inside, call in calls(path.read_text()):
            match limited(call):
                case True:
                    modules.add(name)
                case False:
                    functions.add(f"{name} {inside}")
                case None:
                    pass
    return modules, functions


def listed() -> tuple[set[str], set[str]]:
    """Return the modules that docs/waits.md names, and the functions without a limit."""
    with_limit, without = (ROOT / "docs" / "waits.md").read_text().split("## Without a limit")
    modules = set(re.findall(r"`([a-z0-9_/]+\.py)`", with_limit))
    return modules, {f"{m} {f}" for m, f in re.findall(r"`([a-z0-9_/]+\.py) ([A-Za-z0-9_.]+)`", without)}


def test_no_wait_is_without_a_limit_but_for_those_that_say_why() -> None:
    assert found()[1] == listed()[1]


def test_modules_that_wait_say_how_long() -> None:
    assert found()[0] - listed()[0] == set()


@pytest.mark.parametrize(
    ("call", "has_one"),
    [
        ("thread.join()", False), ("thread.join(timeout=1.0)", True), ("event.wait()", False), ("event.wait(timeout=2)", True),
        ("event.wait(timeout=None)", False), ("events.get()", False), ("events.get(timeout=1)", True),
        ("future.result()", False), ("fcntl.flock(fd, fcntl.LOCK_EX)", False),
        ("fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)", True), ("select.select([a], [], [])", False),
        ("select.select([a], [], [], 1)", True), ("ray.get(reply)", False), ("ray.get(reply, timeout=1)", True),
        ("subprocess.run(command)", False), ("subprocess.run(command, timeout=9)", True), ("end.recv(10)", False),
        ("lock.acquire()", False), ("lock.acquire(blocking=False)", True), ("pool.shutdown()", False),
        ("self._client.run(function)", False), ("process.wait()", False), ("', '.join(parts)", None),
    ],
)  # fmt: skip
def test_limits_are_seen(call: str, has_one: bool | None) -> None:
    ((_, node),) = calls(call)
    assert limited(node) is has_one
