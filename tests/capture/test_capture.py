"""Capture over a log that is made by hand and the in-process transport: every cut and what it names, and where it stops."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from cdc.binlog.events import Event
from cdc.capture import capture as module
from cdc.capture.capture import Capture
from cdc.capture.restart import Restart
from cdc.capture.table_stream import Log
from cdc.errors import CdcError, Halt, Retry
from cdc.model.position import Position
from cdc.model.record import RECORD_BYTES, Document, Message, Partition, Record
from cdc.model.selection import Selection
from cdc.model.table import Column, Table
from cdc.protocol.control import Anomaly, Base, Copy, Cut, Followed, Named, Start, to_document
from cdc.protocol.copy_progress import NOTHING, WHOLE, Active, Copies, Ended
from cdc.runtime import clock, timing
from cdc.transport.direct import DirectLog
from tests.helpers.logs_by_hand import (  # fmt: skip
    SECOND,
    HandLog,
    Put,
    T,
    U,
    Written,
    begin,
    commit,
    days,
    gtid,
    heartbeat,
    image,
    position,
    rows,
    statement,
    table,
    transaction,
    when,
)

TOPIC, OTHER = "p.db.t", "p.db.u"
P, Q, R = (TOPIC, 0), (TOPIC, 1), (OTHER, 0)
FULL_CUT_SECONDS, NEAR_US = timing.TIMES.full_cut_seconds, timing.TIMES.near_us
COPIES = Copies(2, 3, ("db", "t"), True, Active("a", "r", "db", "t", WHOLE, ("17",), 4))


@dataclass
class Time:
    """This machine's clocks; both stand still unless they are moved."""

    now: float = when(0) / SECOND
    monotonic: float = 1000.0


@pytest.fixture(autouse=True)
def time() -> Iterator[Time]:
    moment = Time()
    with clock.lend(now=lambda: moment.now, monotonic=lambda: moment.monotonic, fresh_id=lambda: "fresh"):
        yield moment


class Run:
    """One capture and what it wrote."""

    def __init__(self, *tables: Table, log: DirectLog | None = None, partitions: int = 1, **more: Any) -> None:
        self.log = log or DirectLog("p", partitions=partitions)
        self.capture = Capture(self.log, "p", "mariadb", "0.1", tables or (T, U), **more)
        self.written = Written(self.log, *tables)

    def start(self, restart: Restart | None = None, selects: Callable[[str, str], bool] | None = None) -> list[Any]:
        """Starts where `restart` says, else before everything; what was written."""
        self.capture.start(lambda: Restart(position(0), when(0)), restart, selects)
        return self.written.all()

    def follow(self, *events: Event | list[Event], stopped: Callable[[], bool] = lambda: False, **log: Any) -> list[Any]:
        """Follows these events; what was written."""
        flat = [one for each in events for one in (each if isinstance(each, list) else [each])]
        made: Log = HandLog(flat, **log)
        self.capture.run(made, stopped, SELECTED)
        return self.written.all()

    def stops(self, *events: Event | list[Event], **log: Any) -> tuple[CdcError, list[Any]]:
        """The same for a log that cannot be followed to its end."""
        with pytest.raises(CdcError) as stop:
            self.follow(*events, **log)
        return stop.value, self.written.all()


SELECTED = Selection(["db.*"])


def begun(*tables: Table, **more: Any) -> Run:
    run = Run(*tables, **more)
    run.start()
    return run


def cuts(found: list[Any]) -> list[Cut]:
    return [one for one in found if isinstance(one, Cut)]


def puts(found: list[Any]) -> list[Put]:
    return [one for one in found if isinstance(one, Put)]


def one_row(number: int, of: Table = T) -> list[Event]:
    return transaction(number, rows(of, "c", image(number), number=number))


# -- the start of an epoch


def test_an_epoch_begins_with_its_start_its_base_and_a_full_cut() -> None:
    run = Run(T, U, partitions=2, pipeline="od")
    start, base, cut = run.start()
    assert Start("fresh", when(0) // 1000, "od") == start
    ends = {P: 0, Q: 0, R: 0, (OTHER, 1): 0}
    followed = (Followed("db", "t", TOPIC, 2, 1, 2), Followed("db", "u", OTHER, 2, 3, 4))
    assert Base(0, 0, position(0), when(0), False, ends, {}, followed) == base
    assert Cut(0, 1, position(0), when(0), True, False, {}, (), (("db", "t"), ("db", "u"))) == cut
    counters = run.capture.counters
    assert (0, position(0), when(0), 1, 1) == (
        counters.epoch, counters.position, counters.source_ts_us, counters.cut_no, counters.cuts,
    )  # fmt: skip
    assert when(0) == counters.published_ts_us
    assert (0, 2, ["t", "u"]) == (run.capture.epoch, run.capture.next_cut, [one.table.name for one in run.capture.streams()])
    assert (T, None) == (run.capture.stream("db", "t").table, run.capture.stream("db", "x"))  # type: ignore[union-attr]


def test_an_epoch_goes_on_from_the_numbers_the_cut_and_the_copies_of_its_restart(time: Time) -> None:
    time.now = when(4) / SECOND
    named = {P: Named(7, 3, 11), R: Named(4, 3, 6), ("p.db.gone", 0): Named(1, 3, 2)}
    log = DirectLog("p", first_control=40)
    log._ends |= {P: 8, R: 5}
    run = Run(log=log)
    restart = Restart(position(5), when(4), 9, named, copies=COPIES, followed=frozenset({("db", "u")}))
    _, base, cut = run.start(restart)
    mine = {P: Named(7, 3, 11), R: Named(4, 3, 6)}
    assert (40, 9, position(5), when(4), mine, COPIES) == (
        base.epoch, base.cut_no, base.position, base.source_ts_us, base.named, base.copies,
    )  # fmt: skip
    assert ((("db", "t"),), ()) == (base.uncopied, base.gone)
    assert (10, mine, (("db", "u"),)) == (cut.cut_no, cut.partitions, cut.followed)
    found = run.follow(one_row(6))
    assert [12] == [put.seq for put in puts(found)]
    assert [11] == [cut.cut_no for cut in cuts(found)]


def test_what_was_followed_and_is_gone_is_told_and_its_rows_stop() -> None:
    run = Run(T)
    restart = Restart(position(5), when(5), 1, followed=frozenset({("db", "t"), ("db", "x"), ("other", "y")}))
    _, base, cut = run.start(restart, lambda db, name: db == "db")
    assert ((), (("db", "x"),)) == (base.uncopied, base.gone)
    assert (("db", "t"), ("db", "x")) == cut.followed
    wanted = [run.capture.wants(*name) for name in (("db", "t"), ("db", "x"), ("other", "y"), ("db", "new"))]
    assert [True, True, False, False] == wanted
    stop, found = run.stops(one_row(6), begin(7), rows(table("x"), "c", image(1)), busy=True)
    assert ("table_gone", "db.x") == (stop.code, stop.place)
    assert [(position(6), False)] == [(cut.position, cut.partial) for cut in cuts(found)], "everything before it is published"


def test_a_stop_in_the_middle_of_a_transaction_leaves_no_cut_in_it() -> None:
    run = Run(T)
    run.start(Restart(position(5), when(5), 1, followed=frozenset({("db", "t"), ("db", "x")})), SELECTED.wants)
    for last in (rows(table("x"), "c", image(1)), statement("DROP TABLE t")):
        _, found = run.stops(begin(6), rows(T, "c", image(1)), last)
        assert [] == cuts(found)


def test_a_copy_through_the_topics_begins_without_a_cut() -> None:
    """Its cuts are partial until the log is followed to where the copy was read."""
    run = Run(T)
    found = run.start(Restart(position(0), when(0), copying=True))
    assert [Start, Base] == [type(one) for one in found]
    assert found[1].copying
    run.capture.copied_all(position(2))
    assert [True] == [cut.partial for cut in cuts(run.written.all())]
    assert [(True, 1), (False, 2)] == [(c.partial, c.position.offset // 100) for c in cuts(run.follow(one_row(1), one_row(2)))]


@pytest.mark.parametrize(("ends", "goes_on"), [(None, False), ({P: 0, Q: 0}, True), ({P: 0}, False), ({P: 1, Q: 0}, False)])
def test_records_without_a_cut_stop_unless_a_base_found_their_partitions_empty(ends: dict[Partition, int] | None, goes_on: bool) -> None:
    """Two captures that start at once leave this: a base that is void, because the other's start stands before it."""
    log = DirectLog("p", partitions=2)
    for name in "ab":
        log.append_control("start", to_document(Start(name, 0)))
    if ends is not None:
        log.append_control("base", to_document(Base(0, 0, position(0), 0, False, ends, {}, ())))
    log.prepare(TOPIC)
    log.send(TOPIC, [Record(p, b"k", b"v") for p in (0, 0, 1)])
    log.flush()
    capture = Capture(log, "p", "mariadb", "0.1", (T,))
    if goes_on:
        capture.start(lambda: Restart(position(7)))
        assert position(7) == capture.position
        return
    with pytest.raises(Halt) as stop:
        capture.start(lambda: Restart(position(7)))
    assert ("no_cut", "topics p.*") == (stop.value.code, stop.value.place)


def test_an_epoch_goes_on_from_what_the_topics_hold_and_asks_nobody_else() -> None:
    log = DirectLog("p")
    first = begun(T, log=log)
    first.follow(one_row(1))
    again = Capture(Held(log), "p", "mariadb", "0.1", (T,))
    restart = again.start(lambda: pytest.fail("it is known"))
    assert (position(1), 2, {P: Named(0, 0, 1)}, (position(1),)) == (restart.position, restart.cut_no, restart.named, restart.reached)
    given = Capture(Held(log), "p", "mariadb", "0.1", (T,)).start(lambda: pytest.fail("it is given"), Restart(position(5)))
    assert position(5) == given.position


class Held(DirectLog):
    """A transport that holds what an earlier epoch wrote, as a broker does."""

    def __init__(self, log: DirectLog) -> None:
        self.__dict__ = log.__dict__

    def holds(self, partition: Partition, offset: int, epoch: int, seq: int) -> bool:
        return True


# -- records


def test_each_row_of_a_transaction_is_a_record_with_its_numbers_and_its_place_in_it() -> None:
    run = begun()
    events = [
        rows(T, "c", image(1), image(2, None), offset=10),
        rows(U, "u", image(3), image(3, "2024-03-01"), offset=20),
        rows(T, "d", image(4), offset=30),
    ]
    found = run.follow(transaction(1, *events), one_row(2, U))
    said = [(p.place, p.epoch, p.seq, p.op, p.key, p.id, p.order) for p in puts(found)]
    assert [
        (("t", 0, 0), 0, 1, "c", 1, gtid(1), (1, 1)),
        (("t", 0, 1), 0, 2, "c", 2, gtid(1), (2, 2)),
        (("t", 0, 2), 0, 3, "d", 4, gtid(1), (4, 3)),
        (("u", 0, 0), 0, 1, "u", 3, gtid(1), (3, 1)),
        (("u", 0, 1), 0, 2, "c", 2, gtid(2), (1, 1)),
    ] == sorted(said)
    first = next(p.document for p in puts(found) if p.place == ("t", 0, 0))
    source = first["source"]
    assert ({"id": 1, "d": days("2024-02-29")}, when(1), when(0)) == (first["after"], source["ts_us"], first["ts_us"])
    assert ("0.1", "mariadb", "p", "false", "db", "t", 5, gtid(1), "b.000001", 10) == tuple(
        source[name] for name in ("version", "connector", "name", "snapshot", "db", "table", "server_id", "gtid", "file", "pos")
    )
    counters = run.capture.counters
    assert (5, 2, when(2)) == (counters.rows, counters.transactions, counters.source_ts_us)
    assert 5 * len(image(1)) + len(image(2, None)) == counters.bytes


def test_a_transaction_without_a_gtid_is_named_by_its_place() -> None:
    run = begun()
    opened = begin(1)
    opened.transaction = "file=b.000001,pos=100"
    (put,) = puts(run.follow(opened, rows(T, "c", image(1)), commit(1)))
    assert ("file=b.000001,pos=100", None) == (put.id, put.document["source"]["gtid"])


def test_keys_are_spread_over_the_partitions_and_numbered_in_each() -> None:
    run = begun(partitions=2)
    found = run.follow(transaction(1, rows(T, "c", *map(image, range(20)))))
    for partition in (0, 1):
        seqs = [put.seq for put in puts(found) if put.place[1] == partition]
        assert seqs
        assert list(range(1, len(seqs) + 1)) == seqs
    keys = {message.key[:5] for message in again(run.log) if message.topic == TOPIC and message.key}
    assert {b"\0\0\0\0\1"} == keys, "framed with the number of their own schema"
    (cut,) = cuts(found)
    assert {(TOPIC, p): Named(n - 1, 0, n) for p in (0, 1) if (n := sum(put.place[1] == p for put in puts(found)))} == cut.partitions


def again(log: DirectLog) -> list[Message]:
    """All that was written, from the first record on."""
    log.assign({}, log._released[log.control_topic, 0])
    return log.poll(0)


# -- cuts


def test_a_cut_names_every_partition_that_changed_since_the_last_full_one() -> None:
    run = begun()
    first, second, third = (cuts(run.follow(one_row(n, of)))[0] for n, of in ((1, T), (2, U), (3, T)))
    assert {P: Named(0, 0, 1)} == first.partitions
    assert {P: Named(0, 0, 1), R: Named(0, 0, 1)} == second.partitions
    assert {P: Named(1, 0, 2), R: Named(0, 0, 1)} == third.partitions
    assert [(2, position(1), when(1)), (3, position(2), when(2)), (4, position(3), when(3))] == [
        (cut.cut_no, cut.position, cut.source_ts_us) for cut in (first, second, third)
    ]
    assert [(False, False, ())] * 3 == [(cut.full, cut.partial, cut.followed) for cut in (first, second, third)]


def test_once_a_minute_a_cut_is_full_and_the_next_names_only_what_changed_since(time: Time) -> None:
    run = begun()
    run.follow(one_row(1, U))
    time.monotonic += FULL_CUT_SECONDS
    (cut,) = cuts(run.follow(one_row(2)))
    assert not cut.full, "not before it is over"
    time.monotonic += 0.001
    (full,) = cuts(run.follow(one_row(3)))
    assert (True, {P: Named(1, 0, 2), R: Named(0, 0, 1)}, (("db", "t"), ("db", "u"))) == (full.full, full.partitions, full.followed)
    (after,) = cuts(run.follow(one_row(4)))
    assert (False, {P: Named(2, 0, 3)}) == (after.full, after.partitions)
    time.monotonic += FULL_CUT_SECONDS
    assert not cuts(run.follow(heartbeat(4)))[0].full
    time.monotonic += 1
    assert cuts(run.follow(heartbeat(4)))[0].full


def test_every_record_that_a_cut_names_stands_before_it() -> None:
    run = begun()
    found = run.follow(one_row(1), one_row(2), heartbeat(2))
    assert ["Put", "Cut", "Put", "Cut", "Cut"] == [type(one).__name__ for one in found]


def test_a_log_that_goes_on_is_cut_as_often_as_the_clock_says(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    """And an idle one at once."""
    run = begun()
    monkeypatch.setattr(timing, "TIMES", replace(timing.TIMES, cut_seconds=0.5))  # a number that a float holds exactly
    assert [3] == [cut.position.offset // 100 for cut in cuts(run.follow(one_row(1), one_row(2), one_row(3), busy=True))]
    time.monotonic += 0.5
    assert [5] == [cut.position.offset // 100 for cut in cuts(run.follow(one_row(4), one_row(5), busy=True))]
    time.monotonic += 0.5 + 0.125
    assert [6, 7] == [cut.position.offset // 100 for cut in cuts(run.follow(one_row(6), one_row(7), busy=True))]


def test_a_torn_transaction_has_no_cut() -> None:
    run = begun()
    found = run.follow(one_row(1), begin(2), rows(T, "c", image(2)))
    assert [position(1)] == [cut.position for cut in cuts(found)]
    assert position(1) == run.capture.position


def test_a_heartbeat_is_a_cut_between_transactions_and_nothing_inside_one() -> None:
    run = begun()
    (cut,) = cuts(run.follow(heartbeat(1, when(1) + 250)))
    assert (position(1), when(1) + 250, {}, False) == (cut.position, cut.source_ts_us, cut.partitions, cut.partial)
    assert [] == cuts(run.follow(begin(2), heartbeat(2), rows(T, "c", image(1))))
    assert position(1) == run.capture.position


def test_whoever_is_told_to_stop_ends_behind_the_event_at_hand() -> None:
    run = begun()
    asked = iter([False, False, True])
    found = run.follow(one_row(1), one_row(2), stopped=lambda: next(asked))
    assert [position(1)] == [cut.position for cut in cuts(found)]


@pytest.mark.parametrize(
    ("ts_us", "clock_us", "expected"),
    [
        (5 * SECOND, 5 * SECOND, 5 * SECOND),
        (5 * SECOND, 5 * SECOND + 999_999, 5 * SECOND + 999_999),
        (5 * SECOND, 6 * SECOND, 5 * SECOND),
        (5 * SECOND, 5 * SECOND - 1, 5 * SECOND - 1),  # never beyond the source's clock
        (5 * SECOND + 1, 5 * SECOND + 900_000, 5 * SECOND + 1),
        (5 * SECOND + 999_999, 6 * SECOND, 5 * SECOND + 999_999),
    ],
)
def test_a_commit_time_in_whole_seconds_is_refined_within_its_second_only(ts_us: int, clock_us: int, expected: int) -> None:
    run = begun()
    found = run.follow(begin(1), rows(T, "c", image(1)), commit(1, ts_us), source_us=clock_us)
    assert [expected] == [cut.source_ts_us for cut in cuts(found)]
    assert expected == run.capture.counters.source_ts_us


def test_a_commit_time_is_not_refined_where_more_waits_behind_it(time: Time) -> None:
    run = begun()
    time.monotonic += 1
    found = run.follow(begin(1), commit(1), heartbeat(2, when(1) + 300), busy=True, source_us=when(1) + 400)
    assert [when(1), when(1) + 300] == [cut.source_ts_us for cut in cuts(found)]


def test_values_that_could_not_be_kept_travel_in_the_next_cut_once_and_are_counted() -> None:
    run = begun()
    (first,) = cuts(run.follow(transaction(1, rows(T, "c", image(1, ""), image(2, ""), image(3)))))
    (anomaly,) = first.anomalies
    assert ("db", "t", "d", 2) == (anomaly.db, anomaly.table, anomaly.column, anomaly.times)
    (second,) = cuts(run.follow(transaction(2, rows(T, "c", image(4, "")))))
    assert [Anomaly(*anomaly[:4], 1)] == list(second.anomalies)
    assert () == cuts(run.follow(one_row(3)))[0].anomalies
    assert {anomaly[:4]: 3} == run.capture.counters.anomalies


def test_images_of_some_columns_bear_a_schema_of_their_own_and_what_they_lose_is_counted_too() -> None:
    """Registered once for each set of columns; an update of which the row before is not known has none."""
    run = begun()
    known = len(run.log._schemas)
    for number in (1, 2):
        event = replace(rows(T, "p", image(number, "")), columns=(0, 1))
        put, cut = run.follow(transaction(number, event))
        assert isinstance(put, Put)
        assert ("u", None, {"id": number, "d": None}) == (put.op, put.document["before"], put.document["after"])
        assert [1] == [anomaly.times for anomaly in cuts([cut])[0].anomalies]
    [made] = list(run.log._schemas)[known:]
    assert '"cdc.partial": "1"' in made


class Losing(DirectLog):
    """A broker that answers for its last record with an offset of our choice."""

    offset: int | None = None

    def flush(self) -> Mapping[Partition, int]:
        done = super().flush()
        return done if self.offset is None else dict.fromkeys(done, self.offset)


@pytest.mark.parametrize(("offset", "lost"), [(0, True), (1, True), (2, False)])
def test_a_record_that_lands_where_one_was_acknowledged_was_lost(offset: int, lost: bool) -> None:
    """At or below what the last cut names."""
    log = Losing("p")
    run = begun(T, log=log)
    run.follow(one_row(1), one_row(2))
    log.offset = offset
    if not lost:
        assert [Named(2, 0, 3)] == [named for cut in cuts(run.follow(one_row(3))) for named in cut.partitions.values()]
        return
    stop, found = run.stops(one_row(3))
    assert ("records_lost", Retry, "p.db.t:0", []) == (stop.code, type(stop), stop.place, cuts(found))


@pytest.mark.parametrize(("offset", "lost"), [(4, True), (5, False)])
def test_a_record_that_lands_below_where_the_epoch_began_was_lost(offset: int, lost: bool) -> None:
    log = Losing("p")
    log.prepare(TOPIC)
    log._ends[P] = 5
    run = Run(T, log=log)
    run.capture.start(lambda: Restart(position(0)), Restart(position(0)))
    log.offset = offset
    if lost:
        assert "records_lost" == run.stops(one_row(1))[0].code
    else:
        assert [Named(5, 0, 1)] == [named for cut in cuts(run.follow(one_row(1))) for named in cut.partitions.values()]


# -- statements and shapes


def test_a_statement_that_cannot_be_followed_stops_behind_a_cut_of_everything_before_it() -> None:
    run = begun()
    stop, found = run.stops(one_row(1), one_row(2), begin(3), statement("ALTER TABLE t ADD x INT", 3), busy=True)
    assert ("statement_unsupported", f"db.t at {gtid(3)}") == (stop.code, stop.place)
    assert [position(2)] == [cut.position for cut in cuts(found)]


def test_a_statement_that_concerns_nobody_is_passed() -> None:
    found = begun().follow(statement("ALTER TABLE other.x ADD y INT"), statement("CREATE TABLE x (a INT)", db="elsewhere"), heartbeat(1))
    assert [position(1)] == [cut.position for cut in cuts(found)]


def test_rows_of_another_shape_stop() -> None:
    run = begun()
    wider = Table("db", "t", (*T.columns, Column("more", "int")), (0,))
    stop, _ = run.stops(begin(1), rows(T, "c", image(1), shape=wider))
    assert ("schema_changed", "db.t") == (stop.code, stop.place)


# -- what is too large for one piece


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row is sent at once, and three of them are a piece."""
    monkeypatch.setattr(module, "SEND_BYTES", 0)
    monkeypatch.setattr(module, "PARTIAL_BYTES", 2 * RECORD_BYTES + 3 * len(image(1)))


@pytest.mark.usefixtures("pieces")
def test_a_large_transaction_passes_in_pieces_that_are_no_place_to_begin_again() -> None:
    run = begun(T, Table("db", "u", U.columns, (0,)))
    found = run.follow(one_row(1), transaction(2, *(rows(T, "c", image(n), number=2) for n in range(7))), heartbeat(2))
    assert [(1, False, 1), (1, True, 4), (1, True, 7), (2, False, 8), (2, False, 8)] == [
        (cut.position.offset // 100, cut.partial, cut.partitions[P].seq) for cut in cuts(found)
    ]
    assert [when(1), when(1), when(1)] == [cut.source_ts_us for cut in cuts(found)[:3]]
    assert [False] * 5 == [cut.full for cut in cuts(found)]
    assert [(n, n) for n in range(1, 8)] == [put.order for put in puts(found) if put.id == gtid(2)], "one transaction all along"


def test_records_are_sent_when_enough_of_them_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEND_BYTES", 2 * len(image(1)))
    run = begun()
    events: list[Event] = [begin(1), *(rows(T, "c", image(n)) for n in range(7))]
    sent = [len(puts(run.follow(event))) for event in events]
    assert [0, 0, 0, 3, 0, 0, 3, 0] == sent


@pytest.mark.usefixtures("pieces")
def test_no_piece_is_full_and_a_cut_at_rest_does_not_believe_it(time: Time) -> None:
    run = begun()
    time.monotonic += FULL_CUT_SECONDS + 1
    found = run.follow(begin(1), *(rows(T, "c", image(n)) for n in range(3)))
    assert [(True, False)] == [(cut.partial, cut.full) for cut in cuts(found)]
    assert position(0) == run.capture.cut_at_rest()
    assert [(False, True)] == [(cut.partial, cut.full) for cut in cuts(run.written.all())]


# -- copies


@dataclass
class Asked:
    """Copies that note when they are asked."""

    calls: list[str] = field(default_factory=list)
    copies: Copies = NOTHING
    ended: tuple[Ended, ...] = ()

    def turn(self, log: Log) -> None:
        self.calls.append("turn")

    def closed(self) -> None:
        self.calls.append("closed")

    def set_back(self, names: Collection[tuple[str, str]]) -> None:
        self.calls.append("set_back")

    def said(self) -> tuple[Copies, tuple[Ended, ...]]:
        ended, self.ended = self.ended, ()
        return self.copies, ended


def copying(**more: Any) -> tuple[Run, Asked]:
    run = begun(**more)
    run.capture.copying = asked = Asked()
    return run, asked


def test_a_copy_has_its_turn_at_an_idle_log_s_end() -> None:
    run, asked = copying()
    run.follow(one_row(1), heartbeat(1))
    assert ["turn", "turn"] == asked.calls
    run.follow(begin(2), heartbeat(2))
    assert ["turn", "turn"] == asked.calls, "not in a transaction"


@pytest.mark.parametrize(("age_us", "turns"), [(NEAR_US - 1, 2), (NEAR_US, 1), (NEAR_US + 1, 1)])
def test_a_copy_has_its_turn_behind_young_transactions_although_more_has_come(age_us: int, turns: int) -> None:
    run, asked = copying()
    run.follow(begin(1), commit(1), begin(1), commit(1), busy=True, source_us=when(1) + age_us)
    assert ["turn"] * turns == asked.calls


def test_no_cut_is_written_in_a_window_and_the_one_that_closes_it_is_whole() -> None:
    run, asked = copying()
    asked.copies = COPIES
    run.capture.copied(100)
    run.capture.read_until(position(3))
    assert [] == run.written.all()
    found = run.follow(one_row(1), heartbeat(2))
    assert ([], []) == (cuts(found), asked.calls)
    (cut,) = cuts(run.follow(one_row(3)))
    assert (False, position(3), COPIES, {P: Named(1, 0, 2)}) == (cut.partial, cut.position, cut.copies, cut.partitions)
    assert ["closed", "turn"] == asked.calls
    assert 100 + 2 * len(image(1)) == run.capture.counters.bytes


def test_a_window_that_needs_nothing_of_the_log_closes_at_once() -> None:
    run, asked = copying()
    run.follow(one_row(2))
    asked.calls.clear()
    run.capture.read_until(position(2))
    (cut,) = cuts(run.written.all())
    assert (["closed"], False, position(2)) == (asked.calls, cut.partial, cut.position)


@pytest.mark.usefixtures("pieces")
def test_what_is_too_large_in_a_window_passes_in_pieces() -> None:
    run, asked = copying()
    asked.copies = COPIES
    run.capture.read_until(position(2))
    found = run.follow(transaction(1, *(rows(T, "c", image(n)) for n in range(4))), one_row(2))
    assert [(True, NOTHING, 3), (False, COPIES, 5)] == [(cut.partial, cut.copies, cut.partitions[P].seq) for cut in cuts(found)]


def test_the_cut_with_which_a_copy_ends_is_full_and_says_so_once() -> None:
    run, asked = copying()
    run.follow(one_row(1, U))
    asked.copies, asked.ended = COPIES, (Ended("r", "db", "t", WHOLE, "done", 5),)
    run.capture.followings.uncopied = {("db", "u")}
    first, second = (cuts(run.follow(one_row(n)))[0] for n in (2, 3))
    assert ((Ended("r", "db", "t", WHOLE, "done", 5),), True, {P: Named(0, 0, 1), R: Named(0, 0, 1)}) == (
        first.ended, first.full, first.partitions,
    )  # fmt: skip
    assert (("db", "t"),) == first.followed
    assert ((), False, COPIES, {P: Named(1, 0, 2)}) == (second.ended, second.full, second.copies, second.partitions)


def test_what_a_base_said_of_copies_is_said_on_while_nobody_copies() -> None:
    run = Run()
    _, base, cut = run.start(Restart(position(1), copies=COPIES))
    assert (COPIES, COPIES) == (base.copies, cut.copies)
    assert [COPIES] == [cut.copies for cut in cuts(run.follow(one_row(2)))]


def test_the_log_cannot_be_left_with_a_window_open() -> None:
    for last in (statement("DROP TABLE t"), rows(table("x"), "c", image(1))):
        run, _ = copying()
        run.capture.followings.gone = frozenset({("db", "x")})
        run.capture.read_until(position(9))
        stop, found = run.stops(one_row(1), last)
        assert ("window_torn", Retry, []) == (stop.code, type(stop), cuts(found))


def test_a_cut_at_rest_is_written_unless_one_stands_there_already() -> None:
    run, _ = copying()
    run.follow(one_row(1), one_row(2), busy=True)
    assert (position(2), []) == (run.capture.cut_at_rest(), run.written.all())
    run.follow(begin(3), commit(3), begin(4), busy=True)
    assert (position(3), [position(3)]) == (run.capture.cut_at_rest(), [cut.position for cut in cuts(run.written.all())])
    assert (position(3), []) == (run.capture.cut_at_rest(), run.written.all())


def test_a_barrier_bears_the_number_of_the_cut_that_comes_next() -> None:
    run, _ = copying()
    copy = Copy(run.capture.epoch, run.capture.next_cut, "db", "t", position(0), "id")
    run.capture.announce(copy)
    assert [copy] == run.written.all()
    assert [copy.cut_no] == [cut.cut_no for cut in cuts(run.follow(heartbeat(1)))]


# -- tables that were listed later than the log begins


def test_rows_of_an_added_table_from_before_it_was_listed_are_in_its_copy() -> None:
    run = Run(listed_at=position(2))
    run.start(Restart(position(0), followed=frozenset({("db", "t")})))
    run.capture.copying = asked = Asked()
    found = run.follow(one_row(1, U), one_row(1), heartbeat(1))
    assert ([("t", 1)], []) == ([(put.place[0], put.key) for put in puts(found)], asked.calls), "and no copy begins before it is read"
    assert [("u", 3)] == [(put.place[0], put.key) for put in puts(run.follow(heartbeat(2), one_row(3, U)))]
    assert ["turn", "turn"] == asked.calls


def test_a_statement_from_before_the_tables_were_listed_concerns_those_that_were_followed() -> None:
    run = Run(listed_at=position(2))
    run.start(Restart(position(0), followed=frozenset({("db", "t")})))
    run.follow(statement("CREATE TABLE x (a INT)"), statement("ALTER TABLE u ADD x INT"))
    stop, _ = run.stops(statement("ALTER TABLE t ADD x INT"))
    assert "statement_unsupported" == stop.code
    stop, _ = run.stops(heartbeat(2), statement("CREATE TABLE x (a INT)"))
    assert "statement_unsupported" == stop.code


def test_a_selection_without_a_table_stops_once_the_log_says_that_nothing_is_to_come() -> None:
    log = DirectLog("p")
    capture = Capture(log, "p", "mariadb", "0.1", (), listed_at=position(2))
    capture.start(lambda: Restart(position(0)))
    early: Log = HandLog([heartbeat(1)])
    capture.run(early, lambda: False, SELECTED)
    late: Log = HandLog([heartbeat(2)])
    with pytest.raises(Halt) as stop:
        capture.run(late, lambda: False, SELECTED)
    assert "no_tables" == stop.value.code


def test_positions_of_another_server_are_written_as_they_are() -> None:
    there = Position("mariadb", "other", "0-2-9", "c.000001", 4)
    run = Run()
    _, base, cut = run.start(Restart(there))
    assert (there, there) == (base.position, cut.position)


# -- what the writer is asked


class Noting(DirectLog):
    """Notes what it is asked, in order."""

    def __init__(self, prefix: str, **more: Any) -> None:
        super().__init__(prefix, **more)
        self.calls: list[str] = []

    def append_control(self, key: str, document: Document, *, wait: bool = True) -> int:
        self.calls.append(f"{document['type']}{' and wait' if wait else ''}")
        return super().append_control(key, document, wait=wait)

    def flush(self) -> Mapping[Partition, int]:
        self.calls.append("flush")
        return super().flush()


def test_what_an_epoch_stands_on_is_waited_for_and_a_cut_is_not() -> None:
    log = Noting("p", first_control=40)
    run = begun(T, log=log)
    assert ["start and wait", "base and wait", "flush", "cut"] == log.calls
    assert 40 == run.capture.epoch == run.capture.counters.epoch
    log.calls.clear()
    run.follow(one_row(1))
    run.capture.announce(Copy(40, run.capture.next_cut, "db", "t", position(1), "id"))
    assert ["flush", "cut", "copy and wait"] == log.calls
    run.capture.cut_at_rest()
    assert "flush" == log.calls[-1], "the cut that stands there is acknowledged"


@pytest.mark.parametrize("last", [statement("DROP TABLE t", 3), rows(table("x"), "c", image(1), number=3)])
def test_the_cut_before_a_stop_is_acknowledged_before_it(last: Event) -> None:
    log = Noting("p")
    run = begun(T, log=log)
    run.capture.followings.gone = frozenset({("db", "x")})
    run.stops(one_row(1), one_row(2), begin(3), last, busy=True)
    assert ["flush", "cut", "flush"] == log.calls[-3:]


def test_the_first_cut_is_full_however_young_the_machine_is(time: Time) -> None:
    time.monotonic = 0.25
    assert [True] == [cut.full for cut in cuts(Run(T).start())]


def test_a_copy_through_the_topics_is_counted_from_where_it_begins(time: Time) -> None:
    time.now = when(3) / SECOND
    run = Run(T, log=DirectLog("p", first_control=40))
    run.start(Restart(position(3), when(3), copying=True))
    counters = run.capture.counters
    assert (40, position(3), when(3), 0) == (counters.epoch, counters.position, counters.source_ts_us, counters.cuts)


def test_a_cut_that_time_makes_full_is_full_also_while_copies_are_made(time: Time) -> None:
    run, _ = copying()
    time.monotonic += FULL_CUT_SECONDS + 1
    assert [True, False] == [cut.full for cut in cuts(run.follow(one_row(1), one_row(2)))]
    assert 3 == run.capture.counters.cuts


def test_a_table_without_a_key_has_no_key_s_schema_and_its_records_no_key() -> None:
    heap = Table("db", "t", T.columns)
    run = Run(heap)
    _, base, _ = run.start()
    assert (Followed("db", "t", TOPIC, 1, None, 1),) == base.tables
    run.log.assign({}, run.log._ends[run.log.control_topic, 0])
    run.capture.run(HandLog(transaction(1, rows(heap, "c", image(1)))), lambda: False, SELECTED)
    assert [None] == [message.key for message in run.log.poll(0) if message.topic == TOPIC]


@pytest.mark.parametrize(("limit", "pieces_at"), [(3, [4]), (3.5, [4]), (4, [5]), (1, [2, 4, 6])])
def test_a_piece_ends_with_the_row_that_makes_it_too_large(monkeypatch: pytest.MonkeyPatch, limit: float, pieces_at: list[int]) -> None:
    """Counted by their bytes until they are sent."""
    monkeypatch.setattr(module, "PARTIAL_BYTES", int(limit * len(image(1))))
    monkeypatch.setattr(module, "RECORD_BYTES", 0)
    run = begun(T)
    found = run.follow(begin(1), *(rows(T, "c", image(n)) for n in range(7)))
    assert pieces_at == [cut.partitions[P].seq for cut in cuts(found)]


def test_records_that_are_sent_weigh_more_than_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEND_BYTES", 0)
    monkeypatch.setattr(module, "PARTIAL_BYTES", 2 * RECORD_BYTES + 2 * len(image(1)) - 1)
    run = begun(T)
    found = run.follow(begin(1), *(rows(T, "c", image(n), image(n + 1)) for n in (1, 3)))
    assert [2, 4] == [cut.partitions[P].seq for cut in cuts(found)]


@dataclass
class Broken(HandLog):
    """A log whose last event is one that nobody can read, and of which more has arrived."""

    def pending(self) -> bool:
        return True

    def __iter__(self) -> Iterator[Event]:
        yield from self.events
        raise Halt("incident", "b.000001", "the server lost events", "copy again")


@pytest.mark.parametrize(("torn", "ends"), [(False, [2]), (True, [])])
def test_where_the_log_cannot_be_read_further_everything_before_is_published(torn: bool, ends: list[int]) -> None:
    """But no cut stands within a transaction: what is whole before it is read again."""
    run = begun(T)
    events = [*one_row(1), *one_row(2)]
    with pytest.raises(Halt):
        run.capture.run(Broken(events[:-1] if torn else events), lambda: False, SELECTED)
    assert ends == [cut.position.offset // 100 for cut in cuts(run.written.all()) if not cut.partial]
