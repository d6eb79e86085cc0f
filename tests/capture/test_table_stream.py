"""A followed table beside the maps that the log shows of it."""

from __future__ import annotations

from dataclasses import replace

from cdc import codec
from cdc.binlog.events import TableMap
from cdc.capture.capture import Capture
from cdc.capture.restart import Restart
from cdc.capture.table_stream import TableStream
from cdc.model.policies import DEFAULT
from cdc.model.selection import Selection
from cdc.model.table import Column, Table
from cdc.protocol.control import Followed
from cdc.transport.direct import DirectLog
from tests.helpers.logs_by_hand import HandLog, T, image, position, rows, transaction


def test_the_hashes_of_a_new_unique_key_are_passed_over_and_those_of_one_that_is_gone_are_not_looked_for() -> None:
    """Rows of both shapes are read, in whatever order they come."""
    capture = Capture(DirectLog("p"), "p", "mariadb", "0.1", (T,))
    capture.start(lambda: Restart(position(0)), None, Selection(["db.*"]))
    hashed = replace(T, unlisted=1)
    log = []
    for number in range(1, 5):
        odd = number % 2 == 1
        event = rows(T, "c", image(number) + (b"\xaa" * 8 if odd else b""), shape=hashed if odd else T, number=number)
        event.table.fingerprint = b"hashed" if odd else b"plain"
        log += transaction(number, event)
    capture.run(HandLog(log), lambda: False, Selection(["db.*"]))
    assert (position(4), 4) == (capture.position, capture.counters.rows)


def test_labels_that_the_log_alone_knows_leave_a_column_s_policy_and_width_as_they_were() -> None:
    """information_schema shows a question mark for what lies beyond U+FFFF; configuration and widths are in the catalog's columns."""
    policy = replace(DEFAULT, invalid_text="replace")
    label, small = Column("e", "enum", charset="utf8mb4", labels=("?",)), Column("n", "tinyint", display=1, policy=policy)
    listed = Table("db", "t", (replace(label, policy=policy), small), ())
    shown = Table("db", "t", (replace(label, labels=("\U0001f600",)), Column("n", "tinyint")), ())
    stream = TableStream(listed, Followed("db", "t", "p.db.t", 1, None, 2), codec.Numbers(1, 1))
    stream.check(TableMap(7, "db", "t", b"shown", b"", lambda raw: shown))
    assert (("\U0001f600",), [policy, policy], [0, 1]) == (
        stream.table.columns[0].labels, [one.policy for one in stream.table.columns], [one.display for one in stream.table.columns],
    )  # fmt: skip
    assert stream.plan.table is stream.table
    assert stream.is_like(listed)
    assert stream.is_like(shown)
    assert not stream.is_like(replace(listed, key=(1,)))
