"""What people ask of capture: which signals are understood, what becomes of the others, and what a restart still has to do."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cdc.capture.incremental_queue import Queue
from cdc.capture.incremental_snapshot import IncrementalSnapshot
from cdc.capture.restart import Restart
from cdc.model.position import Position
from cdc.protocol.copy_progress import DONE, KEYS, REFUSED, STOPPED, WHERE, WHOLE, Active, Copies
from cdc.protocol.signals import BadSignal, Channel, execute, understood

FOLLOWED = [("db", "a"), ("db", "b"), ("other", "a")]
AT = Position("mariadb", "s", "0-1-1", "b.000001", 4)
SECRET = "Jane Doe"


def signal(type_: str, data: Any = None, **more: Any) -> bytes:
    return json.dumps({"id": "x", "type": type_, "data": data, **more}).encode()


def collections(*names: str, **more: Any) -> dict[str, Any]:
    return {"data-collections": list(names), **more}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"[" * 100_000, "not_json"),
        (json.dumps({"id": "\ud800", "type": "execute-snapshot", "data": {}}).encode(), "not_json"),
        (json.dumps({"id": "a\0b", "type": "pause-snapshot"}).encode(), "id_malformed"),
        (json.dumps({"id": "i", "type": "execute-snapshot", "data": "[" * 100_000}).encode(), "data_malformed"),
        (json.dumps({"id": "i", "type": "execute-snapshot", "data": json.dumps({"data-collections": ["\ud800"]})}).encode(),
         "data_malformed"),
        (json.dumps({"id": "i", "type": "execute-snapshot", "data": {"data-collections": ["a{99999999999}"]}}).encode(), "not_followed"),
        (json.dumps({"id": "i", "type": "stop-snapshot", "data": {"data-collections": ["(" * 5000 + ")" * 5000]}}).encode(),
         "not_followed"),
    ],
)  # fmt: skip
def test_a_signal_that_nothing_can_hold_is_a_bad_one_and_ends_nothing(value: bytes, reason: str) -> None:
    """What the target, the source or Python itself would stumble over later: deep, endless, half characters, NUL."""
    with pytest.raises(BadSignal) as bad:
        understood(0, b"p", value, "p", FOLLOWED)
    assert reason == bad.value.reason


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (b"other", signal("execute-snapshot", collections("db.a")), "foreign_key"),
        (None, signal("execute-snapshot", collections("db.a")), "foreign_key"),
        (b"p", b"{", "not_json"),
        (b"p", b"[1]", "not_json"),
        (b"p", b"\xff", "not_json"),
        (b"p", signal("log"), "type_unknown"),
        (b"p", json.dumps({"data": {}}).encode(), "type_unknown"),
        (b"p", signal("execute-snapshot"), "collections_missing"),
        (b"p", signal("execute-snapshot", "no json"), "data_malformed"),
        (b"p", signal("execute-snapshot", [1]), "data_malformed"),
        (b"p", signal("execute-snapshot", collections()), "collections_missing"),
        (b"p", signal("execute-snapshot", collections("db.z", "db.(")), "not_followed"),
        (b"p", signal("execute-snapshot", collections("db.a", type="BLOCKING")), "not_incremental"),
        (b"p", signal("execute-snapshot", collections("db.a", **{"surrogate-key": "v"})), "surrogate_key"),
        (b"p", signal("execute-snapshot", collections("db.a", **{"additional-conditions": [{"filter": SECRET}]})), "conditions_malformed"),
        (b"p", signal("execute-snapshot", collections("db.a", keys=[SECRET])), "keys_malformed"),
        (b"p", signal("execute-snapshot", collections("db.a", "db.b", keys=[["1"]])), "keys_malformed"),
    ],
)
def test_a_signal_that_cannot_be_obeyed_gives_its_reason_and_no_value(key: bytes | None, value: bytes, reason: str) -> None:
    with pytest.raises(BadSignal) as bad:
        understood(0, key, value, "p", FOLLOWED)
    assert reason == bad.value.reason
    assert SECRET not in str(bad.value)


def test_collections_are_names_or_expressions_of_whole_names() -> None:
    def tables(*names: str) -> list[str]:
        return [".".join(name) for name in understood(3, b"p", signal("execute-snapshot", collections(*names)), "p", FOLLOWED).tables]

    assert ["db.a"] == tables("db.a")
    assert ["db.a", "db.b"] == tables(r"db\..*")
    assert ["db.a", "other.a"] == tables(".*[.]a")
    assert ["db.a", "db.b", "other.a"] == [".".join(name) for name in understood(3, b"p", signal("stop-snapshot"), "p", FOLLOWED).tables]


def test_a_signal_says_what_to_copy_and_data_may_be_the_text_of_an_object() -> None:
    conditions = [{"data-collection": "db.b", "filter": "v > 1"}]
    data = json.dumps(collections("db.*", type="incremental", **{"additional-conditions": conditions}))
    jobs = understood(3, b"p", signal("execute-snapshot", data), "p", FOLLOWED).jobs()
    assert [(WHOLE, "", 3, "x"), (WHERE, "v > 1", 3, "x")] == [(job.kind, job.where, job.number, job.request) for job in jobs]
    asked = execute("i", "db.a", keys=[("1", SECRET)])
    (job,) = understood(0, b"p", json.dumps(asked).encode(), "p", FOLLOWED).jobs()
    assert (KEYS, (("1", SECRET),)) == (job.kind, job.keys)
    assert SECRET not in repr(job)
    (swap,) = understood(0, b"p", json.dumps(execute("i", "db.a", swap=True)).encode(), "p", FOLLOWED).jobs()
    assert swap.swap


def queue(copies: Copies = Copies(), *uncopied: tuple[str, str]) -> Queue:  # noqa: B008
    return Queue(Restart(AT, copies=copies), uncopied, "p", Counter())


def hear(work: Queue, *signals: bytes, first: int = 0) -> None:
    for number, value in enumerate(signals, first):
        work.hear(number, b"p", value, FOLLOWED)


A, B = (signal("execute-snapshot", collections(f"db.{name}")) for name in "ab")
BOTH = signal("execute-snapshot", collections("db.*"))


def test_a_restart_reads_again_what_is_not_done_and_nothing_else() -> None:
    work = queue()
    hear(work, A, BOTH, signal("pause-snapshot"))
    assert Copies(0, 3, None, True) == work.copies(None)
    work.end(DONE, 1)
    work.end(DONE, 1)
    assert [("db", "b")] == [job.name for job in work.jobs]
    stored = Copies.from_json(json.loads(json.dumps(work.copies(None).to_json())))
    assert Copies(1, 3, ("db", "a"), True) == stored
    again = queue(stored)
    hear(again, BOTH, signal("pause-snapshot"), signal("resume-snapshot"), first=1)
    assert ([("db", "b")], False) == ([job.name for job in again.jobs], again.paused)
    again.end(DONE, 1)
    assert Copies(4, 4, None, False) == again.copies(None)


def test_the_copy_under_way_goes_first_after_a_restart_and_no_table_waits_twice() -> None:
    active = Active("attempt", "x", "db", "b", WHOLE, ("17",), 17)
    work = queue(Copies(1, 2, ("db", "a"), False, active), ("db", "b"), ("other", "a"))
    assert [("db", "b"), ("other", "a")] == [job.name for job in work.jobs]
    hear(work, BOTH, first=1)
    assert [("db", "b"), ("other", "a")] == [job.name for job in work.jobs]
    hear(work, signal("execute-snapshot", collections("other.a")), first=2)
    assert [(("db", "b"), 1), (("other", "a"), 2)] == [(job.name, job.number) for job in work.jobs]


def test_what_is_stopped_is_told_and_an_added_table_cannot_be() -> None:
    work = queue(Copies(), ("other", "a"))
    hear(work, A, B, signal("stop-snapshot", collections("db.b", "other.a")))
    assert [("other", "a"), ("db", "a")] == [job.name for job in work.jobs]
    copy, *answers = work.ended
    assert (("db", "b"), STOPPED, WHOLE, "") == ((copy.db, copy.table), copy.outcome, copy.kind, copy.copy)
    assert [("b", STOPPED, ""), ("a", REFUSED, "added")] == [(one.table, one.outcome, one.reason) for one in answers]
    assert not work.stopping
    work.end(DONE, 0)
    hear(work, signal("stop-snapshot"), first=3)
    assert work.stopping


def test_whoever_stops_a_copy_hears_of_it_when_it_has_ended_and_once() -> None:
    work = queue()
    hear(work, A, signal("stop-snapshot", collections("db.a"), id="s"))
    assert ([], True) == (work.ended, work.stopping)
    again = queue(work.copies(None))  # the wish was heard, and nothing is ended yet
    hear(again, A, signal("stop-snapshot", collections("db.a"), id="s"))
    for each in (work, again):
        each.end(STOPPED, 7, "", "attempt")
        assert [("x", 7, "attempt"), ("s", 0, "")] == [(one.request, one.rows, one.copy) for one in each.ended]
    late = queue(again.copies(None))
    hear(late, signal("stop-snapshot", collections("db.a"), id="t"), first=late.read)
    assert [("t", STOPPED, "nothing_to_stop")] == [(one.request, one.outcome, one.reason) for one in late.ended]


def test_a_copy_that_has_ended_before_it_went_on_is_not_under_way_again_after_a_restart() -> None:
    active = Active("attempt", "x", "db", "a", WHOLE, ("17",), 17)
    work = queue(Copies(0, 1, None, False, active), ("db", "a"))
    hear(work, A, signal("stop-snapshot", collections("db.a")))
    work.end(STOPPED, 17, "", "attempt")
    assert (None, []) == (work.resume, work.jobs)


class MadeAnew:
    """A log of requests that holds none of those that were read."""

    def resume(self, known: Copies) -> Copies:
        return replace(known, next=0, read=0, last=None, channel="new")

    def seek(self, number: int) -> None:
        assert 0 == number


@pytest.mark.parametrize(("kind", "told"), [(KEYS, [("x", STOPPED, "request_gone")]), (WHOLE, [])])
def test_a_copy_of_keys_whose_request_is_gone_is_told_as_stopped_and_a_whole_one_goes_on(kind: str, told: list[tuple[str, ...]]) -> None:
    """Which keys, only the request said."""
    active = Active("attempt", "x", "db", "a", kind, ("17",), 17)
    capture: Any = SimpleNamespace(
        followings=SimpleNamespace(uncopied=()), prefix="p", counters=SimpleNamespace(signals=Counter(), copies=0)
    )
    source: Any = None
    restart = Restart(AT, copies=Copies(3, 4, None, False, active))
    windows = IncrementalSnapshot(capture, source, cast(Channel, MadeAnew()), restart, 1, lambda: None)
    copies, ended = windows.said()
    assert told == [(one.request, one.outcome, one.reason) for one in ended]
    assert (active if kind == WHOLE else None, "new") == (copies.active, copies.channel)
