"""What is taken away from the target, what stays, and what happens when a reset dies between its steps."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from cdc.checks.target import TargetCheck
from cdc.errors import CdcError, Refused
from cdc.postgres.connection import connect
from cdc.protocol.copy_progress import Active, Copies
from cdc.protocol.table_states import TableState
from cdc.state import resets
from cdc.state.presence import Presence
from cdc.state.processes import processes
from cdc.state.store import StateStore
from sinks.postgres import reset
from sinks.postgres.fence import holders, successor
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.conftest import Opened
from tests.sinks.postgres.opening import batch, config, cut
from tests.sinks.postgres.plans import KEYED, ONLY_KEY

TABLES = f"SELECT state, reason <> '' FROM cdc.tables WHERE \"table\" = '{ONLY_KEY.table}'"


def there(postgres: TargetDatabase) -> list[str]:
    return [name for (name,) in postgres.execute("SELECT relname FROM pg_class WHERE relnamespace = 'app'::regnamespace AND relkind = 'r'")]


def plan(target: Any) -> list[reset.TakenTable]:
    state = target.session.state
    return reset.planned(state, state.tables())


def filled(opened: Opened) -> Any:
    target = opened(KEYED, ONLY_KEY)
    states = [replace(one, state=TableState.CONSISTENT) for one in target.session.state.tables()]
    target.write(batch(ONLY_KEY, ("c", None, (1,))))
    copying = Copies(active=Active("x", "r", ONLY_KEY.db, ONLY_KEY.table, "whole", (), 1))
    target.commit(replace(cut(3, t=(5, 4)), copies=copying), states)
    return target


def test_a_table_of_ours_alone_is_dropped_and_one_that_others_built_on_is_emptied(postgres: TargetDatabase, opened: Opened):
    target = filled(opened)
    postgres.execute(f"CREATE VIEW app.v AS SELECT * FROM app.{ONLY_KEY.table}", f"GRANT SELECT ON app.{ONLY_KEY.table} TO PUBLIC")
    found = {one.known.table: one for one in plan(target)}
    assert "dropped" == found[KEYED.table].action
    assert ("emptied", "view app.v, grant to PUBLIC") == (found[ONLY_KEY.table].action, found[ONLY_KEY.table].reason)
    before = target.read().progress
    reset.take_away(target, list(found.values()))
    assert [ONLY_KEY.table] == there(postgres)
    assert [(0,)] == postgres.execute("SELECT count(*) FROM app.v")
    assert [("new", True)] == postgres.execute(TABLES)
    after = target.read().progress
    assert (before.position, before.partitions) == (after.position, after.partitions), "the log is followed from where it was"
    assert None is after.copies.active, "its copy is over"
    reset.take_away(target, plan(target))  # a second time finds all of it done


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("CREATE INDEX theirs ON app.{table} ({column})", "index app.theirs"),
        ("COMMENT ON TABLE app.{table} IS 'theirs'", "comment"),
        ("GRANT SELECT ({column}) ON app.{table} TO PUBLIC", "grant to PUBLIC"),
        ("ALTER TABLE app.{table} ADD CONSTRAINT theirs CHECK ({column} IS NOT NULL)", "constraint theirs"),
        ("CREATE RULE theirs AS ON UPDATE TO app.{table} DO ALSO NOTHING", "rule theirs"),
        ("ALTER TABLE app.{table} ENABLE ROW LEVEL SECURITY; CREATE POLICY theirs ON app.{table}", "policy theirs"),
        ("CREATE TABLE app.other () INHERITS (app.{table})", "child app.other"),
    ],
)  # fmt: skip
def test_whatever_is_attached_is_named(statement: str, named: str, postgres: TargetDatabase, opened: Opened):
    target = opened(ONLY_KEY)
    column = ONLY_KEY.columns[0].name
    for one in statement.format(table=ONLY_KEY.table, column=f'"{column}"').split("; "):
        postgres.execute(one)
    assert [("emptied", named)] == [(one.action, one.reason) for one in plan(target)]


def test_what_is_not_ours_is_left_and_what_a_foreign_key_needs_refuses_all(postgres: TargetDatabase, opened: Opened):
    target = filled(opened)
    postgres.execute("UPDATE cdc.tables SET state = 'refused', schema = '{}'" + f" WHERE \"table\" = '{KEYED.table}'")
    column = ONLY_KEY.columns[0]
    postgres.execute(f'CREATE TABLE app.mine (x {column.postgres_type} REFERENCES app.{ONLY_KEY.table} ("{column.name}"))')
    with pytest.raises(Refused) as refused:
        plan(target)
    assert "target_referenced" == refused.value.code
    postgres.execute("DROP TABLE app.mine")
    assert ["dropped", "left"] == sorted(one.action for one in plan(target))
    reset.take_away(target, plan(target))
    assert [KEYED.table] == there(postgres)


def test_nothing_starts_between_the_steps_of_a_reset_and_the_next_one_finishes_it(postgres: TargetDatabase, opened: Opened):
    target, settings = filled(opened), config(postgres)
    steps = [
        lambda: reset.begin(target, ()),
        lambda: reset.take_away(target, plan(target)[:1]),
        lambda: reset.take_away(target, plan(target)),
    ]
    for step in steps:
        step()
        target.open()  # as after a kill: the next one takes over
        with StateStore(settings, "p") as state, pytest.raises(Refused) as refused:
            resets.demand_none(state)
        assert ("reset_unfinished", "cdc reset --all finishes it") == (refused.value.code, refused.value.hint)
        with pytest.raises(Refused):
            TargetCheck(settings, "p").demand(())
    reset.forget(target)
    assert [] == there(postgres)
    known = "SELECT count(*) FROM cdc.{} WHERE pipeline = 'p'"
    assert [0] * 3 == [postgres.execute(known.format(table))[0][0] for table in ("progress", "tables", "partition")]
    with StateStore(settings, "p") as state:
        resets.demand_none(state)
        assert None is state.read().progress
    assert [(target.fence,)] == postgres.execute("SELECT fence FROM cdc.pipeline"), "who wakes up late finds another number"


def test_a_reset_of_some_tables_ends_with_its_mark(postgres: TargetDatabase, opened: Opened):
    target = filled(opened)
    reset.begin(target, [f"app.{ONLY_KEY.table}"])
    pending = resets.pending(target.session.state)
    assert pending is not None
    assert f"cdc reset app.{ONLY_KEY.table} finishes it" == pending.hint
    reset.finish(target)
    assert None is resets.pending(target.session.state)


def test_one_who_is_taken_over_while_he_resets_writes_nothing_more(postgres: TargetDatabase, opened: Opened):
    old = filled(opened)
    found = plan(old)
    opened()
    with pytest.raises(CdcError):
        reset.take_away(old, found)
    assert {KEYED.table, ONLY_KEY.table} == set(there(postgres))


# -- who runs ----------------------------------------------------------------------------------------------------------


def test_a_process_runs_for_as_long_as_its_session_lives_and_leaves_its_last_words(postgres: TargetDatabase, opened: Opened):
    opened().close()
    settings = config(postgres)
    with connect(settings) as line:

        def live() -> list[tuple[str, bool, str]]:
            return [(one.command, one.runs, (one.ended or {}).get("code", "-")) for one in processes(line, "p")]

        def becomes(expected: list[tuple[str, bool, str]]) -> bool:
            until = time.monotonic() + 10
            while live() != expected and time.monotonic() < until:
                time.sleep(0.02)
            return live() == expected

        with pytest.raises(Refused), Presence(settings, "p", "capture") as one:
            one.doing = lambda: {"capture": {"state": "streaming", "reason": None}}
            assert becomes([("capture", True, "-")])
            assert [] == [other for other in processes(line, "another") if other.runs]
            line.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'cdc presence%%'")
            assert becomes([("capture", False, "-")]), "a row alone proves nothing"
            raise Refused("log_off", "h:1", "there is no log", "SET x")
        assert [("capture", False, "log_off")] == live(), "the last words come over a new connection"
        assert {"capture": {"state": "streaming", "reason": None}} == processes(line, "p")[0].doing
        with Presence(settings, "p", "apply"):
            assert becomes([("apply", True, "-"), ("capture", False, "log_off")])
        assert ("apply", False, "") == live()[0]


def test_the_one_who_took_over_is_named_to_the_one_who_was(postgres: TargetDatabase, opened: Opened):
    old = opened()
    lost = CdcError("target_lost", "p", "the connection to PostgreSQL is lost")
    assert lost is successor(old.target, "p", old.fence, lost), "nobody else came"
    assert 0 < holders(opened().session.connection, "p") + 1
    found = successor(old.target, "p", old.fence, lost)
    assert ("fenced", ":") == (found.code, found.rule[found.rule.index(":")])
    assert " has taken over" in found.rule
    other = CdcError("row_image", "p", "something else")
    assert other is successor(old.target, "p", old.fence, other)
