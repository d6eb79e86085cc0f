"""The sink's loop over a log made by hand and a target that notes what it is asked: what is written, stored and counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cdc.codec import envelope
from cdc.errors import Halt
from cdc.model.table import Column, Table
from cdc.protocol.applied import MADE, Progress, Stored
from cdc.protocol.table_states import TableState
from cdc.runtime import timing
from sinks import apply as module
from sinks.apply import Apply, floors_above
from sinks.cuts import CutAssembler
from sinks.quarantine import QuarantineLimits
from tests.helpers.sink_by_hand import CONFLICT, DB, HEAP, P, Q, Story, Time, begun, position, state, when


@pytest.fixture(autouse=True)
def time() -> Iterator[Time]:
    with Time().lent() as moment:
        yield moment


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each cut is a batch of its own."""
    monkeypatch.setattr(module, "BATCH_ROWS", 1)


def since_base(story: Story) -> list[str]:
    """What the target was asked behind the commit of the base."""
    return story.target.calls[story.target.calls.index("commit") + 1 :]


# -- whole cuts


def test_a_cut_s_rows_and_the_place_behind_it_are_one_commit() -> None:
    story = begun()
    story.put(P, None, (1, 2))
    story.put(Q, None, (5, 6))
    story.put(P, (1, 2), (1, 3))
    story.put(HEAP, None, (1, 1))
    story.cut()
    sink = story.applied()
    assert ([(1, 3)], [(5, 6)], [(1, 1)]) == (story.rows(P), story.rows(Q), story.rows(HEAP))
    assert ["write p", "write q", "write heap", "commit"] == since_base(story)
    base, cut = story.target.commits
    assert {(one, 0): (0, 0) for one in ("p.d.p", "p.d.q", "p.d.heap")} == base.partitions
    assert {("p.d.p", 0): (2, 2), ("p.d.q", 0): (1, 1), ("p.d.heap", 0): (1, 1)} == cut.partitions
    assert (1, story.epoch, 3, position(1), when(1)) == (cut.cut_no, cut.epoch, cut.control_next, cut.position, cut.source_ts_us)
    assert {TableState.CONSISTENT} == {one.state for one in story.content.tables.values()}
    counters = sink.counters
    assert (1, when(1), 2, {"consistent": 3}) == (counters.cut_no, counters.source_ts_us, counters.commits, counters.states)
    assert {(DB, "p"): 2, (DB, "q"): 1, (DB, "heap"): 1} == counters.rows


@pytest.mark.usefixtures("one_by_one")
def test_each_commit_stores_what_moved_and_changed_since_the_last_one_and_makes_room_for_capture() -> None:
    story = begun()
    for table in (P, Q, P):
        story.put(table, None, (story.number, 2))
        story.cut()
    sink = story.applied()
    assert [{"p.d.p"}, {"p.d.q"}, {"p.d.p"}] == [{topic for topic, _ in one.partitions} for one in story.target.commits[1:]]
    assert {("p.d.p", 0): (1, 1)} == story.stored.since
    assert [{"p", "q", "heap"}, set(), set(), set()] == story.target.saved
    released = [(one[1]["p.d.p", 0], one[2]) for one in story.log.asked if one[0] == "release"]
    assert [(1, 3), (1, 4), (2, 5)] == released
    assert (4, {(DB, "p"): 2, (DB, "q"): 1}, {}) == (sink.counters.commits, sink.counters.rows, sink.counters.void)


def test_records_of_two_versions_of_a_table_are_each_written_by_their_own_schema() -> None:
    """Capture of another version began between them; what the target knew of the table says how the older ones are read."""
    for stands, rows, counted in ((TableState.CONSISTENT, [(0, 1), (1, 1), (2, 1), (3, 1)], {(DB, "p"): 4}), (TableState.REFUSED, [], {})):
        story = Story()
        key = story.log.register("k", envelope.key_schema("p", P) or {})
        old = story.log.register("v", story.schema(P, older=True))
        story.content.tables[DB, "p"] = state("p", stands, schema={MADE: True, "key_schema": key, "value_schema": old})
        story.begins()
        for number, older in enumerate((True, True, False, True)):
            story.put(P, None, (number, 1), older=older)
        story.cut()
        sink = story.applied()
        assert (rows, counted, 4 - len(rows)) == (story.rows(P), sink.counters.rows, sink.cuts.void["refused"])


def test_a_column_that_bears_another_name_in_the_target_is_stored_with_its_table() -> None:
    wide = Table(DB, "p", (Column("a" * 70, "int", nullable=False), Column("b", "int")), (0,))
    story = Story(tables=(wide, Q))
    story.begins()
    story.applied()
    renamed = story.of(P).schema["renamed"]
    assert isinstance(renamed, dict)
    assert ["a" * 70] == list(renamed)
    assert "renamed" not in story.of(Q).schema


def test_what_nobody_has_committed_when_a_sink_stops_is_undone_and_else_nothing_is() -> None:
    story = begun()
    story.put(P, None, (1, 2))
    story.cut()
    story.applied()
    assert "rollback" not in story.target.calls
    story.put(P, None, (2, 2))
    story.cut(partial=True)
    story.applied()
    assert ["bisect p", "rollback"] == story.target.calls[-2:]
    assert [(1, 2)] == story.rows(P)


def test_a_broker_that_lost_the_record_that_was_applied_last_stops_the_sink() -> None:
    story = begun(progress=Progress(1, 0, 1, position(0), when(0), mark="another"))
    story.log.before = b"{}"
    with pytest.raises(Halt) as stop:
        story.applied()
    assert "control_lost" == stop.value.code


def test_a_sink_goes_on_from_the_floors_that_are_above_what_it_has_applied() -> None:
    """A change at or below the floor of its table is in the copy."""
    states = state("p", floor=position(2)), state("q", floor=position(1)), state("heap", floor=None)
    progress = Progress(0, -1, 0, position(1), when(1))
    story = begun(*states, progress=progress)
    assert {"p.d.p": position(2)} == floors_above(stored(story), story.log)
    assert {"p.d.p": position(2), "p.d.q": position(1)} == floors_above(Stored(None, story.content.tables), story.log)


def stored(story: Story) -> Any:
    return story.target.read()


def test_a_cut_before_any_base_stops() -> None:
    sink = begun().sink()
    sink.cuts = CutAssembler(None, {}, "p.control", lambda values: [])
    with pytest.raises(Halt) as stop:
        sink._commit(sink._begin())
    assert "no_base" == stop.value.code


# -- waiting and gathering


def test_a_batch_grows_until_its_time_is_up(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large commit costs less than many small ones; nothing is waited for meanwhile."""
    for delay, grown in ((3.0, 4), (0.0, 2)):  # one comes with what is waited for, and what is at hand is never left
        story = begun()
        story.applied()
        before = time.now

        def another(story: Story = story, before: float = before) -> None:
            if story.number < 6:
                story.put(P, None, (story.number, 1))
                story.cut()
                time.now = before + story.number - 1

        story.log.at_poll = another
        monkeypatch.setattr(module, "BATCH_BYTES", 1 << 20)
        story.applied(delay=delay)
        assert grown == story.target.commits[1].cut_no
        idle = [seconds for seconds in story.log.polled if seconds]
        assert {timing.TIMES.idle_seconds} == set(idle)


def test_a_batch_grows_until_it_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    feed = CutAssembler.feed

    def fed(self: CutAssembler, messages: Any) -> None:
        feed(self, messages)
        sizes.append(self.buffered)

    monkeypatch.setattr(CutAssembler, "feed", fed)
    for exactly in (False, True):
        monkeypatch.setattr(module, "BATCH_BYTES", sizes[1] if exactly else 1 << 20)
        story = begun()
        story.applied()

        def another(story: Story = story) -> None:
            if story.number < 6:
                story.put(P, None, (story.number, 1))
                story.cut()

        story.log.at_poll = another
        sizes.clear()
        story.applied(delay=60.0)
        assert (3 if exactly else 6) == story.target.commits[1].cut_no


def test_what_is_far_ahead_of_its_cuts_is_read_no_further_and_is_when_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = {False: frozenset({("p.d.p", 0)}), True: frozenset({("p.d.q", 0)})}
    monkeypatch.setattr(CutAssembler, "ahead", lambda self, stuck: ahead[stuck])
    story = begun()
    story.applied()
    assert [ahead[False], ahead[True]] == [one[1] for one in story.log.asked if one[0] == "hold"]


def test_an_apply_needs_nothing_but_a_reader_and_a_target() -> None:
    story = begun()
    sink = Apply(story.log, story.target, stored(story))  # type: ignore[arg-type]
    assert QuarantineLimits() == sink.held_keys.limits
    sink.run(lambda: not story.log.unread(), 0.0)
    story.put(P, None, (1, 1))
    story.cut()
    story.target.fails.extend([("commit", CONFLICT)])
    Apply(story.log, story.target, stored(story)).run(lambda: not story.log.unread(), 0.0)  # type: ignore[arg-type]
    assert position(1) == story.stored.position
