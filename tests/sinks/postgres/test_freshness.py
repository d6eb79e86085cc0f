"""Up to when a target is consistent, as PostgreSQL tells it: never beyond what can be true, older by itself, in the source's clock."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from cdc.protocol.applied import Progress, TableProgress
from cdc.protocol.table_states import TableState
from cdc.runtime import clock
from cdc.state.store import StateStore
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.conftest import Opened
from tests.sinks.postgres.opening import at, config, cut

YEAR_2033_US = 2_000_000_000_000_000
TABLE = TableProgress("app", "a", "raw", "a", TableState.CONSISTENT, None, at(1))


def now_us(postgres: TargetDatabase) -> int:
    return int(postgres.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")[0][0])


def shown(postgres: TargetDatabase) -> Any:
    """Microseconds since 1970 up to which the table is consistent, and seconds behind."""
    return postgres.execute("SELECT (extract(epoch FROM consistent_through) * 1000000)::bigint, seconds_behind FROM cdc.freshness")[0]


def said(postgres: TargetDatabase) -> tuple[Progress | None, float | None]:
    with StateStore(config(postgres), "p") as state:
        return state.read().progress, state.behind()


@pytest.mark.parametrize("offset_us", [0, -3_600_000_000, 3_600_000_000])
def test_a_moment_beyond_the_source_s_clock_is_that_of_its_commit_and_gets_older(
    offset_us: int, postgres: TargetDatabase, opened: Opened
) -> None:
    """An older version stored such ones; the next start reads, and writes, what can be true."""
    before = now_us(postgres)
    opened().commit(replace(cut(5), source_ts_us=YEAR_2033_US, clock_offset_us=offset_us), [TABLE])
    after = now_us(postgres)
    through, behind = shown(postgres)
    assert before <= through - offset_us <= after
    assert 0 <= behind < shown(postgres)[1]
    progress, lag = said(postgres)
    assert progress is not None
    assert lag is not None
    assert (through, True) == (progress.source_ts_us, behind < lag)


def test_seconds_behind_are_told_by_the_source_s_clock(postgres: TargetDatabase, opened: Opened) -> None:
    hour = 3_600_000_000
    through = now_us(postgres) - 5_000_000 - hour
    opened().commit(replace(cut(5), source_ts_us=through, clock_offset_us=-hour), [TABLE])
    found, behind = shown(postgres)
    assert (through, True) == (found, 5 <= behind < 60)
    assert 5 <= (said(postgres)[1] or 0) < 60


@pytest.mark.parametrize("ahead_seconds", [3600.0, -3600.0])
def test_a_machine_whose_clock_is_wrong_hides_no_lag(
    ahead_seconds: float, postgres: TargetDatabase, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It measures the source's clock and the target's: where its own stands does not matter, neither to who writes nor to who reads."""
    through = now_us(postgres) - 5_000_000
    with monkeypatch.context() as wrong:
        wrong.setattr(clock, "now", lambda: time.time() + ahead_seconds)
        offset_us = int(-ahead_seconds * 1e6)
        opened().commit(replace(cut(5), source_ts_us=through, clock_offset_us=offset_us), [TABLE])
        found, behind = shown(postgres)
        assert (through, True) == (found, 5 <= behind < 60)
        read, _ = said(postgres)
        assert read is not None
        assert abs(read.clock_offset_us - offset_us) < 1_000_000
    read, lag = said(postgres)
    assert read is not None
    assert (True, True) == (abs(read.clock_offset_us) < 1_000_000, 5 <= (lag or 0) < 60)


@pytest.mark.parametrize("offset_us", [0, 3_600_000_000, -3_600_000_000])
def test_a_table_s_load_time_is_in_the_target_s_clock_moves_while_it_is_quiet_and_stays_where_a_row_waits(
    offset_us: int, postgres: TargetDatabase, opened: Opened
) -> None:
    tables = [
        TABLE,
        *(replace(TABLE, table=name, target_table=name, state=state)
          for name, state in (("b", TableState.QUARANTINED), ("c", TableState.COPYING))),
    ]  # fmt: skip
    target, through, waits = opened(), now_us(postgres) - 90_000_000, now_us(postgres) - 600_000_000
    for cut_no in (1, 2):
        through += 30_000_000
        moved = replace(cut(cut_no), source_ts_us=through + offset_us, clock_offset_us=offset_us)
        target.commit(moved, tables if cut_no == 1 else [])
        if cut_no == 1:
            postgres.execute(
                "INSERT INTO cdc.quarantine_schema VALUES ('p', 'h', NULL, '{}')",
                f"""INSERT INTO cdc.quarantine (pipeline, db, "table", key_hash, key, op, value, reason, sqlstate, rule, epoch, seq,
                    source_transaction, schema_id, schema_hash, source_ts)
                    VALUES ('p', 'app', 'b', 'h', '', 'c', '', 'r', '', '', 1, 1, '', 0, 'h', to_timestamp({waits + offset_us} / 1e6))""",
            )
        sql = "SELECT target_table, extract(epoch FROM loaded_at)::float8 FROM cdc.loaded_at ORDER BY 1"
        (a, at_a), (b, at_b), (c, at_c) = postgres.execute(sql)
        assert ("a", "b", "c", None) == (a, b, c, at_c)
        assert (through / 1e6, waits / 1e6) == pytest.approx((at_a, at_b), abs=1)  # the clocks are measured


def test_what_nobody_knows_is_shown_as_unknown(postgres: TargetDatabase, opened: Opened) -> None:
    opened().commit(replace(cut(5), source_ts_us=0), [TABLE])
    assert (None, None) == shown(postgres)
    progress, lag = said(postgres)
    assert (0, None) == (progress and progress.source_ts_us, lag)
