"""The protocol with one rule broken, each in the product's own code or in what stands for the store and the log."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from headrace.errors import OutsideError
from headrace.flow import answer
from headrace.flow import run as run_module
from headrace.flow.answer import Reader, View
from headrace.flow.control import change_pointer, generation_of, pointer_of
from headrace.flow.run import Batch
from headrace.flow.worker import Lane, Steps
from headrace.seam import epoch as epochs
from headrace.seam import pointer as pointers
from headrace.seam.epoch import Epoch
from headrace.seam.pointer import Pointer
from headrace.seam.ranges import start_of
from headrace.testing import actors
from headrace.testing.replicas import SPEED, ReplicatedStore
from headrace.testing.streaming import LateWriter, Log, SimulatedBatch, SimulatedWorker

Broken = AbstractContextManager[Any]


# Cuts


def cut_in_mid_range() -> Broken:
    return patch.object(run_module, "aligned_cut", lambda landed, origin, size, before: max(before, landed))


def cut_below_the_one_before() -> Broken:
    def cut(landed: int, origin: int, size: int, before: int) -> int:
        return max(0, start_of(max(landed, origin), origin, size) - 2 * size)

    return patch.object(run_module, "aligned_cut", cut)


def exact_cut_beside_workers() -> Broken:
    """Every run takes over, though nobody said that the workers are dead."""
    true = Batch.generate

    def generate(batch: Batch, run: Any, *, full: bool, refit: bool, take_over: bool = False) -> None:
        true(batch, run, full=full, refit=refit, take_over=True)

    return patch.object(Batch, "generate", generate)


def new_epoch_behind_the_stream() -> Broken:
    return patch.object(Batch, "catch_up", lambda batch, pointer, current, generation, *, take_over: None)


@contextmanager
def new_epoch_while_workers_go_on() -> Iterator[None]:
    """A run catches up, and moves the pointer while workers count further."""
    with (
        patch.object(pointers, "hold", lambda pointer, generation: pointer),
        patch.object(Batch, "await_workers", lambda batch: None),
    ):
        yield


def held_worker_goes_on() -> Broken:
    true = Steps.follow
    return patch.object(Steps, "follow", lambda steps, waited=0: true(steps, waited) or steps.epoch is not None)


def epoch_counted_ahead_is_not_told() -> Broken:
    """Readers do not know that the epoch that has opened has speed rows already."""
    return patch.object(pointers, "count_ahead", lambda pointer, generation: pointer)


def worker_registers_while_an_epoch_is_opened() -> Broken:
    true = pointers.register
    return patch.object(
        pointers, "register", lambda p, name, epoch: replace(true(replace(p, opens=False), name, epoch), opens=p.opens)
    )


def worker_counts_unregistered() -> Broken:
    return patch.object(
        pointers, "register", lambda p, name, epoch: replace(p, streamed=tuple(sorted({*p.streamed, epoch})))
    )


@contextmanager
def new_epoch_below_what_was_attempted() -> Iterator[None]:
    """A worker that fails says nothing of rows that were not acknowledged, and may have been read."""

    def leave(steps: Steps) -> None:
        steps.writer.close()
        change_pointer(steps.store, lambda p: pointers.deregister(p, steps.name))

    with (
        _failing_often(),
        patch.object(Steps, "leave", leave),
    ):
        yield


# Workers


def range_starts_where_a_worker_starts() -> Broken:
    true = Steps.take

    def take(steps: Steps, name: str) -> Lane:
        lane = true(steps, name)
        return Lane(name, lane.acknowledged, lane.acknowledged, lane.acknowledged)

    return patch.object(Steps, "take", take)


def _reordered(*, progress_first: bool = False, checkpoint_first: bool = False, goes_on: bool = False) -> Broken:
    """``Steps.advance`` in another order."""

    def advance(steps: Steps, lane: Lane) -> int:
        assert steps.epoch is not None
        number = steps.epoch.number
        end = min(steps.ready(lane), lane.start + steps.epoch.size)
        if end <= lane.position:
            return 0
        steps.count(lane, end)
        whole = end == lane.start + steps.epoch.size
        if progress_first:
            steps.store.raise_control(epochs.progress_name(number, lane.name), end)
        if checkpoint_first and whole:
            steps.store.raise_control(epochs.checkpoint_name(number, lane.name), end)
        for table, rows in steps.touched(lane):
            try:
                steps.store.put_speed(table, number, lane.name, lane.start, end, rows)
            except OutsideError:
                if not goes_on:
                    raise
        steps.store.raise_control(epochs.progress_name(number, lane.name), end)
        count, lane.position = end - lane.position, end
        if whole:
            steps.store.raise_control(epochs.checkpoint_name(number, lane.name), end)
            lane.start = end
            steps.open_range(lane.name)
        return count

    return patch.object(Steps, "advance", advance)


def progress_before_acknowledgements() -> Broken:
    return _reordered(progress_first=True)


def checkpoint_before_acknowledgements() -> Broken:
    return _reordered(checkpoint_first=True)


@contextmanager
def _failing_often() -> Iterator[None]:
    """A store that is away more often, for what goes wrong only then."""
    true = ReplicatedStore.send

    def send(store: ReplicatedStore, place: Any, key: Any, cell: Any) -> bool:
        store.failing = max(store.failing, 0.02) if actors.acting() is not None else 0
        return true(store, place, key, cell)

    with patch.object(ReplicatedStore, "send", send):
        yield


@contextmanager
def failed_write_is_skipped() -> Iterator[None]:
    with _failing_often(), _reordered(goes_on=True):
        yield


@contextmanager
def failed_write_stays_in_the_parts() -> Iterator[None]:
    """A worker that goes on after a failure with what it had added already."""
    true = Steps.advance

    def advance(steps: Steps, lane: Lane) -> int:
        try:
            return true(steps, lane)
        except OutsideError:
            return 0

    with _failing_often(), patch.object(Steps, "advance", advance), patch.object(LateWriter, "goes_on", True):
        yield


@contextmanager
def writes_after_a_failed_one() -> Iterator[None]:
    """What waits to be written behind a write that failed is written all the same."""
    with _failing_often(), patch.object(LateWriter, "goes_on", True):
        yield


def does_not_wait_for_acknowledgements() -> Broken:
    def write(store: ReplicatedStore, place: Any, key: Any, cell: Any) -> None:
        store.send(place, key, cell)

    return patch.object(ReplicatedStore, "write", write)


def does_not_follow() -> Broken:
    true = Steps.follow
    return patch.object(Steps, "follow", lambda steps, waited=0: true(steps) if steps.epoch is None else True)


def follows_forward_only() -> Broken:
    true = Steps.follow

    def follow(steps: Steps, waited: int = 0) -> bool:
        now = pointer_of(steps.store)
        if steps.epoch is None or generation_of(steps.store, now.generation).epoch >= steps.epoch.number:
            return true(steps, waited)
        return True

    return patch.object(Steps, "follow", follow)


def follows_without_a_new_start() -> Broken:
    """A worker that moves to another epoch with the positions that it has."""
    true = Steps.enter

    def enter(steps: Steps, epoch: Epoch, generation: Any) -> None:
        before = dict(steps.lanes)
        true(steps, epoch, generation)
        steps.lanes = {name: before.get(name, lane) for name, lane in steps.lanes.items()}

    return patch.object(Steps, "enter", enter)


def starts_at_the_origin_of_another_epoch() -> Broken:
    return patch.object(Epoch, "origin", lambda epoch, lane: 0)


def judges_without_the_horizon() -> Broken:
    """A worker that begins with no ids but those of the range that it rebuilds."""

    def counted(self: SimulatedWorker, lane: Lane, end: int) -> list[int]:
        log = self.schedule.log
        records, found = log.records[lane.name], []
        for offset in range(lane.position, end):
            first = max(self.opened[lane.name], offset - log.horizon)
            if all(records[o][1] != records[offset][1] for o in range(min(first, offset), offset)):
                found.append(offset)
        return found

    return patch.object(SimulatedWorker, "counted", counted)


@contextmanager
def duplicate_of_an_accepted_record() -> Iterator[None]:
    """A duplicate is one of a record that counted, so that a worker would have to know the lane from its beginning."""

    def accepted(log: Log, lane: str, first: int, end: int) -> list[int]:
        newest: dict[int, int] = {}
        found = []
        for offset in range(first, end):
            id = log.records[lane][offset][1]
            if id not in newest or offset - newest[id] > log.horizon:
                newest[id] = offset
                found.append(offset)
        return found

    def is_new(log: Log, lane: str, id: int) -> bool:
        records = log.records[lane]
        known = [o for o in accepted(log, lane, 0, len(records)) if o >= len(records) - log.horizon]
        return all(records[o][1] != id for o in known)

    def counted(self: SimulatedWorker, lane: Lane, end: int) -> list[int]:
        log = self.schedule.log
        first = max(0, self.opened[lane.name] - log.horizon)
        return [offset for offset in accepted(log, lane.name, first, end) if offset >= lane.position]

    with patch.object(Log, "is_new", is_new), patch.object(SimulatedWorker, "counted", counted):
        yield


@contextmanager
def tries_differ() -> Iterator[None]:
    """What a record is counted as depends on who counts it, as with a price that is looked up meanwhile."""
    true = SimulatedWorker.counted

    def counted(self: SimulatedWorker, lane: Lane, end: int) -> list[int]:
        return [o for o in true(self, lane, end) if (o + len(self.name) + int(self.name[1:])) % 7]

    with patch.object(SimulatedWorker, "counted", counted):
        yield


# What stands for the store


@contextmanager
def stamp_is_a_clock() -> Iterator[None]:
    clock = itertools.count(1)
    true = ReplicatedStore.send

    def send(store: ReplicatedStore, place: Any, key: Any, cell: Any) -> bool:
        return true(store, place, key, (next(clock) if place[0].endswith(SPEED) else cell[0], cell[1]))

    with patch.object(ReplicatedStore, "send", send):
        yield


def _last_arrival_wins(of: Callable[[str], bool]) -> Broken:
    true = ReplicatedStore.apply

    def apply(store: ReplicatedStore, replica: int, place: Any, key: Any, cell: Any) -> None:
        if of(place[0]):
            store.replicas[replica].setdefault(place, {})[key] = cell
        else:
            true(store, replica, place, key, cell)

    return patch.object(ReplicatedStore, "apply", apply)


def fence_does_not_decide() -> Broken:
    return _last_arrival_wins(lambda name: name.endswith(SPEED))


def generation_does_not_decide() -> Broken:
    return _last_arrival_wins(lambda name: name != "control" and not name.endswith(SPEED))


def one_replica_acknowledges() -> Broken:
    def write(store: ReplicatedStore, place: Any, key: Any, cell: Any) -> None:
        read_from, store.needed = store.needed, 1
        try:
            while not store.send(place, key, cell):
                pass
        finally:
            store.needed = read_from

    return patch.object(ReplicatedStore, "write", write)


def one_replica_is_asked() -> Broken:
    true = ReplicatedStore.read

    def read(store: ReplicatedStore, place: Any) -> Any:
        written_to, store.needed = store.needed, 1
        try:
            return true(store, place)
        finally:
            store.needed = written_to

    return patch.object(ReplicatedStore, "read", read)


@contextmanager
def reads_mend_nothing() -> Iterator[None]:
    """Seldom seen, as a write is tried again at once: so here more of them get lost."""
    with (
        patch.object(ReplicatedStore, "arrives", 0.35),
        patch.object(ReplicatedStore, "mend", lambda store, asked, place, found: None),
    ):
        yield


def lanes_share_a_row() -> Broken:
    true = ReplicatedStore.put_speed

    def put_speed(store: ReplicatedStore, table: Any, epoch: int, lane: str, start: int, fence: int, rows: Any) -> int:
        return true(store, table, epoch, "north", start, fence, rows)

    return patch.object(ReplicatedStore, "put_speed", put_speed)


@contextmanager
def no_compare_and_set() -> Iterator[None]:
    def always(store: ReplicatedStore, name: str, old: str | None, new: str) -> bool:
        actors.point()
        store.write_control(name, new)
        actors.point()
        return True

    with patch.object(ReplicatedStore, "compare_and_set", always):
        yield


@contextmanager
def moves_are_known_by_their_values() -> Iterator[None]:
    with (
        patch.object(ReplicatedStore, "can_be_made", lambda store, move: store.said.get(move.name) == move.old),
        patch.object(ReplicatedStore, "was_made", lambda store, move: store.said.get(move.name) == move.new),
    ):
        yield


# Runs


def one_slot() -> Broken:
    return patch.object(SimulatedBatch, "other", lambda batch, slot: 0)


def builds_on_the_newest_rows() -> Broken:
    def base(batch: SimulatedBatch, table: Any, version: int) -> Any:
        mine = [v for v, name in enumerate(batch.schedule.kept_of) if name == table.name]
        return batch.schedule.kept[mine[-1]]

    return patch.object(SimulatedBatch, "base", base)


@contextmanager
def pointer_moved_first() -> Iterator[None]:
    true_put, true_build = ReplicatedStore.put, Batch.build
    waiting: dict[int, list[Any]] = {}

    def put(store: ReplicatedStore, table: Any, rows: Any) -> int:
        for row in rows:
            waiting.setdefault(row[-1], []).append((table, row))
        return 0

    def build(batch: Batch, run: Any, pointer: Pointer, *given: Any, **named: Any) -> None:
        true_build(batch, run, pointer, *given, **named)
        for table, row in waiting.pop(pointer.highest, []):
            true_put(batch.store, table, [row])

    with patch.object(ReplicatedStore, "put", put), patch.object(Batch, "build", build):
        yield


def number_reused() -> Broken:
    def begin(pointer: Pointer, *, opens: bool = True) -> Pointer:
        number = pointer.next or pointer.highest + 1
        predecessor = None if pointer.next else pointer.predecessor
        return replace(pointer, next=number, highest=number, predecessor=predecessor, opens=opens)

    return patch.object(pointers, "begin", begin)


def predecessor_survives_a_run_that_wrote() -> Broken:
    true = pointers.give_up
    return patch.object(
        pointers, "give_up", lambda p, g, *, wrote: replace(true(p, g, wrote=wrote), predecessor=p.predecessor)
    )


@contextmanager
def failed_run_says_it_wrote_nothing() -> Iterator[None]:
    true = pointers.give_up
    with _failing_often(), patch.object(pointers, "give_up", lambda p, g, *, wrote: true(p, g, wrote=False)):
        yield


def sweeps_below_its_own_cut() -> Broken:
    """What the predecessor adds to is gone as soon as nobody reads it."""
    true = Batch.sweep

    def sweep(batch: Batch, pointer: Pointer, predecessor: Any, tables: Any) -> None:
        current = generation_of(batch.store, pointer.generation)
        true(batch, pointer, replace(current, tables=predecessor.tables), tables)

    return patch.object(Batch, "sweep", sweep)


# Rollback


def rollback_not_abandoned() -> Broken:
    true = pointers.roll_back
    return patch.object(pointers, "roll_back", lambda p: replace(true(p), abandoned=p.abandoned))


def rollback_during_a_run() -> Broken:
    true = pointers.roll_back
    return patch.object(pointers, "roll_back", lambda p: true(replace(p, next=None)))


def rollback_twice() -> Broken:
    true = pointers.roll_back

    def back(pointer: Pointer) -> Pointer:
        moved = true(pointer)
        older = [n for n in range(1, moved.generation) if n not in moved.abandoned]
        return replace(moved, predecessor=max(older, default=None))

    return patch.object(pointers, "roll_back", back)


# Readers


def no_second_look() -> Broken:
    def stands(reader: Reader, seen: Pointer, fresh: bool) -> bool:
        reader.pointer()
        return True

    return patch.object(Reader, "_stands", stands)


def any_predecessor_is_valid() -> Broken:
    return patch.object(pointers, "still_valid", lambda seen, now: seen in (now.generation, now.predecessor))


def old_look_without_the_stream() -> Broken:
    """An old first look will do, also if it is from before the stream began."""

    def stands(reader: Reader, seen: Pointer, fresh: bool) -> bool:
        now = reader.pointer()
        return now.generation == seen.generation or (fresh and pointers.still_valid(seen.generation, now))

    return patch.object(Reader, "_stands", stands)


def ranges_are_met_without_reading_again() -> Broken:
    return patch.object(View, "meet", lambda view, speed: None)


def takes_what_was_abandoned() -> Broken:
    true = answer.live
    return patch.object(answer, "live", lambda rows, width, generation, abandoned: true(rows, width, generation, ()))


def takes_the_newest_rows() -> Broken:
    true = answer.live
    return patch.object(answer, "live", lambda rows, width, generation, abandoned: true(rows, width, 10**9, abandoned))


def adds_speed_rows_below_the_cut() -> Broken:
    true = View.added

    def added(view: View, table: Any, rows: Any, speed: Any, *, reverse: bool) -> Any:
        return true(replace(view, generation=replace(view.generation, cut={})), table, rows, speed, reverse=reverse)

    return patch.object(View, "added", added)


def adds_speed_rows_of_any_epoch() -> Broken:
    def fetch_speed(store: ReplicatedStore, table: Any, partition: Any, bounds: Any = None, *, epoch: int) -> Any:
        found = store.read((table.name + SPEED, partition))
        return [found[key] for key in sorted(found)]

    return patch.object(ReplicatedStore, "fetch_speed", fetch_speed)


MUTANTS: list[Callable[[], Broken]] = [
    cut_in_mid_range, cut_below_the_one_before, exact_cut_beside_workers, new_epoch_behind_the_stream,
    new_epoch_while_workers_go_on, held_worker_goes_on, epoch_counted_ahead_is_not_told, new_epoch_below_what_was_attempted,
    worker_registers_while_an_epoch_is_opened, worker_counts_unregistered,
    range_starts_where_a_worker_starts, progress_before_acknowledgements, checkpoint_before_acknowledgements,
    failed_write_is_skipped, failed_write_stays_in_the_parts, writes_after_a_failed_one, does_not_wait_for_acknowledgements, does_not_follow,
    follows_forward_only, follows_without_a_new_start, starts_at_the_origin_of_another_epoch, judges_without_the_horizon,
    duplicate_of_an_accepted_record, tries_differ,
    stamp_is_a_clock, fence_does_not_decide, generation_does_not_decide, one_replica_acknowledges,
    one_replica_is_asked, reads_mend_nothing, lanes_share_a_row, no_compare_and_set,
    moves_are_known_by_their_values,
    one_slot, builds_on_the_newest_rows, pointer_moved_first, number_reused,
    predecessor_survives_a_run_that_wrote, failed_run_says_it_wrote_nothing, sweeps_below_its_own_cut,
    rollback_not_abandoned, rollback_during_a_run, rollback_twice,
    no_second_look, any_predecessor_is_valid, old_look_without_the_stream, ranges_are_met_without_reading_again,
    takes_what_was_abandoned, takes_the_newest_rows, adds_speed_rows_below_the_cut, adds_speed_rows_of_any_epoch,
]  # fmt: skip
SELDOM = {
    exact_cut_beside_workers: 2770,
    rollback_not_abandoned: 200,
    worker_registers_while_an_epoch_is_opened: 300,
    new_epoch_below_what_was_attempted: 1690,
    new_epoch_while_workers_go_on: 1200,
    held_worker_goes_on: 231,
    moves_are_known_by_their_values: 1680,
    predecessor_survives_a_run_that_wrote: 0,
    any_predecessor_is_valid: 0,
    ranges_are_met_without_reading_again: 1540,
    reads_mend_nothing: 0,
    failed_run_says_it_wrote_nothing: 0,
}
"""Those of which hundreds of schedules may be needed, or thousands: then, a seed that is known to show it."""
