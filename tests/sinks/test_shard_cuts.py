"""What a shard's assembler takes of the control topic: its own partitions' records, and nothing beyond where all are to meet."""

from __future__ import annotations

from typing import Any

from cdc.model.record import Partition
from cdc.protocol.applied import Progress
from cdc.protocol.control import Anomaly, Copy, Cut, Named
from cdc.protocol.copy_progress import WHOLE, Ended
from cdc.state.shards import shard_of
from sinks.cuts import CutAssembler
from sinks.scope import ShardScope
from sinks.steps import Batch, Meet
from tests.sinks.test_cuts import CONTROL, TOPIC, P, Q, Topics, opened, position, value


class Only:
    """The share that has one partition of the topic."""

    def __init__(self, number: int) -> None:
        self._number = number

    def has(self, partition: Partition) -> bool:
        return partition == (TOPIC, self._number)


def shard(number: int, stored: Progress | None = None, until: int | None = None) -> CutAssembler:
    share: Any = Only(number)
    return CutAssembler(stored, {}, CONTROL, opened, scope=ShardScope(share, lambda db, table: TOPIC, until))


def steps(assembly: CutAssembler) -> list[str]:
    """Takes steps until there is none or a meeting; a short word for each."""
    said: list[str] = []
    while (step := assembly.take(1000)) is not None:
        if isinstance(step, Meet):
            return [*said, f"meet at {step.offset}"]
        assert isinstance(step, Batch)
        rows = [v.decode() for changes in step.topics.values() for v in changes.values]
        said.append(f"cut {step.cut.cut_no}: {', '.join(rows)}")
    return said


def begun() -> tuple[Topics, int, Progress]:
    """An epoch whose base is entered, and what every shard has stored behind it."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 0)
    stored = Progress(0, epoch, topics.offsets[CONTROL, 0], position(0), 0, {P: (0, 0), Q: (0, 0)})
    topics.messages.clear()
    return topics, epoch, stored


def test_every_partition_has_one_shard_and_topics_of_one_partition_spread() -> None:
    topics = [f"od.practice.table{n}" for n in range(200)]
    dealt = [shard_of((topic, 0), 4) for topic in topics]
    assert all(35 < dealt.count(number) < 65 for number in range(4)), dealt
    assert [0, 1, 2, 3] == sorted(shard_of((topics[0], p), 4) for p in range(4))
    assert 0 == shard_of(("od.practice.patient", 1), 4), "a shard that a stored place belongs to never changes"


def test_a_shard_takes_its_own_partitions_records_and_goes_with_every_cut() -> None:
    topics, epoch, stored = begun()
    a, b = topics.put(P, value(epoch, 1, 1)), topics.put(Q, value(epoch, 1, 1))
    topics.cut(epoch, 1, 1, p0=(a, 1), p1=(b, 1))
    topics.cut(epoch, 2, 2, p0=(a, 1))
    for number, own in enumerate((P, Q)):
        assembly = shard(number, stored)
        assembly.feed(m for m in topics.messages if m[:2] in (own, (CONTROL, 0)))
        assert [f"cut 2: {epoch} 1 c 0-1-1"] == steps(assembly)
        assert position(2) == assembly.at.position


def test_what_was_odd_in_a_table_is_counted_by_one_shard() -> None:
    topics, epoch, stored = begun()
    topics.say(Cut(epoch, 1, position(1), 0, True, False, {}, (Anomaly("db", "t", "c", "zero_date", 1),)))
    found = []
    for number in (0, 1):
        assembly = shard(number, stored)
        assembly.feed(topics.messages)
        step = assembly.take(1000)
        assert isinstance(step, Batch)
        found.append(len(step.anomalies))
    assert [1, 0] == found


def test_a_base_is_met_and_becomes_void_or_not_as_more_is_read() -> None:
    topics, epoch, stored = begun()
    topics.cut(epoch, 1, 1)
    later = topics.start()
    topics.base(later, 1, 1)
    at = topics.offsets[CONTROL, 0] - 1
    assembly = shard(0, stored)
    assembly.feed(topics.messages)
    assert ["cut 1: ", f"meet at {at}"] == steps(assembly)
    assert [f"meet at {at}"] == steps(assembly)
    assert at == assembly.at.control_next
    topics.messages.clear()
    topics.start()
    topics.base(at + 1, 0, 0)
    assembly.feed(topics.messages)
    assert [f"meet at {at + 2}"] == steps(assembly)


def test_a_copy_s_barrier_is_met_only_when_a_whole_cut_follows_it() -> None:
    """Capture counts with a table that is emptied only from then on."""
    topics, epoch, stored = begun()
    topics.cut(epoch, 1, 1)
    at = topics.say(Copy(epoch, 2, "db", "t", position(1), "id"))
    row = topics.put(P, value(epoch, 1, 0, "r"))
    topics.cut(epoch, 2, 1, partial=True, p0=(row, 1))
    assembly = shard(0, stored)
    assembly.feed(topics.messages)
    assert ["cut 1: "] == steps(assembly)
    topics.messages.clear()
    topics.cut(epoch, 3, 2)
    assembly.feed(topics.messages)
    assert [f"meet at {at}"] == steps(assembly)


def ending(topics: Topics, epoch: int, **partitions: Named) -> int:
    named: dict[Partition, Named] = {(TOPIC, int(name[1:])): one for name, one in partitions.items()}
    ended = (Ended("request", "db", "t", WHOLE, "done", 1),)
    return topics.say(Cut(epoch, 1, position(1), 0, True, False, named, (Anomaly("db", "t", "c", "zero_date", 1),), ended=ended))


def test_the_rows_of_a_cut_that_ends_a_copy_come_first_and_its_record_stays_until_all_have_met() -> None:
    topics, epoch, stored = begun()
    row = topics.put(P, value(epoch, 1, 0, "r"))
    at = ending(topics, epoch, p0=Named(row, epoch, 1))
    topics.cut(epoch, 2, 2)
    assembly = shard(0, stored)
    assembly.feed(m for m in topics.messages if m[:2] == (CONTROL, 0))
    assert assembly.take(1000) is None, "its rows have not come"
    assembly.feed(m for m in topics.messages if m[:2] == P)
    first = assembly.take(1000)
    assert isinstance(first, Batch)
    assert ([f"{epoch} 1 r 0-1-0"], 1) == ([v.decode() for changes in first.topics.values() for v in changes.values], len(first.anomalies))
    assert [f"meet at {at}"] == steps(assembly)
    assert (at, {P: 1}) == (assembly.at.control_next, {p: seq for p, seq in assembly.at.numbers.items() if seq})
    again = shard(0, Progress(1, epoch, at, position(1), 0, {P: (row + 1, 1)}))
    again.feed(m for m in topics.messages if m[:2] == (CONTROL, 0))
    step = again.take(1000)
    assert isinstance(step, Batch)
    assert ({}, [], []) == (step.topics, step.ended, step.anomalies)
    assert [f"meet at {at}"] == steps(again)


def test_nothing_is_taken_from_where_a_shard_is_to_stop() -> None:
    topics, epoch, stored = begun()
    row = topics.put(P, value(epoch, 1, 1))
    topics.cut(epoch, 1, 1, p0=(row, 1))
    topics.cut(epoch, 2, 2)
    until = topics.offsets[CONTROL, 0] - 1
    topics.start()
    assembly = shard(0, stored, until)
    assert not assembly.is_over()
    assembly.feed(topics.messages)
    assert not assembly.is_over()
    assert [f"cut 1: {epoch} 1 c 0-1-1"] == steps(assembly)
    mark = assembly.at.mark
    assert (until, True, mark) == (assembly.at.control_next, assembly.is_over(), assembly.at.mark)
    assert mark


def test_a_shard_stands_where_it_is_to_stop_although_compaction_took_what_was_there() -> None:
    topics, epoch, stored = begun()
    topics.cut(epoch, 1, 1)
    topics.cut(epoch, 2, 2)
    topics.cut(epoch, 3, 3)
    until = topics.offsets[CONTROL, 0] - 1
    assembly = shard(0, stored, until)
    assembly.feed([topics.messages[0], topics.messages[2]])
    assert ["cut 1: "] == steps(assembly)
    assert (True, until) == (assembly.is_over(), assembly.at.control_next)
