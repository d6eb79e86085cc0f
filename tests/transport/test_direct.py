"""The in-process transport at its edges: what is released and what is delivered again, and who is woken."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from cdc.errors import Halt
from cdc.model.record import RECORD_BYTES, Partition, Record
from cdc.runtime import timing
from cdc.transport.direct import DirectLog

T0: Partition = ("t", 0)
CONTROL: Partition = ("p.control", 0)


def filled(*sends: str, limit_bytes: int = 1 << 30, partitions: int = 1) -> DirectLog:
    """A log with these sends into topic t, read: one letter is a record, a dot its tombstone, `|` a cut of its own."""
    log = DirectLog("p", limit_bytes=limit_bytes, partitions=partitions)
    log.prepare("t")
    for send in sends:
        if send == "|":
            log.append_control("cut", {"type": "cut"}, wait=False)
        else:
            log.send("t", [Record(0, letter.encode(), None if letter == "." else letter.encode()) for letter in send])
    return log


def offsets(log: DirectLog, control: int = 0, **of: int) -> list[int]:
    """What is delivered when reading begins at these offsets, of topic t."""
    log.assign({(topic, 0): offset for topic, offset in of.items()}, control)
    return [message.offset for message in log.poll(0) if message.topic == "t"]


def released(log: DirectLog, below: int, control: int = 0) -> list[int]:
    """What is still held of topic t once everything below is released."""
    log.poll(0)
    log.release({T0: below}, control)
    return [message.offset for run in log._held for message in run.messages if run.partition == T0]


@pytest.mark.parametrize(
    ("below", "held"), [(0, [0, 1, 2, 3, 4]), (1, [0, 1, 2, 3, 4]), (2, [0, 1, 2, 3, 4]), (3, [3, 4]), (4, [3, 4]), (5, [])]
)
def test_a_send_is_held_until_its_last_record_is_applied(below: int, held: list[int]) -> None:
    assert held == released(filled("abc", "de"), below)


@pytest.mark.parametrize(("below", "held"), [(1, [0, 1, 2]), (2, [])])
def test_a_tombstone_at_the_end_of_a_send_is_not_waited_for(below: int, held: list[int]) -> None:
    assert held == released(filled("ab."), below)


def test_a_send_of_nothing_but_tombstones_is_released_at_once() -> None:
    log = filled(".", "a")
    assert [1] == released(log, 0)


def test_what_was_not_read_is_not_released() -> None:
    log = filled("ab")
    log.release({T0: 2}, 0)
    assert [0, 1] == [message.offset for message in log.poll(0)]


def test_a_send_behind_one_that_is_held_is_held_too() -> None:
    """What is released goes from the front, in the order of the log."""
    log = DirectLog("p")
    for topic in ("t", "u"):
        log.prepare(topic)
        log.send(topic, [Record(0, b"k", b"v")])
    log.poll(0)
    log.release({("u", 0): 1}, 0)
    assert 2 == len(log._held)
    log.release({T0: 1}, 0)
    assert 0 == len(log._held)


def test_reading_begins_anywhere_within_a_send() -> None:
    for first in range(6):
        assert list(range(first, 5)) == offsets(filled("abc", "de"), t=first)


def test_a_partition_that_is_not_named_is_read_from_its_beginning() -> None:
    assert [0, 1, 2] == offsets(filled("abc"))


def test_control_records_are_delivered_from_their_offset_on() -> None:
    log = DirectLog("p", first_control=7)
    for number in range(3):
        assert 7 + number == log.append_control("cut", {"type": "cut", "n": number})
    log.assign({}, 8)
    assert [(8, "p.control", 0), (9, "p.control", 0)] == [(m.offset, m.topic, m.partition) for m in log.poll(0)]
    assert [] == log.poll(0)


def test_what_is_released_cannot_be_asked_for_again_and_what_follows_can() -> None:
    log = filled("abc")
    released(log, 2, control=0)
    assert [2] == offsets(log, t=2)
    with pytest.raises(Halt) as stop:
        log.assign({T0: 1}, 0)
    assert ("offset_gone", "t:0") == (stop.value.code, stop.value.place)
    log.release({}, 3)
    with pytest.raises(Halt) as stop:
        log.assign({T0: 2}, 2)
    assert ("offset_gone", "p.control:0") == (stop.value.code, stop.value.place)
    log.assign({T0: 2}, 3)


def test_a_first_control_offset_is_what_everything_before_was_released_to() -> None:
    log = DirectLog("p", first_control=7)
    with pytest.raises(Halt):
        log.assign({}, 6)


@pytest.mark.parametrize("first", [1, 7])
def test_offsets_of_an_earlier_process_pass_over_nothing_that_this_one_has_written(first: int) -> None:
    """Found by seed 20001 of the simulation: capture had written before the sink began to read, and the sink waited for ever."""
    log = DirectLog("p", first_control=first)
    log.prepare("t")
    log.append_control("start a", {"type": "start"})
    log.send("t", [Record(0, b"k", b"v")] * 3)
    assert [0, 1, 2] == offsets(log, control=first, t=2)
    assert [2] == offsets(log, control=first + 1, t=2), "behind the base they are this process's"


def test_the_sink_is_told_that_what_it_reads_ahead_is_room_that_capture_waits_for() -> None:
    assert DirectLog("p").bounded is True


def test_control_records_are_read_back_the_last_so_many_or_all() -> None:
    log = filled("ab", "|", "c", "|", "|")
    assert [0, 1, 2] == [offset for offset, _ in log.control()]
    assert [1, 2] == [offset for offset, _ in log.control(2)]
    assert {"type": "cut"} == dict(log.control(1))[2]
    released(log, 3, control=2)
    assert [2] == [offset for offset, _ in log.control()]


def test_control_records_are_in_partition_0_with_their_key() -> None:
    log = DirectLog("p")
    log.append_control("start a", {"type": "start"})
    assert [("p.control", 0, 0, b"start a", b'{"type": "start"}')] == log.poll(0)
    assert None is log.control_before(1)


def test_a_table_has_a_topic_that_no_other_table_has() -> None:
    log = DirectLog("p")
    assert "p.db.t" == log.topic("db", "t")
    assert log.topic("a.b", "c") != log.topic("a", "b.c")


def test_partitions_are_those_that_were_asked_for_and_keep_their_ends() -> None:
    log = DirectLog("p", partitions=2)
    assert 2 == log.prepare("t")
    log.send("t", [Record(1, b"k", b"v")])
    assert (2, [0, 1]) == (log.prepare("t"), log.ends("t"))
    assert {("t", 1): 0} == log.flush()
    log.send("t", [Record(0, b"k", None)])
    assert {} == log.flush(), "a tombstone bears no number"
    assert 1 == DirectLog("p").prepare("t")
    assert not log.holds(T0, 0, 0, 1)


def test_schemas_are_numbered_from_one_and_found_by_their_number() -> None:
    log = DirectLog("p")
    one, two = {"name": "one"}, {"name": "two"}
    assert [1, 2, 1] == [log.register("subject", schema) for schema in (one, two, one)]
    assert (one, two) == (log.schema(1), log.schema(2))
    with pytest.raises(Halt) as stop:
        log.schema(3)
    assert "schema_unknown" == stop.value.code


# -- who waits


def waiting(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(0.05)
    return thread


def ends(thread: threading.Thread) -> bool:
    thread.join(5)
    return not thread.is_alive()


SIZE = RECORD_BYTES + 1
"""Of a record with a value of one byte."""


CUT = RECORD_BYTES + len('{"type": "cut"}')


@pytest.mark.parametrize(("limit", "blocks"), [(2 * SIZE + CUT, False), (2 * SIZE + CUT - 1, True)])
def test_a_writer_waits_above_the_bound_and_not_at_it(limit: int, blocks: bool) -> None:
    log = filled("ab", "|", limit_bytes=limit)

    def send() -> None:
        with contextlib.suppress(Halt):
            log.send("t", [Record(0, b"k", b"c")])

    sender = waiting(send)
    assert blocks == sender.is_alive()
    log.close()
    assert ends(sender)


def test_by_itself_the_bound_is_wide() -> None:
    log = DirectLog("p")
    log.prepare("t")
    log.send("t", [Record(0, b"k", b"x" * (1 << 20))])
    log.append_control("cut", {"type": "cut"})
    assert ends(waiting(lambda: log.send("t", [Record(0, b"k", b"c")])))


def test_a_writer_that_waits_goes_on_as_soon_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is woken: it does not look again by itself."""
    monkeypatch.setattr(timing, "TIMES", replace(timing.TIMES, direct_wait_seconds=60.0))
    log = filled("ab", "|", "cd", "|", limit_bytes=2 * SIZE + 700)
    sender = waiting(lambda: log.send("t", [Record(0, b"k", b"e")]))
    assert sender.is_alive()
    log.poll(0)
    began = time.monotonic()
    log.release({T0: 2}, 1)
    assert ends(sender)
    assert 5 == log.ends("t")[0]
    assert time.monotonic() - began < 5
    assert sum(run.bytes for run in log._held) == log._bytes
    assert 1 == log._cuts


def test_what_is_held_is_counted_anew_at_an_assignment() -> None:
    log = filled("ab", "|", "cd", "|")
    log.assign({T0: 3}, 1)
    assert (1, sum(run.bytes for run in log._held)) == (log._cuts, log._bytes)
    assert SIZE + CUT == log._bytes


def test_a_writer_that_waits_for_a_reader_who_has_gone_gives_up() -> None:
    log = filled("ab", "|", limit_bytes=SIZE)
    stops: list[str] = []

    def send() -> None:
        try:
            log.send("t", [Record(0, b"k", b"c")])
        except Halt as stop:
            stops.append(stop.code)

    sender = waiting(send)
    assert sender.is_alive()
    log.close()
    assert ends(sender)
    assert ["transport_closed"] == stops


def test_a_reader_is_woken_by_what_comes_and_by_the_end() -> None:
    log = DirectLog("p")
    log.prepare("t")
    for act in (lambda: log.send("t", [Record(0, b"k", b"v")]), lambda: log.append_control("cut", {"type": "cut"}), log.close):
        got: list[int] = []
        began = time.monotonic()
        reader = waiting(lambda got=got: got.append(len(log.poll(60))))  # type: ignore[misc]
        assert reader.is_alive()
        act()
        assert ends(reader)
        assert time.monotonic() - began < 30
        assert [0 if act == log.close else 1] == got
    assert [] == log.poll(60), "it is over: nobody waits"


def test_a_reader_does_not_wait_for_what_is_there() -> None:
    log = filled("a")
    began = time.monotonic()
    assert 1 == len(log.poll(60))
    assert time.monotonic() - began < 30
