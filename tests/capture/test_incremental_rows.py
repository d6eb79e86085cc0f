"""The rows of one copy, read from a server by hand: what becomes a record, in which order with the barrier, and what can be no copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cdc.capture.incremental_rows import ChunkSource, ReadChunk, rows_of, stamp_of
from cdc.errors import Halt, Refused
from cdc.model.position import Position
from cdc.model.record import Record
from cdc.model.table import Column, Table
from cdc.protocol.copy_progress import KEYS, WHERE, WHOLE
from cdc.protocol.signals import CopyJob
from cdc.runtime import clock
from tests.capture.test_capture import Run
from tests.helpers.copies_by_hand import DATE, Copied, job
from tests.helpers.logs_by_hand import HandLog, T, image, position, rows, transaction, when
from tests.helpers.sink_by_hand import Time

HEAP = Table("db", "t", T.columns)
STRICT = Table("db", "t", (Column("id", "int", nullable=False), Column("d", "date", nullable=False)), (0,))


@pytest.fixture(autouse=True)
def time() -> Iterator[Time]:
    with Time().lent() as moment:
        yield moment


class Reading:
    """One copy, its server, and what it told."""

    def __init__(self, *given: Any, of: Table = T, wanted: CopyJob | None = None, after: tuple[str, ...] = (), **more: Any) -> None:
        self.copied = Copied(*given, tables=(of,), **more)
        self.capture, self.server = self.copied.run.capture, self.copied.server
        stream = self.capture.stream("db", "t")
        assert stream is not None
        self.stream = stream
        self.rows: ChunkSource = rows_of(self.capture, stream, wanted or job(), after, self._open, 5)

    @property
    def out(self) -> list[Record]:
        """What waits to be sent."""
        return self.stream.out

    def _open(self) -> Any:
        return self.server.reader(self.server, self.stream.table)

    def read(self) -> ReadChunk:
        """The next chunk; the barrier is noted among the server's calls."""
        return self.rows.read(self._announce)

    def _announce(self, at: Position | None) -> None:
        self.server.calls.append("barrier" if at is None else f"barrier at {at.offset}")

    def size(self) -> int:
        return sum(len(record.value or b"") for record in self.out)


def documents(reading: Reading) -> list[Any]:
    """What stands in the records that wait to be sent."""
    copied = reading.copied
    copied.run.log.send("p.db.t", reading.out)
    return [put.document for put in copied.run.written.all() if hasattr(put, "document")]


def refused(make: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(Refused) as error:
        make()
    return error.value.code, error.value.place


# -- what a record says


def test_a_row_that_was_read_says_so_and_where_capture_stood() -> None:
    reading = Reading((1, DATE), (2, None))
    reading.capture.position = position(3)
    reading.read()
    first, second = documents(reading)
    source = first["source"]
    said = [source[name] for name in ("snapshot", "db", "table", "server_id", "gtid", "file", "pos", "name", "version", "connector")]
    assert ["incremental", "db", "t", 5, None, "b.000001", 300, "p", "0.1", "mariadb"] == said
    assert ("r", None, None, {"id": 2, "d": None}) == (first["op"], first["before"], first["transaction"], second["after"])
    assert when(100) == first["ts_us"] == source["ts_us"]


def test_before_capture_stands_anywhere_a_row_names_no_place() -> None:
    run = Run(T)
    run.start()
    stream = run.capture.stream("db", "t")
    assert stream is not None
    run.capture.position = Position("mariadb", "s", "", "", 0)
    nowhere = stamp_of(run.capture, stream, 5, "true")
    run.capture.position = None
    assert parts(nowhere) == parts(stamp_of(run.capture, stream, 5, "true"))


def parts(stamp: Any) -> list[Any]:
    return [getattr(stamp, name) for name in dir(stamp) if not name.startswith("_") and not callable(getattr(stamp, name))]


def test_each_chunk_is_of_its_own_time() -> None:
    moments = iter(range(1, 99))
    with clock.lend(now=lambda: float(next(moments))):
        reading = Reading((1, DATE), (2, DATE), piece=1)
        reading.read()
        reading.read()
    first, second = documents(reading)
    assert first["ts_us"] < second["ts_us"]


# -- key range by key range


def test_a_whole_copy_begins_with_its_barrier_and_one_that_goes_on_or_has_a_condition_has_none() -> None:
    for after, wanted, calls in (
        ((), job(), ["open t", "barrier", "read"]),
        (("1",), job(), ["open t", "read behind 1"]),
        ((), job(WHERE, where="x"), ["open t", "read"]),
    ):
        reading = Reading((1, DATE), (2, DATE), (3, DATE), (4, DATE), after=after, wanted=wanted)
        first = reading.read()
        assert (calls, 2, reading.size(), False) == (reading.server.calls, first.rows, first.bytes, first.last)
        reading.out.clear()
        second = reading.read()
        assert (len(reading.out), reading.size(), "") == (second.rows, second.bytes, second.reason)
        assert "barrier" not in reading.server.calls[3:]


def test_all_of_a_block_is_taken() -> None:
    reading = Reading((1, DATE), (2, DATE))
    reading.read()
    assert [given - 9 for given in reading.server.given] == reading.server.used, "but for what ends it"


def test_a_condition_that_the_server_does_not_take_is_refused_and_any_other_fault_stops() -> None:
    fault = Halt("source_statement", "db.t", "no such column", "")
    reading = Reading((1, DATE), wanted=job(WHERE, where="x"))
    reading.server.fails.append(("read", fault))
    assert ("condition", "db.t") == refused(reading.read)
    for wanted, error in ((job(), fault), (job(WHERE, where="x"), Halt("shape_changed", "db.t", "", ""))):
        other = Reading((1, DATE), wanted=wanted)
        other.server.fails.append(("read", error))
        with pytest.raises(Halt) as stop:
            other.read()
        assert error is stop.value


def test_a_condition_that_fails_half_way_ends_behind_the_rows_that_came() -> None:
    reading = Reading((1, DATE), (2, DATE), (3, DATE), wanted=job(WHERE, where="x"))
    assert reading.read() == ReadChunk(("2",), 2, reading.size(), False)
    sent = len(reading.out)

    def fails() -> None:
        raise Halt("source_statement", "db.t", "division by zero", "")

    reading.server.at_read = fails
    assert reading.read() == ReadChunk(("2",), sent + 1, reading.size(), True, "condition")
    reading.rows.close()
    assert "close" == reading.server.calls[-1]
    first = Reading((1, DATE), wanted=job(WHERE, where="x"), after=("0",))
    first.server.at_read = fails
    assert first.read() == ReadChunk(("0",), 1, first.size(), True, "condition")


@pytest.mark.parametrize("kind", [WHOLE, WHERE])
def test_a_table_whose_key_has_no_order_in_text_cannot_be_walked(kind: str) -> None:
    floating = Table("db", "t", (Column("id", "float", nullable=False),), (0,))
    assert ("key_type", "column id") == refused(lambda: Reading(of=floating, wanted=job(kind)))


# -- without a key


@pytest.mark.parametrize(
    ("locks", "calls"),
    [
        (False, ["open t", "snapshot", "barrier at 700", "read", "free", "close"]),
        (True, ["open t", "lock", "read", "free", "barrier at 700", "close"]),
    ],
)
def test_a_table_without_a_key_is_read_whole_and_nothing_is_said_while_it_is_locked(locks: bool, calls: list[str]) -> None:
    """To say it can take as long as the broker is away, and writers of the table would wait for that."""
    reading = Reading(of=HEAP)
    reading.copied.run.capture.run(HandLog(transaction(1, rows(HEAP, "c", image(9), image(9)))), lambda: False, lambda *_: True)
    reading.server.rows, reading.server.exactly = [(1, DATE), (1, DATE), (2, None)], position(7)
    reading.server.locks = locks
    reading.rows = rows_of(reading.capture, reading.stream, job(), (), reading._open, 5)
    reading.server.calls[:] = ["open t"]
    before, size = reading.capture.counters.bytes, reading.size()
    chunk = reading.read()
    reading.rows.close()
    assert (calls, ("end",), 3, True) == (reading.server.calls, chunk.after, chunk.rows, chunk.last)
    used = sum(reading.server.used)
    assert (0 if locks else used) == reading.capture.counters.bytes - before, "only what no lock holds back can be sent meanwhile"
    assert chunk.bytes == reading.size() > size
    assert {None} == {record.key for record in reading.out}


@pytest.mark.parametrize("wanted", [job(WHERE, where="x"), job(KEYS, keys=(("1",),))])
def test_a_table_without_a_key_can_only_be_copied_whole(wanted: CopyJob) -> None:
    assert ("no_key", "db.t") == refused(lambda: Reading(of=HEAP, wanted=wanted))


# -- by keys


def keys(*texts: str) -> CopyJob:
    return job(KEYS, keys=tuple((text,) for text in texts))


@pytest.mark.parametrize("of", [T, STRICT])
def test_rows_by_their_keys_come_as_they_are_and_what_is_gone_as_deletes(of: Table) -> None:
    """A delete bears no row: nobody knows it any more, also of columns that are never NULL."""
    reading = Reading((2, DATE), (5, DATE), of=of, wanted=keys("1", "2", "3"))
    assert reading.read() == ReadChunk(("3",), 3, reading.size(), True)
    assert [True, True, False, True, False] == [record.value is not None for record in reading.out]
    assert [reading.out[1].key, reading.out[3].key] == [reading.out[2].key, reading.out[4].key]
    row, *deletes = documents(reading)
    assert {"id": 2, "d": 19782} == row["after"]
    assert [("d", None, None)] * 2 == [(one["op"], one["before"], one["after"]) for one in deletes]
    assert ["`id` IN (1, 2, 3)"] == reading.server.selected
    reading.rows.close()
    assert "close" == reading.server.calls[-1]


def test_keys_are_asked_for_a_number_at_a_time_and_go_on_behind_those_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdc.capture.incremental_rows.KEYS_AT_ONCE", 2)
    reading = Reading((1, DATE), (4, DATE), wanted=keys("1", "2", "3", "4", "5"), after=("1",))
    assert [(("3",), 2, False), (("5",), 2, True)] == [(one.after, one.rows, one.last) for one in (reading.read(), reading.read())]
    assert ["`id` IN (2, 3)", "`id` IN (4, 5)"] == reading.server.selected
    done = Reading(wanted=keys("1"), after=("1",))
    assert (ReadChunk(("1",), 0, 0, True), ["open t"]) == (done.read(), done.server.calls)


@pytest.mark.parametrize("text", ["x", "99999999999"])
def test_a_key_that_its_column_cannot_hold_is_refused_and_stops_nothing(text: str) -> None:
    assert ("key_text", "db.t") == refused(Reading(wanted=keys(text)).read)


def test_keys_of_another_length_or_of_types_that_have_no_text_are_refused() -> None:
    uneven = job(KEYS, keys=(("1",), ("1", "2")))
    floating = Table("db", "t", (Column("id", "float", nullable=False),), (0,))
    for of, wanted in ((T, uneven), (floating, keys("1"))):
        assert ("key_type", "db.t") == refused(lambda of=of, wanted=wanted: Reading(of=of, wanted=wanted))  # type: ignore[misc]


def test_a_key_that_its_column_s_characters_do_not_hold_is_another_one_and_is_refused() -> None:
    """The server puts question marks in place of what it lacks."""
    words = Table("db", "t", (Column("id", "varchar", nullable=False, length=9, charset="latin1"), Column("d", "date")), (0,))
    for back, expected in ((b"a?", True), ("aé".encode(), False)):
        reading = Reading(of=words, wanted=keys("aé"))
        reading.server.answers = [[(back,)], [("aé".encode("latin1"),)]]
        if expected:
            assert ("key_text", "db.t") == refused(reading.read)
        else:
            assert 1 == reading.read().rows
