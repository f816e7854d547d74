"""Lazy dataclasses against those of Python: the same class, made by both."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import threading
from collections.abc import Callable
from dataclasses import field
from typing import Any, ClassVar

import pytest

from mmflow.lazy.dataclasses import dataclass as lazy


def made(decorator: Callable[..., Any]) -> dict[str, Any]:
    """Return classes of all the forms that mmflow has."""

    @decorator(frozen=True, slots=True)
    class Point:
        """Point."""

        names: ClassVar[tuple[str, ...]] = ("x", "y")
        x: int
        y: float = 0.5
        tags: list[str] = field(default_factory=list)

    @decorator(frozen=True, slots=True, order=True)
    class Key:
        stage: int
        number: int = field(default=3, compare=False)

    @decorator(slots=True)
    class State:
        count: int = 0
        seen: set[int] = field(default_factory=set, repr=False)
        doubled: int = field(init=False)

        def __post_init__(self) -> None:
            self.doubled = 2 * self.count

    @decorator(frozen=True, slots=True)
    class Derived(Point):
        z: int = 7

        @property
        def total(self) -> float:
            return self.x + self.y + self.z

    @decorator(frozen=True, slots=True, eq=False)
    class Identity:
        x: int

    @decorator(frozen=True, slots=True)
    class OwnEqual:
        x: int

        def __eq__(self, other: object) -> bool:
            return isinstance(other, OwnEqual) and self.x % 10 == other.x % 10

        def __hash__(self) -> int:
            return self.x % 10

        def __repr__(self) -> str:
            return f"<{self.x}>"

    @decorator(frozen=True, slots=True)
    class Empty:
        pass

    return {c.__name__: c for c in (Point, Key, State, Derived, Identity, OwnEqual, Empty)}


CALLS: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    "Point": [((1,), {}), ((1, 2.0, ["a"]), {}), ((), {"y": 2, "x": 1})],
    "Key": [((1,), {}), ((1, 9), {}), ((2, 3), {})],
    "State": [((), {}), ((4,), {"seen": {1}})],
    "Derived": [((1,), {}), ((1, 2.0, [], 4), {})],
    "Identity": [((1,), {})],
    "OwnEqual": [((1,), {}), ((11,), {})],
    "Empty": [((), {})],
}


@pytest.mark.parametrize("name", CALLS)
def test_instances_behave_as_those_of_python(name: str) -> None:
    ours, theirs = made(lazy)[name], made(dataclasses.dataclass)[name]
    mine = [ours(*args, **kwargs) for args, kwargs in CALLS[name]]
    other = [theirs(*args, **kwargs) for args, kwargs in CALLS[name]]
    shown = [repr(o).replace("made.<locals>.", "") for o in mine]
    assert shown == [repr(o).replace("made.<locals>.", "") for o in other] or name == "Identity"
    assert [[a == b for a in mine] for b in mine] == [[a == b for a in other] for b in other]
    assert [dataclasses.asdict(o) for o in mine] == [dataclasses.asdict(o) for o in other]
    assert [copy.copy(o) == o for o in mine] == [copy.copy(o) == o for o in other]
    assert not hasattr(mine[0], "__dict__")
    assert ours.__match_args__ == theirs.__match_args__
    assert ours.__slots__ == theirs.__slots__
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)
    assert (ours.__hash__ is None) == (theirs.__hash__ is None)


@pytest.mark.parametrize("name", CALLS)
def test_wrong_calls_are_refused(name: str) -> None:
    ours = made(lazy)[name]
    with pytest.raises(TypeError, match=r"__init__\(\) got an unexpected keyword argument 'nothing'"):
        ours(nothing=1)


def test_frozen_instances_can_not_be_changed_but_replaced() -> None:
    point = made(lazy)["Point"](1)
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'x'"):
        point.x = 2
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot delete field 'x'"):
        del point.x
    assert dataclasses.replace(point, y=2.5).y == 2.5
    assert len({point.__class__(1, 2.0, ()), point.__class__(1, 2.0, ())}) == 1


def test_order_is_that_of_the_compared_fields() -> None:
    key = made(lazy)["Key"]
    assert key(1, 9) < key(2, 0)
    assert key(1, 9) <= key(1, 0)
    assert sorted([key(2), key(1)]) == [key(1), key(2)]
    with pytest.raises(TypeError):
        assert key(1) < 3


def test_defaults_are_made_for_each_instance() -> None:
    point = made(lazy)["Point"]
    assert point(1).tags is not point(1).tags
    assert point.names == ("x", "y")


def test_fields_are_known_before_there_is_an_instance() -> None:
    classes = made(lazy)
    assert dataclasses.is_dataclass(classes["Derived"])
    assert [f.name for f in dataclasses.fields(classes["Derived"])] == ["x", "y", "tags", "z"]


@lazy(frozen=True, slots=True)
class Sent:
    """A class of a module, which can be pickled."""

    x: int
    y: tuple[int, ...] = ()


@lazy(slots=True)
class Mutable:
    """The same, not frozen."""

    x: int


def test_instances_are_pickled() -> None:
    for sent in (Sent(1, (2, 3)), Mutable(4)):
        assert pickle.loads(pickle.dumps(sent)) == sent


def test_threads_may_use_a_class_first_at_the_same_time() -> None:
    for _ in range(50):
        point = made(lazy)["Point"]
        barrier = threading.Barrier(4)
        found: list[Any] = []

        def use(point: Any = point, barrier: threading.Barrier = barrier, found: list[Any] = found) -> None:
            barrier.wait()
            found.append(point(1, 2.0, ()))

        threads = [threading.Thread(target=use) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [point(1, 2.0, ())] * 4
