"""What a cut hands out and what it leaves to be stored, field by field; what is delivered twice, held back or waited for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cdc.errors import Halt
from cdc.model.position import Position
from cdc.model.record import Message, Partition, weight
from cdc.protocol.applied import Progress
from cdc.protocol.control import Anomaly, Base, Copy, Cut, Named, Start, mark
from cdc.protocol.copy_progress import NOTHING, WHOLE, Active, Copies, Ended
from sinks.cuts import CutAssembler
from sinks.losses import check_mark
from sinks.steps import At, Batch, BeginCopy, Enter, Step
from tests.sinks.test_cuts import (
    AHEAD_BYTES,
    AHEAD_CUTS,
    BATCH_BYTES,
    CONTROL,
    TOPIC,
    Held,
    P,
    Q,
    Topics,
    cuts,
    everything,
    position,
    small,
    value,
)

__all__ = ["small"]

COPYING = Copies(2, 3, ("db", "t"), True, Active("a", "r", "db", "t", WHOLE, ("17",), 4))


def steps(assembly: CutAssembler, limit: int = 1000) -> list[Step]:
    """Takes steps until there is none, and enters the bases among them."""
    found: list[Step] = []
    while (step := assembly.take(limit)) is not None:
        if isinstance(step, Enter):
            assembly.enter(step.base)
        found.append(step)
    return found


def batches(assembly: CutAssembler, limit: int = 1000) -> list[Batch]:
    return [step for step in steps(assembly, limit) if isinstance(step, Batch)]


def begun(at: int = 0) -> tuple[Topics, int, CutAssembler]:
    """An epoch whose base is entered, and a whole cut taken: nothing is left to be skipped."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, at)
    topics.cut(epoch, 1, at)
    assembly = cuts()
    assembly.feed(topics.messages)
    assert 2 == len(steps(assembly))
    topics.messages.clear()
    return topics, epoch, assembly


def fed(topics: Topics, assembly: CutAssembler) -> CutAssembler:
    assembly.feed(topics.messages)
    topics.messages.clear()
    return assembly


def cut(epoch: int, number: int, at: int, partitions: dict[Partition, Named], **more: Any) -> Cut:
    return replace(Cut(epoch, number, position(at), at * 1000, False, False, partitions), **more)


def test_a_sink_that_has_stored_nothing_begins_at_the_beginning() -> None:
    assert At(0, -1, 0, None, 0, "", copies=NOTHING) == cuts().at


def test_a_sink_goes_on_with_everything_that_it_has_stored() -> None:
    stored = Progress(7, 3, 9, position(5), 8000, {P: (4, 2), Q: (6, 3)}, "mark", COPYING)
    assembly = cuts(stored)
    assert At(7, 3, 9, position(5), 8000, "mark", {P: 4, Q: 6}, {P: 2, Q: 3}, copies=COPYING) == assembly.at
    assert ({P: 4, Q: 6}, 9) == (assembly.next_offsets(), assembly.next_control())


@pytest.mark.parametrize("behind", ["a base", "a whole cut"])
@pytest.mark.parametrize("limit", [1, 1000])
def test_each_field_of_a_cut_reaches_the_batch_and_what_is_stored(behind: str, limit: int) -> None:
    """Behind a base each transaction is held against what is stored, else the records are taken as they are: both ways."""
    topics, epoch, assembly = begun()
    if behind == "a base":
        epoch = topics.start()
        topics.base(epoch, 1, 0)
    first, _, second = (topics.put(P, value(epoch, 1, 1)), topics.put(P, None), topics.put(P, value(epoch, 2, 2)))
    third, fourth = topics.put(Q, value(epoch, 1, 1)), topics.put(P, value(epoch, 3, 3))
    rows = {message.value: message for message in topics.messages if message.topic == TOPIC and message.value}
    one, two = Anomaly("db", "t", "c", "zero_date", 1), Anomaly("db", "t", "d", "nul_text", 2)
    ends = [Ended("r", "db", "t", WHOLE, "done", 5), Ended("s", "db", "u", WHOLE, "stopped", 6)]
    topics.say(cut(epoch, 2, 2, {P: Named(second, epoch, 2), Q: Named(third, epoch, 1)}, anomalies=(one,), ended=(ends[0],)))
    topics.say(cut(epoch, 3, 3, {P: Named(fourth, epoch, 3)}, anomalies=(two,), ended=(ends[1],), copies=COPYING))
    last, messages = topics.messages[-1], list(topics.messages)
    found = batches(fed(topics, assembly), limit)
    assert ([2, 3] if limit == 1 else [3]) == [batch.cut.cut_no for batch in found]
    assert [False] * len(found) == [batch.partial for batch in found]
    assert [[TOPIC]] * len(found) == [list(batch.topics) for batch in found]
    taken = [changes for batch in found for changes in batch.topics.values()]
    values = [each for changes in taken for each in changes.values]
    assert [value(epoch, *number) for number in ((1, 1), (2, 2), (1, 1), (3, 3))] == values
    keys = [key for changes in taken for key in changes.keys]
    assert [m.key for m in (messages_at(messages, p, o) for p, o in ((P, first), (P, second), (Q, third), (P, fourth)))] == keys
    assert [(epoch, seq) for seq in (1, 2, 1, 3)] == [row[:2] for changes in taken for row in changes.opened]
    assert len(rows) + 1 == sum(batch.rows for batch in found) == 4
    assert sum(weight([m]) for m in messages if m.topic == TOPIC and m.value) == sum(batch.bytes for batch in found)
    assert [one, two] == [each for batch in found for each in batch.anomalies]
    assert ends == [each for batch in found for each in batch.ended]
    control_next, at = topics.offsets[CONTROL, 0], assembly.at
    assert (3, epoch, control_next, position(3), 3000) == (at.cut_no, at.epoch, at.control_next, at.position, at.source_ts_us)
    assert (mark(last.value or b""), COPYING) == (at.mark, at.copies)
    assert ({P: fourth + 1, Q: third + 1}, {P: 3, Q: 1}) == (at.offsets, at.numbers)
    assert (0, {}) == (assembly.buffered, {reason: count for reason, count in assembly.void.items() if count})


def messages_at(messages: list[Message], partition: Partition, offset: int) -> Message:
    return next(message for message in messages if message[:3] == (*partition, offset))


def test_a_cut_before_any_base_gives_its_position() -> None:
    topics = Topics()
    topics.cut(topics.start(), 1, 4)
    assembly = cuts()
    assert [1] == [batch.cut.cut_no for batch in batches(fed(topics, assembly))]
    assert (position(4), 4000) == (assembly.at.position, assembly.at.source_ts_us)


def test_a_base_gives_its_position_numbers_offsets_and_copies() -> None:
    topics = Topics()
    epoch = topics.start()
    topics.say(Base(epoch, 4, position(6), 0, False, {P: 3, Q: 8}, {Q: Named(7, 0, 5)}, (), COPYING))
    base = topics.messages[-1]
    assembly = cuts()
    step = fed(topics, assembly).take(1)
    assert isinstance(step, Enter)
    assert (2, mark(base.value or b"")) == (assembly.at.control_next, assembly.at.mark), "its own record is passed with it"
    assembly.enter(step.base)
    at = assembly.at
    assert (position(6), COPYING, {P: 3, Q: 8}, {P: 0, Q: 5}) == (at.position, at.copies, at.offsets, at.numbers)
    assert {P: 3, Q: 8} == assembly.next_offsets()


def test_a_barrier_s_record_is_passed_with_it() -> None:
    topics, epoch, assembly = begun()
    topics.say(Copy(epoch, 2, "db", "t", position(1), "id"))
    barrier = topics.messages[-1]
    topics.cut(epoch, 2, 1)
    assert isinstance(fed(topics, assembly).take(1), BeginCopy)
    assert (barrier.offset + 1, mark(barrier.value or b"")) == (assembly.at.control_next, assembly.at.mark)


def test_a_piece_moves_neither_the_position_nor_the_time_nor_what_is_said_of_copies() -> None:
    topics, epoch, assembly = begun()
    row = topics.put(P, value(epoch, 1, 2))
    topics.say(cut(epoch, 2, 2, {P: Named(row, epoch, 1)}, partial=True, copies=COPYING))
    (piece,) = batches(fed(topics, assembly))
    assert (True, 1) == (piece.partial, piece.rows)
    at = assembly.at
    assert (2, position(0), 0, NOTHING) == (at.cut_no, at.position, at.source_ts_us, at.copies)
    assert ({P: row + 1}, {P: 1}) == ({P: at.offsets[P]}, {P: at.numbers[P]})
    topics.cut(epoch, 3, 3)
    (whole,) = batches(fed(topics, assembly))
    assert (False, position(3)) == (whole.partial, assembly.at.position)


def test_a_piece_without_rows_is_no_batch_of_its_own() -> None:
    """Whoever takes it would hold a transaction open for nothing."""
    topics, epoch, assembly = begun()
    topics.cut(epoch, 2, 1, partial=True)
    topics.cut(epoch, 3, 1, partial=True, p0=(topics.put(P, value(epoch, 1, 2)), 1))
    topics.cut(epoch, 4, 1, partial=True)
    topics.cut(epoch, 5, 2)
    found = batches(fed(topics, assembly))
    assert [(3, True, 1), (5, False, 0)] == [(batch.cut.cut_no, batch.partial, batch.rows) for batch in found]


# -- what is delivered twice


def test_what_is_delivered_again_is_taken_once() -> None:
    """A transport that is assigned anew may go back a little."""
    topics, epoch, assembly = begun()
    records = [topics.messages[topics.put(P, value(epoch, seq, seq))] for seq in (1, 2, 3)]
    topics.messages.clear()
    assembly.feed(records[:2])
    assembly.feed(records[:1])
    assembly.feed(records[:2])
    assert weight(records[:2]) == assembly.buffered
    assembly.feed(records)
    assert (weight(records), 3) == (assembly.buffered, assembly.next_offsets()[P])
    topics.cut(epoch, 2, 3, p0=(2, 3))
    (batch,) = batches(fed(topics, assembly))
    assert [m.value for m in records] == batch.topics[TOPIC].values
    assert (0, 0) == (assembly.void["repeat"], assembly.buffered)


def test_what_lies_below_what_is_stored_is_not_taken() -> None:
    stored = Progress(1, 0, 5, position(1), 0, {P: (2, 2)})
    assembly = cuts(stored)
    assembly.feed([Message(*P, offset, b"k", value(0, offset + 1, 1)) for offset in range(4)])
    assert 2 * weight([Message(*P, 2, b"k", value(0, 3, 1))]) == assembly.buffered


def test_tombstones_take_no_memory_and_are_read_past() -> None:
    topics, _, assembly = begun()
    topics.put(P, None)
    fed(topics, assembly)
    assert (0, 1) == (assembly.buffered, assembly.next_offsets()[P])


def test_a_partition_of_which_nothing_is_stored_begins_at_its_first_record() -> None:
    """Its first record is at offset 0 and bears number 1; a cut that names it waits for it."""
    stored = Progress(0, 0, 1, position(0), 0, {P: (0, 0)})
    topics, assembly = Topics(), cuts(stored)
    topics.offsets[CONTROL, 0] = 1
    topics.cut(0, 1, 1, p1=(0, 1))
    assert [] == batches(fed(topics, assembly))
    topics.put(Q, value(0, 1, 1))
    assert [1] == [batch.rows for batch in batches(fed(topics, assembly))]


def test_records_with_numbers_that_are_applied_are_repeats_and_those_of_other_epochs_void_each_counted() -> None:
    topics, epoch, assembly = begun()
    for number in (1, 2):
        topics.cut(epoch, 1 + number, number, p0=(topics.put(P, value(epoch, number, number)), number))
    assert 2 == sum(batch.rows for batch in batches(fed(topics, assembly)))
    for number in (1, 2):
        topics.put(P, value(epoch, number, number))
    for number in (3, 3):
        topics.put(P, value(epoch + 50, number, 3))
    topics.cut(epoch, 4, 3, p0=(topics.put(P, value(epoch, 3, 3)), 3))
    (batch,) = batches(fed(topics, assembly))
    assert ([value(epoch, 3, 3)], 1, 1) == (batch.topics[TOPIC].values, batch.rows, len(batch.topics[TOPIC].keys))
    assert [b"key of 0.6"] == batch.topics[TOPIC].keys
    assert [(epoch, 3)] == [row[:2] for row in batch.topics[TOPIC].opened]
    assert (2, 2) == (assembly.void["repeat"], assembly.void["epoch"])


@pytest.mark.parametrize(
    ("there", "named", "code"),
    [
        (["9 1"], 1, "records_missing"),
        (["E 1", "9 2"], 2, "records_missing"),
        (["E 1", "E 1"], 2, "records_missing"),
        (["E 1", "E 3"], 3, "hole"),
        (["E 2"], 2, "hole"),
        (["E 1", "E 2", "E 3"], 2, "records_missing"),
    ],
)
def test_a_record_in_the_place_of_another_is_never_taken_for_it(there: list[str], named: int, code: str) -> None:
    """Of another epoch, or with another number: also where nothing is left to be skipped and records are taken as they are."""
    topics, epoch, assembly = begun()
    last = [topics.put(P, f"{one} c 0-1-1".replace("E", str(epoch)).encode()) for one in there][-1]
    topics.cut(epoch, 2, 1, p0=(last, named))
    fed(topics, assembly)
    with pytest.raises(Halt) as stopped:
        batches(assembly)
    assert code == stopped.value.code


@pytest.mark.parametrize("there", ["3 2", "2 3", "3 3"])
def test_an_epoch_that_equals_a_number_is_not_taken_for_it(there: str) -> None:
    """The cut of epoch 2 names number 2 behind number 1; the record has another epoch, another number, or both."""
    topics = Topics()
    topics.offsets[CONTROL, 0] = 2
    epoch = topics.start()
    topics.base(epoch, 0, 0)
    topics.cut(epoch, 1, 0, p0=(topics.put(P, value(epoch, 1, 1)), 1))
    assembly = cuts()
    assert 2 == len(steps(fed(topics, assembly)))
    topics.cut(epoch, 2, 1, p0=(topics.put(P, f"{there} c 0-1-1".encode()), 2))
    fed(topics, assembly)
    with pytest.raises(Halt):
        batches(assembly)


def test_rows_that_are_applied_are_counted_one_by_one() -> None:
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 1)
    for seq in (1, 2, 3):
        topics.put(P, value(epoch, seq, seq))
    topics.cut(epoch, 1, 3, p0=(2, 3))
    assembly = cuts(Progress(0, -1, 0, position(2), 0))
    (batch,) = batches(fed(topics, assembly))
    assert ([value(epoch, 3, 3)], [b"key of 0.2"], 2) == (batch.topics[TOPIC].values, batch.topics[TOPIC].keys, assembly.void["applied"])


def test_control_records_that_are_void_are_counted_one_by_one() -> None:
    topics = Topics()
    first = topics.start()
    topics.base(first, 0, 0)
    topics.cut(first, 1, 1)
    topics.cut(first, 2, 2)
    topics.base(topics.start(), 0, 0)
    assembly = cuts()
    assert [f"base {first}", f"base {first + 4}"] == everything(fed(topics, assembly))
    assert 2 == assembly.void["control"]


def test_a_cut_whose_named_record_is_applied_waits_for_nothing() -> None:
    """A full cut names idle partitions too, whose last record may have expired: it never comes again."""
    assembly = cuts(Progress(1, 0, 1, position(1), 0, {P: (5, 4)}))
    topics = Topics()
    topics.offsets[CONTROL, 0] = 1
    topics.cut(0, 2, 2, p0=(9, 4))
    assert [2] == [batch.cut.cut_no for batch in batches(fed(topics, assembly))]
    assert {P: 5} == assembly.at.offsets


# -- floors


def test_a_floor_counts_until_a_whole_cut_covers_it() -> None:
    topics, epoch, assembly = begun()
    assembly.floors = {TOPIC: position(4)}
    for number in (2, 4, 5):
        topics.cut(epoch, number, number, p0=(topics.put(P, value(epoch, topics.offsets[P] + 1, number)), topics.offsets[P]))
    found = batches(fed(topics, assembly), 0)
    assert [0, 0, 1] == [batch.rows for batch in found]
    assert (2, {}) == (assembly.void["applied"], assembly.floors)


def test_a_floor_of_another_table_skips_nothing() -> None:
    topics, epoch, assembly = begun()
    assembly.floors = {"p.db.other": position(4)}
    topics.cut(epoch, 2, 2, p0=(topics.put(P, value(epoch, 1, 2)), 1))
    assert [1] == [batch.rows for batch in batches(fed(topics, assembly))]
    assert {"p.db.other": position(4)} == assembly.floors


# -- barriers


def test_a_barrier_waits_for_the_whole_cut_behind_it() -> None:
    """Its table is emptied, and locked, from then on until that cut, whose records stand in the topics before it."""
    topics, epoch, assembly = begun()
    topics.say(Copy(epoch, 2, "db", "t", position(1), "one"))
    assert [] == everything(fed(topics, assembly))
    topics.say(Copy(epoch, 2, "db", "u", position(1), "two"))
    assert [] == everything(fed(topics, assembly))
    topics.cut(epoch, 2, 1, partial=True, p0=(topics.put(P, value(epoch, 1, 0, "r")), 1))
    assert [] == everything(fed(topics, assembly)), "capture may be away before the cut with which the piece is committed"
    topics.cut(epoch, 3, 1, p0=(1, 2))
    assert ["copy one", "copy two", f"partial 2: {epoch} 1 r 0-1-0"] == everything(fed(topics, assembly))
    assert [] == everything(fed(topics, assembly)), "a record that the cut names has not come"
    topics.put(P, value(epoch, 2, 0, "r"))
    assert [f"cut 3: {epoch} 2 r 0-1-0"] == everything(fed(topics, assembly))


def test_what_stands_before_a_barrier_is_given_out_first() -> None:
    topics, epoch, assembly = begun()
    topics.cut(epoch, 2, 1)
    topics.say(Copy(epoch, 3, "db", "t", position(1), "id"))
    topics.cut(epoch, 3, 2)
    assert ["cut 2: ", "copy id", "cut 3: "] == everything(fed(topics, assembly))


# -- how far ahead


def test_reading_of_the_control_topic_goes_on_behind_what_has_come() -> None:
    topics, epoch, assembly = begun()
    assert 3 == assembly.next_control()
    topics.cut(epoch, 2, 1, p0=(0, 1))
    topics.cut(epoch, 3, 2, p0=(1, 2))
    fed(topics, assembly)
    assert (3, 5) == (assembly.at.control_next, assembly.next_control())


def ahead(assembly: CutAssembler, partition: Partition, *parts: float, first: int = 0) -> None:
    """Records of these shares of what one partition may hold."""
    for offset, part in enumerate(parts, first):
        content = value(0, offset + 1, 1)
        size = int(part * AHEAD_BYTES) - weight([Message(*partition, offset, b"k", b"")])
        assembly.feed([Message(*partition, offset, b"k", content.rjust(size))])


def test_a_partition_is_held_by_its_own_size_and_let_go_at_half_of_it() -> None:
    topics, _, assembly = begun()
    ahead(assembly, P, 0.3, 0.3, 0.15)
    ahead(assembly, Q, 1.1)
    assert frozenset({Q}) == assembly.ahead()
    ahead(assembly, P, 0.35, first=3)
    assert frozenset({P, Q}) == assembly.ahead()
    topics.cut(0, 2, 1, p0=(0, 1))
    topics.cut(0, 3, 1, p0=(1, 2), p1=(0, 1))
    batches(fed(topics, assembly))
    assert frozenset() == assembly.ahead(), "a half is left"


def test_a_held_partition_stays_held_above_its_half() -> None:
    topics, _, assembly = begun()
    ahead(assembly, P, 0.5, 0.6)
    assert frozenset({P}) == assembly.ahead()
    topics.cut(0, 2, 1, p0=(0, 1))
    batches(fed(topics, assembly))
    assert frozenset({P}) == assembly.ahead()


def test_a_partition_that_is_at_its_limit_is_not_beyond_it() -> None:
    _, _, assembly = begun()
    ahead(assembly, P, 1.0)
    ahead(assembly, Q, 0.1)
    assert AHEAD_BYTES < assembly.buffered
    assert frozenset() == assembly.ahead()


def test_a_partition_whose_record_has_come_is_held_although_a_cut_names_it() -> None:
    """The cut waits for another partition."""
    topics, _, assembly = begun()
    ahead(assembly, P, 1.1)
    topics.cut(0, 2, 1, p0=(0, 1), p1=(0, 1))
    assert [] == batches(fed(topics, assembly))
    assert frozenset({P}) == assembly.ahead()
    ahead(assembly, Q, 1.2)
    assert frozenset({P, Q}) == assembly.ahead()


def test_what_the_first_cut_needs_is_never_held_whatever_stands_before_it() -> None:
    """A record at the very offset that it names has not come; a start and a base before it name nothing."""
    topics, assembly = Topics(), cuts()
    epoch = topics.start()
    topics.base(epoch, 0, 0)
    topics.cut(epoch, 1, 1, p0=(1, 2))
    fed(topics, assembly)
    ahead(assembly, P, 1.5)
    assert frozenset() == assembly.ahead()


def test_the_control_topic_is_held_above_its_limit_and_let_go_at_half_of_it() -> None:
    topics, epoch, assembly = begun()
    for number in range(AHEAD_CUTS):
        topics.cut(epoch, 2 + number, number, p0=(number, number + 1))
    fed(topics, assembly)
    assert frozenset() == assembly.ahead()
    topics.cut(epoch, 2 + AHEAD_CUTS, AHEAD_CUTS, p0=(AHEAD_CUTS, AHEAD_CUTS + 1))
    fed(topics, assembly)
    held = frozenset({(CONTROL, 0)})
    assert held == assembly.ahead()
    for number in range(AHEAD_CUTS // 2):
        topics.put(P, value(epoch, number + 1, number))
    batches(fed(topics, assembly))
    assert held == assembly.ahead(), "one more than half"
    topics.put(P, value(epoch, AHEAD_CUTS // 2 + 1, AHEAD_CUTS // 2))
    batches(fed(topics, assembly))
    assert frozenset() == assembly.ahead()


def test_the_control_topic_is_not_held_because_a_partition_is() -> None:
    topics, epoch, assembly = begun()
    ahead(assembly, P, 1.5)
    for number in range(AHEAD_CUTS // 2 + 3):
        topics.cut(epoch, 2 + number, number, p1=(number, number + 1))
    fed(topics, assembly)
    assert frozenset({P}) == assembly.ahead()


# -- how large a batch is


@pytest.mark.parametrize(("sizes", "ends"), [([0.5, 0.5, 0.1], [3, 4]), ([0.4, 0.4, 0.4, 0.4], [4, 5]), ([0.5, 0.49, 0.1], [4])])
def test_a_batch_ends_at_the_cut_with_which_its_bytes_reach_the_limit(sizes: list[float], ends: list[int]) -> None:
    topics, epoch, assembly = begun()
    for number, size in enumerate(sizes):
        content = value(epoch, number + 1, number)
        padded = content.rjust(int(size * BATCH_BYTES) - weight([Message(*P, 0, b"k", b"")]))
        topics.cut(epoch, 2 + number, number, p0=(topics.put(P, padded), number + 1))
    assert ends == [batch.cut.cut_no for batch in batches(fed(topics, assembly))]


def test_rows_of_all_partitions_count_for_a_batch_s_size() -> None:
    topics, epoch, assembly = begun()
    for number in range(4):
        offset = topics.put(P, value(epoch, number + 1, number + 1)), topics.put(Q, value(epoch, number + 1, number + 1))
        topics.cut(epoch, 2 + number, number + 1, p0=(offset[0], number + 1), p1=(offset[1], number + 1))
    assert [(3, 4), (5, 4)] == [(batch.cut.cut_no, batch.rows) for batch in batches(fed(topics, assembly), 4)]


def test_a_place_that_was_stored_without_a_mark_is_not_compared() -> None:
    """Of a version that kept none."""
    check_mark(Held(b"another"), Progress(1, 0, 5, position(1), 0))  # type: ignore[arg-type]


def test_a_start_never_lowers_the_epoch() -> None:
    """Compaction may bring an older start behind what is stored."""
    assembly = cuts(Progress(1, 9, 3, position(1), 0))
    topics = Topics()
    topics.offsets[CONTROL, 0] = 4
    topics.say(Start("a", 0))
    fed(topics, assembly).take(1)
    assert 9 == assembly.at.epoch


def test_a_position_on_another_server_that_neither_covers_is_joined_and_one_that_is_covered_is_kept() -> None:
    topics, epoch, assembly = begun()
    for number, gtids in ((2, "0-1-1,7-1-5"), (3, "0-1-1,7-1-3")):
        topics.say(replace(cut(epoch, number, 1, {}), position=Position("mariadb", "other", gtids)))
    batches(fed(topics, assembly), 0)
    assert assembly.at.position is not None
    assert "0-1-1,7-1-5" == assembly.at.position.gtids
