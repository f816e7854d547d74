"""The scheduler of one run: a state machine that knows no engine and no clock.

    events in      on_result(result, now)  consumed(released)
    decisions out  tasks(free, now)  take_results()  take_deletes()  take_cancels()  take_hand_ins()  next_due()
    the end        finished | error

What it guarantees, whatever the order in which tasks end, fail and get lost:

- Outputs are released in order of task, each exactly once; of a scan, only after the chain check has
  reached its shards. Nothing of a wrongly guessed shard is ever released, neither rows nor errors.
- The first error in order is the error of the run (among scans: of the file's order).
- A task that fails for a reason that may pass is tried again, with growing pauses, a bounded number of times.
- Once there is nothing else to do, a task that takes much longer than its like hands in what it has, and the rest of
  its shard goes to idle workers; or it gets a second attempt, and what ends first counts (`stragglers`).
- Every block is handed out for deletion once: when its readers are done, or when the run ends.

`_line` needs the lines before each shard, which only reading what lies before tells: such a scan has a
*census* before it, a pass over the same shards that decodes no column, and whose checked groups, now with
starts and lines, feed the real scan as they come.

Invariant: memory is O(tasks in flight) plus the blocks that wait in exchanges.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from mmflow.engines.build import stage_runs
from mmflow.engines.exchange import input_blocks, locate
from mmflow.engines.notes import Notes
from mmflow.engines.progress import Progress
from mmflow.engines.recording import Recorder
from mmflow.engines.scans import Again, Checked, ScanSource
from mmflow.engines.stages import Slot, StageRun
from mmflow.engines.stragglers import Attempt, Patience, Stragglers
from mmflow.engines.totals import Totals
from mmflow.errors import BadRecordError, EngineError, MmflowError, TooManyBadRecordsError
from mmflow.exec.stage import Plan, Range, Result, SortKey, Write
from mmflow.exec.task import (
    BlockRef,
    Cancelled,
    Done,
    Failed,
    Task,
    TaskResult,
    WorkerLost,
)
from mmflow.exec.user_code import suspects
from mmflow.sinks import StagedFile

__all__ = ["Driver", "DriverOptions", "Released"]

Boundaries = Callable[[Sequence[pa.RecordBatch], Sequence[SortKey], int], pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class DriverOptions:
    """How far it goes.

    Attributes:
        ahead: Tasks of a scan (or of one side of a streaming union) that may be in flight or wait for their
            predecessors.
        unread: Result blocks that may wait to be read, those in the making included.
        unread_bytes: Bytes of result blocks that wait to be read, from which on no more are made.
        retries: Further attempts of a task after failures that may pass.
        pause: Seconds before the first of them; doubled each time, up to `longest_pause`.
        patience: With tasks that take longer than their like. Without `retries`, there is no end to it.
        max_bad_records: The run fails when more records are bad: a count, or (float) a share, of which only the end
            of all scans can tell.
    """

    ahead: int = 16
    unread: int = 8
    unread_bytes: int = 1 << 62
    retries: int = 3
    pause: float = 0.1
    longest_pause: float = 10.0
    patience: Patience = field(default_factory=Patience)
    max_bad_records: int | float | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """A task's rows of the result; None: it has none. Give it back with `Driver.consumed`."""

    number: int
    block: BlockRef | None


class Driver:
    """Runs a plan to its end, one decision at a time. Single-threaded.

    Args:
        plan: What to run.
        sources: Files and shard groups of each scan stage, by stage.
        boundaries: Cuts for range exchanges (`exec.ranges.boundaries`).
        options: Limits.
        run: Name of the run, for staging files.
        now: The time, in seconds of whatever clock `on_result` and `tasks` are given.
        record: Knows tasks that are finished, of runs that are recorded. It is asked here, and told by the loop.

    Attributes:
        notes: What the loop is to tell the record.
        totals: Counts so far.
        error: That of the run.
        files: Staged so far.
    """

    def __init__(
        self,
        plan: Plan,
        sources: Mapping[int, ScanSource],
        *,
        boundaries: Boundaries,
        options: DriverOptions,
        run: str,
        now: float,
        record: Recorder | None = None,
    ) -> None:
        self._boundaries = boundaries
        self._options = options
        self._run = run
        self._runs = stage_runs(plan, sources)
        self._last = self._runs[plan.stages[-1].id]
        self._order = list(reversed(self._runs.values()))
        self._running: dict[Attempt, float] = {}  # since when
        self._stragglers = Stragglers(self._runs, options.patience, recorded=record is not None)
        self._results: deque[Released] = deque()
        self._unread = 0
        self._unread_bytes = 0
        self._deletes: list[BlockRef] = []
        self._cancels: list[Attempt] = []
        self.notes = Notes(record, self._runs, plan.functions)
        self.totals = Totals(now, sum(f.identity.size for s in sources.values() for f in s.files))
        self.totals.pruned = sum(s.pruned for s in sources.values())
        self.error: MmflowError | None = None
        self.files: list[StagedFile] = []
        for stage in self._order:
            if stage.stage.limit == 0 and not stage.complete:
                self._end(stage)

    # ---- decisions --------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """All rows were released and taken, or all files written."""
        return self.error is None and self._last.complete and not self._results

    @property
    def running(self) -> int:
        """Attempts that were submitted and have not come back."""
        return len(self._running)

    @property
    def stuck(self) -> bool:
        """Nothing runs, waits or is to be read, and yet it isn't the end. Must never be after `tasks`."""
        waits = self._running or self._unread or self.next_due() is not None
        return not waits and not self.finished and self.error is None

    def tasks(self, free: int, now: float, idle: int = 0) -> list[Task]:
        """Up to `free` tasks to submit now. Later stages first: they let go of blocks.

        Args:
            free: How many may be in flight beside those that are.
            now: The time.
            idle: Workers that have nothing to do: for tasks that are slow.
        """
        made: list[Task] = []
        ended = True
        while ended:  # what ends a stage, or is known, may let an earlier one in the list begin
            ended = False
            for run in self._order:
                if run.complete or self.error is not None:
                    continue
                while len(made) < free and (slot := self._next(run, now)) is not None:
                    if self._restored(run, slot, now):
                        ended = True
                    else:
                        made.append(self._submit(run, slot, now))
                self._settle(run)
                ended = ended or run.complete
        self._stragglers.idle = max(0, idle - len(made))
        if not made and self._options.retries:
            for run, slot in self._stragglers.look(self._running, now):
                slot.attempt += 1
                self.totals.second += 1
                self.notes.event("second_attempt", slot.id, attempt=slot.attempt)
                made.append(self._submit(run, slot, now))
            self._stragglers.idle -= len(made)
        return made

    def _next(self, run: StageRun, now: float) -> Slot | None:
        slot = run.next_ready(now)
        return slot if slot is not None or self._held_back(run) else self._make(run)

    def next_due(self) -> float | None:
        """When a task that pauses after a failure may be submitted; None: nothing pauses."""
        due = [d for r in self._order if not r.complete and (d := r.next_due()) is not None]
        return min(due, default=None)

    def take_results(self) -> list[Released]:
        """Blocks of the result that were released since the last call, in order."""
        taken = list(self._results)
        self._results.clear()
        return taken

    def consumed(self, released: Released) -> None:
        """A result was read: its block is deleted, and another one may be made."""
        self._unread -= 1
        if released.block is not None:
            self._unread_bytes -= released.block.nbytes
            self._deletes.append(released.block)

    def take_deletes(self) -> list[BlockRef]:
        """Blocks to delete. Kept ones (`exec.kept`) go when their stage is read."""
        taken, self._deletes = self._deletes, []
        return [ref for ref in taken if not self.notes.keeps(ref)]

    def take_cancels(self) -> list[Attempt]:
        """Attempts to cancel; their results still come, and are ignored."""
        taken, self._cancels = list(dict.fromkeys(self._cancels)), []
        return taken

    def take_hand_ins(self) -> list[Attempt]:
        """Attempts to be asked to end at their next batch, and give what they have (`Engine.hand_in`)."""
        return self._stragglers.take_hand_ins()

    def abort(self) -> None:
        """End the run now: cancel what runs, and let go of every block. Idempotent."""
        self._cancels.extend(self._running)
        for run in self._order:
            run.complete = True
            self._drop(run)
            self._deletes += run.outputs.drain()
        self._deletes += [r.block for r in self._results if r.block is not None]
        self._results.clear()

    # ---- making tasks -----------------------------------------------------------------------------

    def _held_back(self, run: StageRun) -> bool:
        """Would another task of this stage run too far ahead of its readers?"""
        if run.stopped_by is not None:
            return True
        if run is self._last and isinstance(run.stage.output, Result):
            many = self._unread + len(run.slots) >= self._options.unread
            return many or (self._unread > 0 and self._unread_bytes >= self._options.unread_bytes)
        waiting = len(run.slots) if run.scanning is not None else 0
        if run.scanning is not None and run.scanning.census is not None:
            waiting += len(run.scanning.census.ready)
        if run.streams:
            waiting = len(run.slots) + run.outputs.waiting
        return waiting >= self._options.ahead

    def _make(self, run: StageRun) -> Slot | None:
        slot = run.make(self._runs)
        if slot is None:
            return None
        slot.attempt = self.notes.first_attempt
        if isinstance(run.stage.output, Range) and run.boundaries is None:
            run.boundaries = self._cut(run, run.stage.output)
        if run.scanning is not None and slot.group is not None and run.head == slot.id:
            slot.group = run.scanning.checker.known(slot.group)
        return slot

    def _cut(self, run: StageRun, output: Range) -> pa.RecordBatch:
        producers = [self._runs[s] for e in run.exchanges for s in e.stages]
        samples = [s for p in producers for s in p.samples if s.num_rows]
        nbytes = sum(p.outputs.nbytes for p in producers)
        parts = max(1, min(output.partitions, -(-nbytes // output.target_bytes)))
        for producer in producers:
            producer.samples.clear()
        if samples:
            return self._boundaries(samples, output.keys, parts)
        fields = [run.stage.schema.field(k.column) for k in output.keys]
        return pa.RecordBatch.from_arrays(
            [pa.array([], f.type) for f in fields], names=[f"k{i}" for i in range(len(fields))]
        )

    def _restored(self, run: StageRun, slot: Slot, now: float) -> bool:
        """Take a task's outputs from the record, if it has them."""
        done = self.notes.known(run, slot)
        if done is None:
            return False
        slot.restored = True
        slot.state, slot.done = "done", replace(done, id=slot.id, attempt=slot.attempt)
        if run.scanning is None:
            self._inputs_done(run, slot.id.number)
        self._release(run, now)
        return True

    def _submit(self, run: StageRun, slot: Slot, now: float) -> Task:
        slot.state = "running"
        slot.live.add(slot.attempt)
        self._running[slot.id, slot.attempt] = now
        shards = None
        if run.scanning is not None and slot.group is not None:
            shards = slot.group.task(run.scanning.files)
        return Task(
            slot.id,
            run.stage,
            slot.attempt,
            shards,
            input_blocks(run.exchanges, slot.id.number, self._runs),
            run.boundaries,
            self._run,
            self.notes.place(run, slot),
        )

    # ---- results ------------------------------------------------------------------------------------

    def on_result(self, result: TaskResult, now: float) -> None:
        """Take in what an engine reports. Results of attempts that don't count any more are dropped."""
        run = self._runs[result.id.stage]
        slot = run.slots.get(result.id)
        since = self._running.pop((result.id, result.attempt), None)
        self._stragglers.ended((result.id, result.attempt))
        if since is None or slot is None or run.complete or result.attempt not in slot.live:
            if isinstance(result, Done):
                self._discard(result)
            return
        slot.live.discard(result.attempt)
        match result:
            case Done():
                slot.state, slot.done = "done", result
                if result.rest is None:
                    run.timed += 1
                    run.seconds += now - since
                else:
                    self.totals.second += 1
                    parts = self._stragglers.give_out(run, slot, result.rest, now)
                    self.notes.event("handed_in", slot.id, begin=result.rest, parts=parts)
                self._forget(slot)
                self.totals.retries += result.metrics.retries
                self.notes.done(result)
                if run.scanning is None:
                    self._inputs_done(run, slot.id.number)
            case Failed() if not result.error.retryable or "kept" in result.error.context:
                self._fail_task(run, slot, result.error)
            case Failed():
                self._try_again(run, slot, str(result.error), now)
            case WorkerLost():
                self._try_again(run, slot, result.reason, now)
            case Cancelled():
                self._try_again(run, slot, "it was cancelled from outside", now)
        self._release(run, now)

    def _fail_task(self, run: StageRun, slot: Slot, error: MmflowError) -> None:
        slot.state, slot.error = "failed", error
        self.notes.failed(slot, str(error), again=False)
        self._forget(slot)
        if run.scanning is None:
            self._fail(error)

    def _forget(self, slot: Slot) -> None:
        """Cancel the attempts of a task that don't count any more."""
        self._cancels += [(slot.id, attempt) for attempt in slot.live]
        slot.live.clear()

    def _try_again(self, run: StageRun, slot: Slot, reason: str, now: float) -> None:
        if slot.live:  # another attempt is under way
            self.totals.retries += 1
            self.notes.failed(slot, reason, again=True)
            return
        slot.failures += 1
        slot.attempt += 1
        if slot.failures > self._options.retries:
            what = f"task {slot.id.label} of stage {run.stage.id} ({run.stage.title})"
            error = EngineError(
                f"{what} failed {slot.failures} times, the last time: {reason}; if its worker was killed "
                f"for memory, lower shard_size or workers, or give more memory{suspects(run.stage)}",
                stage=run.stage.id,
                task=slot.id.number,
            )
            self._fail_task(run, slot, error)
            return
        self.totals.retries += 1
        self.notes.failed(slot, reason, again=True)
        pause = min(self._options.pause * 2 ** (slot.failures - 1), self._options.longest_pause)
        run.ready(slot, now + pause)

    def _rerun(self, run: StageRun, slot: Slot, again: Again, now: float) -> None:
        """Run a shard again from where its first record begins."""
        if slot.done is not None:
            self._discard(slot.done)
        slot.group, slot.done, slot.error, slot.failures = again.group, None, None, 0
        slot.attempt += 1
        slot.live.clear()
        self.totals.reruns += 1
        self.notes.event("rerun", slot.id, begin=again.group.starts[0])
        run.ready(slot, now)

    def _release(self, run: StageRun, now: float) -> None:
        """Hand on, in order, what is done and right."""
        while self.error is None and not run.complete and run.head in run.slots:
            slot = run.slots[run.head]
            if slot.state not in ("done", "failed"):
                break
            try:
                checked = self._check(run, slot)
            except BadRecordError as error:
                if not self._enough(run, slot):
                    self._stop(run, error)
                    return
                checked = None  # the rows before the bad record are all that is needed
            except MmflowError as error:
                self._stop(run, error)
                return
            if isinstance(checked, Again):
                self._rerun(run, slot, checked, now)
                break
            assert slot.done is not None  # a failed one raised or is run again
            run.release()
            self._hand_on(run, slot, slot.done, checked)
            if run.stage.limit is not None and run.rows >= run.stage.limit:
                self._end(run)
            elif checked is not None and checked.stopped:
                self._fail(EngineError(f"bug: stage {run.stage.id} stopped reading without a limit"))
        self._settle(run)

    def _enough(self, run: StageRun, slot: Slot) -> bool:
        """Do the rows that a task gave before it met a bad record reach the stage's limit?"""
        if run.stage.limit is None or slot.done is None:
            return False
        return run.rows + _rows(slot.done) >= run.stage.limit

    def _check(self, run: StageRun, slot: Slot) -> Checked | Again | None:
        if run.scanning is None or slot.group is None:
            return None
        checker = run.scanning.checker
        if slot.error is not None:
            again = checker.certain(slot.group)
            if again is None:
                raise slot.error
            return again
        assert slot.done is not None  # done or failed
        return checker.check(slot.group, slot.done.reports)

    def _hand_on(self, run: StageRun, slot: Slot, done: Done, checked: Checked | None) -> None:
        if slot.restored:
            self.totals.restored += 1
            self.notes.event("task_restored", slot.id, rows_out=_rows(done))
        else:
            self.notes.finished(run, slot, done)
        if run.scanning is not None and run.scanning.census is not None:
            assert checked is not None  # a scan
            run.scanning.census.ready.append(checked.known)
            self._discard(done)
            return
        run.rows += _rows(done)
        if run.scanning is not None and checked is not None:
            self.totals.count(run.scanning.files, done, checked)
            run.pruned += sum(r.pruned for r in done.reports)
            run.bad += sum(r.bad for r in done.reports)
            self._judge_bad(share=False)
        if done.sample is not None:
            run.samples.append(done.sample)
        self.files += done.files
        if run is self._last:
            if isinstance(run.stage.output, Write):
                return
            self._unread += 1
            block = done.outputs[0] if done.outputs else None
            self._unread_bytes += 0 if block is None else block.nbytes
            self._results.append(Released(run.released - 1, block))
        else:
            run.outputs.add(done.outputs)

    def _judge_bad(self, *, share: bool) -> None:
        most, bad, records = self._options.max_bad_records, self.totals.bad, self.totals.records
        allowed = most * records if isinstance(most, float) else most
        if allowed is not None and bad > allowed and share == isinstance(most, float):
            shown = f"{most:.3%}" if isinstance(most, float) else f"{most:,}"
            self._fail(
                TooManyBadRecordsError(
                    f"{bad:,} of the {records:,} records read so far are bad, more than max_bad_records = {shown} "
                    "allows; look at them (on_bad_record = quarantine sets them aside), mend the input, or allow more",
                    bad=bad,
                    records=records,
                )
            )

    def _inputs_done(self, run: StageRun, number: int) -> None:
        """A task that will not run again has read its inputs."""
        for exchange in run.exchanges:
            producers = [self._runs[s] for s in exchange.stages]
            if exchange.mode == "partition":
                for producer in producers:
                    self._deletes += producer.outputs.done(number)
            elif exchange.mode == "forward":
                found = locate(producers, number)
                assert found is not None  # the task was made from it
                self._deletes += found[0].outputs.done(found[1])

    # ---- ends -----------------------------------------------------------------------------------------

    def _settle(self, run: StageRun) -> None:
        """End the stage if all its tasks are released."""
        if run.complete or self.error is not None or run.slots:
            return
        if run.stopped_by is None and run.scanning is not None:
            self._take_over_stop(run)
        if run.stopped_by is not None:
            self._fail(run.stopped_by)
        elif run.total is not None and run.released == run.total:
            try:
                if run.scanning is not None:
                    run.scanning.checker.finish()
            except MmflowError as error:
                self._stop(run, error)
            else:
                self._end(run)

    def _take_over_stop(self, run: StageRun) -> None:
        """What stopped the census stops its scan, once that has used all that came before."""
        census = run.census
        if census is None or census.stopped_by is None or not census.complete:
            return
        assert run.scanning is not None  # it has a census
        if run.scanning.feed.exhausted:
            run.stopped_by = census.stopped_by

    def _stop(self, run: StageRun, error: MmflowError) -> None:
        """An error in order. Of a census it waits: a limit may be met before its scan gets there."""
        if run.scanning is not None and run.scanning.census is not None:
            if run.scanning.checker.met is not None:
                # Rows before the bad record may be all that its scan needs; else it meets the record itself.
                run.scanning.census.ready.append(run.scanning.checker.met)
            run.stopped_by = error
            self._end(run)
        else:
            self._fail(error)

    def _end(self, run: StageRun) -> None:
        """The stage gives no more: let go of what it holds, and of what only it reads."""
        run.complete = True
        self.notes.event(
            "stage_ended", stage=run.stage.id, tasks=run.released, rows=run.rows, bytes=run.outputs.nbytes,
            pruned=run.pruned, bad=run.bad,
        )  # fmt: skip
        if run.scanning is not None and run.scanning.census is None:
            self._judge_bad(share=True)
        self._cancels += [a for a in self._running if a[0].stage == run.stage.id]
        self._drop(run)
        if run.scanning is not None and run.scanning.census is not None:
            run.scanning.census.ended = True
        if run.census is not None and not run.census.complete:
            self._end(run.census)
        for exchange in run.exchanges:
            for producer in (self._runs[s] for s in exchange.stages):
                producer.readers -= 1
                if producer.readers == 0:
                    if not producer.complete:
                        self._end(producer)
                    self._deletes += producer.outputs.drain()
                    self.notes.read(producer)

    def _drop(self, run: StageRun) -> None:
        for slot in run.slots.values():
            if slot.done is not None:
                self._discard(slot.done)
        run.slots.clear()

    def _discard(self, done: Done) -> None:
        refs = (*done.outputs, done.rejects)
        self._deletes += [ref for ref in refs if ref is not None]

    def _fail(self, error: MmflowError) -> None:
        if self.error is None:
            self.error = error
            self.totals.bad += isinstance(error, BadRecordError)
            self.abort()

    # ---- progress ---------------------------------------------------------------------------------------

    def progress(self, now: float) -> Progress:
        """Where the run stands."""
        running = (task for task, _ in self._running)
        return self.totals.progress(list(self._runs.values()), running, self._last.rows, now)


def _rows(done: Done) -> int:
    """Rows that a task gave or wrote."""
    return sum(ref.rows for ref in done.outputs if ref is not None) + sum(f.rows for f in done.files)
