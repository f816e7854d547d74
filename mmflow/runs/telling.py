"""From events (docs/runs.md) to a story, in one pass. Kinds and keys that are not known are passed over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mmflow.runs.story import Failure, Mark, Opening, Sample, Stage, Story, Task, label
from mmflow.runs.wording import duration

__all__ = ["tell"]

# With each driver of a run, attempts begin at another multiple of this (mmflow/runs/recorder.py).
_ATTEMPTS = 1000


def tell(events: Iterable[Mapping[str, Any]]) -> Story:
    """Read events, in order over all openings."""
    teller = _Teller()
    for e in events:
        teller.take(e)
    teller.sum_up()
    return teller.story


#: A task: stage, number, part.
_Key = tuple[int, int, tuple[int, ...]]


class _Teller:
    def __init__(self) -> None:
        self.story = Story()
        # The last that is known of each task: an attempt, or how many rows the journal had.
        self._latest: dict[_Key, Task | int] = {}
        self._stages: dict[tuple[int, int], Stage] = {}
        self._restored: set[_Key] = set()
        self._plan = -1
        self._part = 0
        # Another plan goes on from nothing; the same one, of a new driver, from its journal.
        self._anew = True

    def take(self, e: Mapping[str, Any]) -> None:
        kind, t = e.get("event"), float(e.get("t") or 0.0)
        if kind == "run_started" or not self.story.openings:
            self._opened(e, t)
        here = self.story.openings[-1]
        here.end = max(here.end, t)
        at = here.at(t)
        match kind:
            case "task_done":
                self._done(e, here)
            case "task_restored":
                key = self._key(e)
                self._restored.add(key)
                self._latest.setdefault(key, _int(e, "rows_out"))
            case "plan":
                self._planned(e, at)
            case "progress":
                self._progressed(e, at)
            case "stage_ended":
                self._ended(e)
            case "task_failed":
                self._failed(e, at)
            case "second_attempt":
                self.story.second += 1
                self._mark(at, "second", f"{self._what(e)}: another attempt, since it was slow")
            case "handed_in":
                self.story.second += 1
                self._mark(
                    at,
                    "second",
                    f"{self._what(e)}: the rest of its shard was given to others, since it was slow",
                )
            case "rerun":
                self.story.reruns += 1
                self._mark(
                    at, "rerun", f"{self._what(e)}: read again, since its first record was guessed wrong"
                )
            case "restarted":
                self.story.restarts += 1
                self._anew = False
                self._mark(at, "restarted", f"went on from the journal: {e.get('reason') or ''}")
            case "warning":
                self.story.warnings.append(str(e.get("message") or ""))
            case "committed":
                self.story.committed = e
            case "run_ended":
                self.story.ended = e

    def _opened(self, e: Mapping[str, Any], t: float) -> None:
        story = self.story
        again = bool(story.openings)
        offset = story.seconds
        if again:
            gap = max(t - story.openings[-1].end, 0.0)
            self._mark(offset, "resumed", f"resumed {duration(gap)} later")
        story.openings.append(Opening(t, t, offset))
        story.started, story.ended, story.progress, story.before = e, None, {}, []
        story.slots = _int(e, "slots") or story.slots
        self._restored.clear()
        self._plan, self._anew = -1, not again

    def _planned(self, e: Mapping[str, Any], at: float) -> None:
        story = self.story
        if self._anew or self._plan < 0:
            if self._plan >= 0:
                story.before.append(story.progress)
                story.progress = {}
            self._plan += 1
        # What an earlier driver of this plan cut, this one reads whole.
        self._latest = {
            k: v for k, v in self._latest.items() if not k[2] or story.stages[k[0]].plan != self._plan
        }
        self._part += 1
        if self._anew:
            story.samples.append(Sample(at, self._part, 0, 0))
        self._anew = len(story.openings) == 1
        story.slots = _int(e, "slots") or story.slots
        for s in e.get("stages") or ():
            stage = self._stage(_int(s, "id"))
            stage.title, stage.scan = str(s.get("title") or ""), bool(s.get("scan"))
            stage.reads = tuple(self._stage(int(r)).id for r in s.get("reads") or ())
            stage.notes = tuple(map(str, s.get("notes") or ()))
            stage.planned, stage.ended = True, False

    def _done(self, e: Mapping[str, Any], here: Opening) -> None:
        key = self._key(e)
        seconds = float(e.get("seconds") or 0.0)
        started = float(e.get("started") or float(e.get("t") or 0.0) - seconds)
        task = Task(
            *key[:2], _int(e, "attempt") % _ATTEMPTS, str(e.get("worker") or "?"), here.at(started), seconds,
            _int(e, "rows_in"), _int(e, "rows_out"), _int(e, "bytes_read"), _int(e, "bytes_out"), _int(e, "cached"),
            _int(e, "anonymous"), key[2], _int(e, "fetched"),
        )  # fmt: skip
        self.story.tasks.append(task)
        self._latest[key] = task

    def _progressed(self, e: Mapping[str, Any], at: float) -> None:
        self.story.progress = e
        self.story.samples.append(Sample(at, self._part, _int(e, "bytes_done"), _int(e, "rows")))
        for s in e.get("stages") or ():
            stage = self._stage(_int(s, "id"))
            if not stage.ended:
                stage.total = s.get("total")

    def _ended(self, e: Mapping[str, Any]) -> None:
        stage = self._stage(_int(e, "stage"))
        stage.ended = True
        stage.tasks = stage.total = _int(e, "tasks")
        stage.rows_out, stage.bytes_out = _int(e, "rows"), _int(e, "bytes")
        stage.pruned, stage.bad = _int(e, "pruned"), _int(e, "bad")

    def _failed(self, e: Mapping[str, Any], at: float) -> None:
        stage = self._stage(_int(e, "stage"))
        attempt = _int(e, "attempt") % _ATTEMPTS
        reason, again = str(e.get("reason") or ""), bool(e.get("again"))
        self.story.failures.append(Failure(at, stage.id, _int(e, "number"), attempt, reason, again))
        self.story.retries += again
        stage.failed += 1
        self._mark(at, "failed", f"{self._what(e)}: attempt {attempt} failed")

    def _mark(self, at: float, kind: str, text: str) -> None:
        self.story.marks.append(Mark(at, kind, text))

    def _what(self, e: Mapping[str, Any]) -> str:
        return f"stage {_int(e, 'stage')}, task {label(_int(e, 'number'), tuple(e.get('part') or ()))}"

    def _key(self, e: Mapping[str, Any]) -> _Key:
        return self._stage(_int(e, "stage")).id, _int(e, "number"), tuple(map(int, e.get("part") or ()))

    def _stage(self, number: int) -> Stage:
        """A stage of the plan that runs now."""
        key = max(self._plan, 0), number
        if key not in self._stages:
            stage = Stage(len(self._stages), plan=key[0], label=str(number))
            self._stages[key] = self.story.stages[stage.id] = stage
        return self._stages[key]

    def sum_up(self) -> None:
        """Put tasks into their stages. What `stage_ended` said of its outputs stands."""
        stages = self.story.stages
        self.story.restored = len(self._restored)
        for task in self.story.tasks:
            stages[task.stage].busy += task.seconds
            stages[task.stage].read += task.bytes_read
        for (number, _, _), last in self._latest.items():
            stage = stages[number]
            if isinstance(last, int):  # of no attempt that these events tell of
                rows_out, bytes_out = last, 0
            else:
                rows_out, bytes_out = last.rows_out, last.bytes_out
                stage.rows_in += last.rows_in
                stage.bytes_in += last.bytes_read
            if not stage.ended:
                stage.tasks += 1
                stage.rows_out += rows_out
                stage.bytes_out += bytes_out
        several = any(s.plan for s in stages.values())
        for stage in stages.values():
            if not stage.planned and not stage.title:
                stage.title = "find where lines begin"  # a census (engines/build.py), which no plan has
            if several:
                stage.label = f"{stage.plan + 1}.{stage.label}"
            if stage.tasks and not stage.bytes_in and not stage.files:
                # Restored ones don't tell; what stages hand to each other is what the earlier ones gave.
                stage.bytes_in = sum(stages[s].bytes_out for s in stage.reads)


def _int(e: Mapping[str, Any], key: str) -> int:
    """A count; 0 where it is missing or null."""
    return int(e.get(key) or 0)
