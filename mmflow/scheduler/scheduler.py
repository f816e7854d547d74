"""Scheduler of one run: a state machine that knows no engine and no clock.

    events in      on_result(result, now)  consumed(released)  on_movement(found, now)
    decisions out  tasks(free, now)  take_results()  take_deletes()  take_cancels()  take_stop_requests()  next_due()
    the end        finished | error

Guarantees, whatever the order in which tasks end, fail and get lost:

- Outputs are released in order of task, each exactly once; of a scan, only after the boundary check has
  reached its shards. Nothing of a wrongly guessed shard is ever released, neither rows nor errors.
- The first error in order is the error of the run (among scans: of the file's order).
- A task that fails for a reason that may pass is retried, with growing pauses, a bounded number of times.
- Once there is nothing else to do, a task that takes much longer than others of its stage is asked to stop early, and
  the remainder of its shard goes to idle workers; or it gets a speculative attempt, and the first to end counts
  (`speculation`). A task whose worker is about to leave stops early without a request.
- Every block is given for deletion once: when its readers are done, or when the run ends.

`_line` needs the number of lines before each shard, which is known only once all bytes before it were read. So such a
scan has a line-count pre-pass: a stage over the same shards that decodes no column. Its verified groups, with starts
and lines, feed the scan as they come.

Invariant: memory is O(tasks in flight) plus the blocks that wait in exchanges.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import field, replace
from typing import TypeVar

import pyarrow as pa

from mmflow.blocks.references import BlockRef
from mmflow.errors import (
    BadRecordError,
    EngineError,
    MmflowError,
    StalledError,
    TooManyBadRecordsError,
    UserFunctionError,
)
from mmflow.lazy.dataclasses import dataclass
from mmflow.plan.stages import Plan, Range, Result, SortKey, Stage, Write
from mmflow.plan.tasks import Cancelled, Done, Failed, Task, TaskResult, WorkerLost
from mmflow.scheduler.build import stage_states
from mmflow.scheduler.exchange import input_blocks, locate
from mmflow.scheduler.progress import Progress
from mmflow.scheduler.recorder import Recorder
from mmflow.scheduler.run_log import RunLog
from mmflow.scheduler.scans import Rerun, ScanSource, Verified, shard_task
from mmflow.scheduler.speculation import Patience, Stragglers
from mmflow.scheduler.stages import Attempt, AttemptState, StageState, TaskState
from mmflow.scheduler.stream_feed import StreamFeed
from mmflow.scheduler.totals import Totals
from mmflow.scheduler.watchdog import Limits, Watchdog, describe
from mmflow.sinks import StagedFile
from mmflow.worker.movement import Stall
from mmflow.worker.user_functions import describe_functions

__all__ = ["Released", "Scheduler", "SchedulerOptions"]

_T = TypeVar("_T")
Boundaries = Callable[[Sequence[pa.RecordBatch], Sequence[SortKey], int], pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class SchedulerOptions:
    """Limits of a scheduler.

    Attributes:
        ahead: Tasks of a scan (or of one side of a streaming union) that may be in flight or wait for their
            predecessors.
        unread: Result blocks that may wait to be read, those in the making included.
        unread_bytes: Bytes of result blocks that wait to be read, from which on no more are made.
        retries: Further attempts of a task after failures that may pass.
        pause: Seconds before the first of them; doubled each time, up to `longest_pause`.
        patience: Patience with tasks that take longer than others of their stage; unlimited without `retries`.
        stalls: Limits for tasks that do not move.
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
    stalls: Limits = field(default_factory=Limits)
    max_bad_records: int | float | None = None


@dataclass(frozen=True, slots=True)
class Released:
    """Task's rows of the result; None: it has none. Give it back with `Scheduler.consumed`."""

    number: int
    block: BlockRef | None


class Scheduler:
    """State machine that runs a plan to its end, one decision at a time. Single-threaded.

    Args:
        plan: Plan to run.
        sources: Files and shard groups of each scan stage, by stage.
        boundaries: Cuts for range exchanges (`worker.range_partition.boundaries`).
        options: Limits.
        run: Name of the run, for staging files.
        now: The time, in seconds of whatever clock `on_result` and `tasks` are given.
        record: Record of the run, which has finished tasks; None: the run is not recorded.

    Attributes:
        totals: Counts so far.
        error: Error of the run.
        files: Staged so far.
    """

    def __init__(
        self,
        plan: Plan,
        sources: Mapping[int, ScanSource],
        *,
        boundaries: Boundaries,
        options: SchedulerOptions,
        run: str,
        now: float,
        record: Recorder | None = None,
    ) -> None:
        self._boundaries = boundaries
        self._options = options
        self._run = run
        self._states = stage_states(plan, sources)
        self._last = self._states[plan.stages[-1].id]
        self._order = list(reversed(self._states.values()))
        self._running: dict[Attempt, AttemptState] = {}
        self._fraction = 0.0
        self._stragglers = Stragglers(self._states, options.patience, recorded=record is not None)
        self._watchdog = Watchdog(options.stalls, now)
        self._idle = 0  # workers
        self._results: list[Released] = []
        self._unread = 0
        self._unread_bytes = 0
        self._deletes: list[BlockRef] = []
        self._cancels: list[Attempt] = []
        self._stop_requests: list[Attempt] = []
        files = [f for s in sources.values() for f in s.files]
        files += [f for state in self._states.values() for f in state.files]
        self.totals = Totals(now, sum(f.identity.size for f in files))
        self.totals.pruned = sum(s.pruned for s in sources.values())
        self.totals.skipped = sum(s.skipped for s in sources.values())
        self._log = RunLog(record, self._states, plan.functions, self.totals)
        self.error: MmflowError | None = None
        self.files: list[StagedFile] = []
        for stage in self._order:
            if stage.stage.limit == 0 and not stage.complete:
                self._end(stage)

    # ---- decisions --------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """End of the run: all rows were released and taken, or all files written."""
        return self.error is None and self._last.complete and not self._results

    @property
    def running(self) -> int:
        """Number of attempts that were submitted and have not come back."""
        return len(self._running)

    @property
    def eager(self) -> bool:
        """True where each result may be of use at once: rows are waited for, or may be enough, or a stream goes on."""
        stages = {attempt.stage.stage.id: attempt.stage for attempt in self._running.values()}
        return bool(self.streams) or any(map(self._is_eager, stages.values()))

    def _is_eager(self, state: StageState) -> bool:
        stage = state.stage
        return stage.limit is not None or (state is self._last and isinstance(stage.output, Result))

    @property
    def stuck(self) -> bool:
        """Deadlock: the run has not ended, yet nothing runs, waits or is to be read. Never true after `tasks`."""
        waits = self._running or self._unread or self.next_due() is not None or self.streams
        return not waits and not self.finished and self.error is None

    @property
    def streams(self) -> list[StreamFeed]:
        """Streams whose next shards have yet to come."""
        scans = [state.scan for state in self._order if not state.complete]
        return [scan.stream for scan in scans if scan and scan.stream and scan.stream.waits]

    def tasks(self, free: int, now: float, idle: int = 0, silent: Collection[Attempt] = ()) -> list[Task]:
        """Return up to `free` tasks to submit now. Later stages come first: they free blocks.

        Args:
            free: Number of further tasks that may be in flight.
            now: The time.
            idle: Workers that have nothing to do: for tasks that are slow.
            silent: Attempts whose worker is not heard of, or that do not move, which are no less urgent.
        """
        made: list[Task] = []
        ended = True
        while ended:  # what ends a stage, or is known, may let an earlier one in the list begin
            ended = False
            for state in self._order:
                if state.complete or self.error is not None:
                    continue
                while len(made) < free and (task := self._next(state, now)) is not None:
                    if self._restored(state, task, now):
                        ended = True
                    else:
                        made.append(self._submit(state, task, now))
                self._settle(state)
                ended = ended or state.complete
        self._idle = max(0, idle - len(made))
        if not made and self._options.retries:
            slow, asked = self._stragglers.choose(self._running.values(), now, self._idle, silent)
            self._stop_requests += [attempt.id for attempt in asked]
            for attempt in slow:
                attempt.task.attempt += 1
                self._log.record_speculative(attempt.task)
                made.append(self._submit(attempt.stage, attempt.task, now))
            self._idle -= len(made)
        return made

    def watches(self, now: float) -> bool:
        """Return whether it is time to look at the attempts under way (`Engine.movement`)."""
        return self._watchdog.due(self._running.values(), now)

    def on_movement(self, found: Mapping[Attempt, Stall | None], now: float, slots: int) -> list[str]:
        """Take in which attempts move, and what the others do; return a warning for each that newly does not.

        `slots`: tasks that the engine runs at once.
        """
        try:
            newly = self._watchdog.take(found, self._running.values(), now, slots)
        except StalledError as error:
            self._fail(error)
            return []
        for attempt, stall in newly:
            self._log.record_stall(attempt, stall)
        return [describe(attempt, stall) for attempt, stall in newly]

    @property
    def stalled(self) -> Collection[Attempt]:
        """Attempts that do not move, as far as is known."""
        return self._watchdog.stalled & self._running.keys()

    def _next(self, state: StageState, now: float) -> TaskState | None:
        limit = state.concurrency
        if limit is not None and sum(t.stage == state.stage.id for t, _ in self._running) >= limit:
            return None
        task = state.next_ready(now)
        return task if task is not None or self._held_back(state) else self._make(state)

    def next_due(self) -> float | None:
        """Return when a task that pauses after a failure may be submitted; None: none pauses."""
        due = [d for r in self._order if not r.complete and (d := r.next_due()) is not None]
        return min(due, default=None)

    def take_results(self) -> list[Released]:
        """Return the blocks of the result that were released since the last call, in order."""
        return _take(self._results)

    def consumed(self, released: Released) -> None:
        """Release a result that was read: its block is deleted, and another one may be made."""
        self._unread -= 1
        if released.block is not None:
            self._unread_bytes -= released.block.nbytes
            self._deletes.append(released.block)

    def take_deletes(self) -> list[BlockRef]:
        """Return the blocks to delete."""
        return _take(self._deletes)

    def take_cancels(self) -> list[Attempt]:
        """Return the attempts to cancel; their results still come, and are ignored."""
        return list(dict.fromkeys(_take(self._cancels)))

    def take_stop_requests(self) -> list[Attempt]:
        """Return the attempts to ask to stop at their next batch (`Engine.request_stop`)."""
        return _take(self._stop_requests)

    def abort(self) -> None:
        """End the run now: cancel what runs, and free every block. Idempotent."""
        self._cancels.extend(self._running)
        for state in self._order:
            state.complete = True
            self._drop(state)
            self._deletes += state.outputs.drain()
        self._deletes += [r.block for r in _take(self._results) if r.block is not None]

    # ---- making tasks -----------------------------------------------------------------------------

    def _held_back(self, state: StageState) -> bool:
        """Return whether another task of this stage would run too far ahead of its readers."""
        if state.stopped_by is not None:
            return True
        if state is self._last and isinstance(state.stage.output, Result):
            many = self._unread + len(state.tasks) >= self._options.unread
            return many or (self._unread > 0 and self._unread_bytes >= self._options.unread_bytes)
        waiting = len(state.tasks) if state.scan is not None else 0
        if state.line_counts is not None:
            waiting += len(state.line_counts.ready)
        if state.streams:
            waiting = len(state.tasks) + state.outputs.waiting
        return waiting >= self._options.ahead

    def _make(self, state: StageState) -> TaskState | None:
        task = state.make(self._states)
        if task is None:
            return None
        task.attempt = self._log.first_attempt
        if isinstance(state.stage.output, Range) and state.boundaries is None:
            state.boundaries = self._cut(state, state.stage.output)
        if state.scan is not None and task.group is not None and state.head == task.id:
            task.group = state.scan.checker.known(task.group)
        return task

    def _cut(self, state: StageState, output: Range) -> pa.RecordBatch:
        producers = [self._states[s] for e in state.exchanges for s in e.stages]
        samples = [s for p in producers for s in p.samples if s.num_rows]
        nbytes = sum(p.outputs.nbytes for p in producers)
        parts = max(1, min(output.partitions, -(-nbytes // output.target_bytes)))
        for producer in producers:
            producer.samples.clear()
        if samples:
            return self._boundaries(samples, output.keys, parts)
        fields = [state.stage.schema.field(k.column) for k in output.keys]
        return pa.RecordBatch.from_arrays(
            [pa.array([], f.type) for f in fields], names=[f"k{i}" for i in range(len(fields))]
        )

    def _restored(self, state: StageState, task: TaskState, now: float) -> bool:
        """Restore a task's outputs from the record, if it has them."""
        done = self._log.find_finished(state, task)
        if done is None:
            return False
        task.restored = True
        task.state, task.done = "done", replace(done, id=task.id, attempt=task.attempt)
        if done.remainder:
            self._stragglers.split_again(state, task, done.remainder, now)
        if state.scan is None:
            self._inputs_done(state, task.id.number)
        self._release(state, now)
        return True

    def _submit(self, state: StageState, task: TaskState, now: float) -> Task:
        task.state = "running"
        attempt = AttemptState(state, task, task.attempt, now)
        task.live.append(attempt)
        self._running[attempt.id] = attempt
        shards = None
        if state.scan is not None and task.group is not None:
            shards = shard_task(task.group, state.scan.files)
        checkpoint = self._log.checkpoint_path(state, task)
        outlives = bool(checkpoint) or isinstance(state.stage.output, Write)
        return Task(
            task.id,
            state.stage,
            task.attempt,
            shards,
            input_blocks(state.exchanges, task.id.number, state.partitions(task.id.number), self._states),
            state.boundaries,
            self._run,
            checkpoint,
            outlives and self._stragglers.may_stop_early(state, task),
        )

    # ---- results ------------------------------------------------------------------------------------

    def on_result(self, result: TaskResult, now: float) -> None:
        """Process a result from an engine. Results of attempts that don't count any more are dropped."""
        attempt = self._running.pop((result.id, result.attempt), None)
        if attempt is None or attempt not in attempt.task.live:
            if isinstance(result, Done):
                self._discard(result)
            return
        state, task = attempt.stage, attempt.task
        task.live.remove(attempt)
        match result:
            case Done():
                self._finish(attempt, result, now)
            case Failed() if not result.error.retryable or "lost_file" in result.error.context:
                self._fail_task(state, task, result.error)
            case Failed():
                self._retry(state, task, result.error, now)
            case WorkerLost():
                self._retry(state, task, result.reason, now)
            case Cancelled():
                self._retry(state, task, "it was cancelled from outside", now)
        self._release(state, now)

    def _finish(self, attempt: AttemptState, done: Done, now: float) -> None:
        state, task = attempt.stage, attempt.task
        if done.resume_offset is not None and self._log.has_checkpoint(done):
            assert done.checkpoint is not None  # it has one
            self._discard(done)  # its worker may leave, and its blocks with it
            done = replace(done, outputs=done.checkpoint.outputs, rejects=done.checkpoint.rejects)
        task.state, task.done = "done", done
        if done.resume_offset is None:
            state.timed += 1
            state.seconds += now - attempt.since
        else:
            parts = self._stragglers.split_remainder(attempt, done.resume_offset, self._idle + 1, now)
            self._idle = max(0, self._idle - parts + 1)
            self._log.record_split(task, done.resume_offset, parts)
        self._forget(task)
        self._log.record_done(done)
        if state.scan is None:
            self._inputs_done(state, task.id.number)

    def _fail_task(self, state: StageState, task: TaskState, error: MmflowError) -> None:
        task.state, task.error = "failed", error
        self._log.record_failed(task, _reason(error), retried=False)
        self._forget(task)
        if state.scan is None:
            self._fail(error)

    def _forget(self, task: TaskState) -> None:
        """Cancel the attempts of a task that don't count any more."""
        self._cancels += [attempt.id for attempt in task.live]
        task.live.clear()

    def _retry(self, state: StageState, task: TaskState, cause: str | MmflowError, now: float) -> None:
        reason = str(cause)
        if task.live:  # another attempt is under way
            self._log.record_failed(task, reason, retried=True)
            return
        task.failures += 1
        task.attempt += 1
        if task.failures > self._options.retries:
            error = _worn_out(state.stage, task, cause)
            self._fail_task(state, task, error)
            return
        self._log.record_failed(task, reason, retried=True)
        pause = min(self._options.pause * 2 ** (task.failures - 1), self._options.longest_pause)
        state.ready(task, now + pause)

    def _rerun(self, state: StageState, task: TaskState, rerun: Rerun, now: float) -> None:
        """Run a shard again from where its first record begins."""
        if task.done is not None:
            self._discard(task.done)
        task.group, task.done, task.error, task.failures = rerun.group, None, None, 0
        task.attempt += 1
        self._log.record_rerun(task, rerun.group[0].known_start)
        state.ready(task, now)

    def _release(self, state: StageState, now: float) -> None:
        """Release, in order, the tasks that are done and verified."""
        while self.error is None and not state.complete and state.head in state.tasks:
            task = state.tasks[state.head]
            if task.state not in ("done", "failed"):
                break
            try:
                checked = self._check(state, task)
            except BadRecordError as error:
                if not self._enough(state, task):
                    self._stop(state, error)
                    return
                checked = None  # the rows before the bad record are all that is needed
            except MmflowError as error:
                self._stop(state, error)
                return
            if isinstance(checked, Rerun):
                self._rerun(state, task, checked, now)
                break
            assert task.done is not None  # a failed one raised or is run again
            self._log.record_released(state, task, task.done, checked)
            state.release(task.done, checked)
            self._pass_on(state, task.done)
            if state.stage.limit is not None and state.rows >= state.stage.limit:
                self._end(state)
            elif checked is not None and checked.stopped:
                self._fail(EngineError(f"bug: stage {state.stage.id} stopped reading without a limit"))
        self._settle(state)

    def _enough(self, state: StageState, task: TaskState) -> bool:
        """Return whether the rows of a task before its bad record reach the stage's limit."""
        if state.stage.limit is None or task.done is None:
            return False
        return state.rows + task.done.rows >= state.stage.limit

    def _check(self, state: StageState, task: TaskState) -> Verified | Rerun | None:
        if state.scan is None or task.group is None:
            return None
        checker = state.scan.checker
        if task.error is not None:
            rerun = checker.verify_start(task.group)
            if rerun is None:
                if isinstance(task.error, UserFunctionError):
                    raise task.error.located(records_before=checker.count_before(task.group))
                raise task.error
            return rerun
        assert task.done is not None  # done or failed
        return checker.verify(task.group, task.done.reports)

    def _pass_on(self, state: StageState, done: Done) -> None:
        """Hand the outputs of a released task to those who read them."""
        if state.line_counts is not None:
            self._discard(done)
            return
        if state.scan is not None:
            self._check_bad_records(share=False)
        self.files += done.files
        if isinstance(state.stage.output, Write):
            return
        if state is self._last:
            self._unread += 1
            block = done.outputs[0] if done.outputs else None
            self._unread_bytes += 0 if block is None else block.nbytes
            self._results.append(Released(state.released - 1, block))
        else:
            state.outputs.add(done.outputs)

    def _check_bad_records(self, *, share: bool) -> None:
        most, bad, records = self._options.max_bad_records, self.totals.bad, self.totals.records
        allowed = most * records if isinstance(most, float) else most
        if allowed is not None and bad > allowed and share == isinstance(most, float):
            shown = f"{most:.3%}" if isinstance(most, float) else f"{most:,}"
            self._fail(
                TooManyBadRecordsError(
                    f"{bad:,} of the {records:,} records read so far are bad, more than max_bad_records = {shown} "
                    "allows; look at them (on_bad_record = quarantine keeps them), mend the input, or allow more",
                    bad=bad,
                    records=records,
                )
            )

    def _inputs_done(self, state: StageState, number: int) -> None:
        """Release the inputs of a task that will not run again."""
        for exchange in state.exchanges:
            producers = [self._states[s] for s in exchange.stages]
            if exchange.mode == "partition":
                for partition in state.partitions(number):
                    for producer in producers:
                        self._deletes += producer.outputs.done(partition)
            elif exchange.mode == "forward":
                found = locate(producers, number)
                assert found is not None  # the task was made from it
                self._deletes += found[0].outputs.done(found[1])

    # ---- ends -----------------------------------------------------------------------------------------

    def _settle(self, state: StageState) -> None:
        """End the stage if all its tasks are released."""
        if state.complete or self.error is not None or state.tasks:
            return
        if state.stopped_by is None and state.scan is not None:
            self._take_over_stop(state)
        if state.stopped_by is not None:
            self._fail(state.stopped_by)
        elif state.total is not None and state.released == state.total:
            try:
                if state.scan is not None:
                    state.scan.checker.finish()
            except MmflowError as error:
                self._stop(state, error)
            else:
                self._end(state)

    def _take_over_stop(self, state: StageState) -> None:
        """Stop a scan by what stopped its pre-pass, once it has used all that came before."""
        pre_pass = state.pre_pass
        if pre_pass is None or pre_pass.stopped_by is None or not pre_pass.complete:
            return
        assert state.scan is not None  # it has a pre-pass
        if state.scan.feed.exhausted:
            state.stopped_by = pre_pass.stopped_by

    def _stop(self, state: StageState, error: MmflowError) -> None:
        """End the run by an error in order. One of a pre-pass waits: its scan may meet its limit before."""
        if state.scan is not None and state.line_counts is not None:
            if state.scan.checker.met is not None:
                # Rows before the bad record may be all that its scan needs; else it meets the record itself.
                state.line_counts.ready.append(state.scan.checker.met)
            state.stopped_by = error
            self._end(state)
        else:
            self._fail(error)

    def _end(self, state: StageState) -> None:
        """End a stage that gives no more: free what it holds, and what only it reads."""
        state.complete = True
        self._log.record_ended(state)
        if state.line_counts is not None:
            state.line_counts.ended = True
        elif state.scan is not None:
            self._check_bad_records(share=True)
        self._cancels += [a for a in self._running if a[0].stage == state.stage.id]
        self._drop(state)
        if state.scan is not None and state.scan.stream is not None:
            state.scan.stream.close()
        if state.pre_pass is not None and not state.pre_pass.complete:
            self._end(state.pre_pass)
        for exchange in state.exchanges:
            for producer in (self._states[s] for s in exchange.stages):
                producer.readers -= 1
                if producer.readers == 0:
                    if not producer.complete:
                        self._end(producer)
                    self._deletes += producer.outputs.drain()
                    self._log.record_consumed(producer)

    def _drop(self, state: StageState) -> None:
        for task in state.tasks.values():
            task.live.clear()
            if task.done is not None:
                self._discard(task.done)
        state.tasks.clear()

    def _discard(self, done: Done) -> None:
        self._deletes += done.blocks

    def _fail(self, error: MmflowError) -> None:
        if self.error is None:
            self.error = error
            self.totals.bad += isinstance(error, BadRecordError)
            self.abort()

    # ---- progress ---------------------------------------------------------------------------------------

    def progress(self, now: float) -> Progress:
        """Return the progress of the run."""
        progress = self.totals.progress(self._states, list(self._running.values()), self._last.rows, now)
        if self.error is not None:  # every stage has ended, and none is done
            return replace(progress, fraction=self._fraction)
        self._fraction = progress.fraction
        return progress


def _take(items: list[_T]) -> list[_T]:
    """Return what a list holds, and empty it."""
    taken = items.copy()
    items.clear()
    return taken


def _worn_out(stage: Stage, task: TaskState, cause: str | MmflowError) -> MmflowError:
    """Return the error of a task that failed as often as it may: of the last failure's class, unless an engine's."""
    what = f"task {task.id.label} of stage {stage.id} ({stage.title}) failed {task.failures} times"
    if isinstance(cause, MmflowError) and not isinstance(cause, EngineError):
        return type(cause)(f"{cause.message}; {what}", **cause.context)
    return EngineError(
        f"{what}, the last time: {cause}; if its worker was killed for memory, lower shard_size or workers, or give "
        f"more memory{describe_functions(stage)}",
        stage=stage.id,
        task=task.id.number,
        code="MMF-ENG-012",
    )


def _reason(error: MmflowError) -> str:
    """Return why a task failed, for the record. The row of a function's error is not yet that of the file."""
    if isinstance(error, UserFunctionError) and error.traceback:
        return f"{error.context['summary']}\n{error.traceback}"
    return str(error)
