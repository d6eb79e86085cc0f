"""What copies that are made while streaming ask of the target, on its own: emptying, second tables, and what stands in their way."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from cdc.errors import Halt, Refused, Retry
from cdc.protocol.applied import MADE, TableProgress
from cdc.protocol.control import Copy
from cdc.protocol.table_states import TableState
from sinks.copies import CopyHandling
from sinks.epochs import Epochs
from sinks.postgres import shadow_table
from sinks.postgres.shadow_table import become_equal, drop_shadow, make_shadow, shadow_of
from sinks.postgres.statements import Prepared
from sinks.quarantine import HeldKeys, QuarantineLimits
from sinks.table_states import TableStates
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.by_hand import HandTarget
from tests.sinks.postgres.conftest import Opened
from tests.sinks.postgres.opening import at, batch, cut, rows
from tests.sinks.postgres.plans import KEYED, HandPlan, Values

WHERE = 'app."Keyed Table"'


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody wants to wait for a second."""
    monkeypatch.setattr(shadow_table, "_SOON", Prepared("SET LOCAL lock_timeout = 50"))


def row(number: int, note: str = "x") -> Values:
    return number, note, None, 0.5


def filled(opened: Opened, plan: HandPlan = KEYED) -> HandTarget:
    target = opened(plan)
    target.write(batch(plan, *[("c", None, row(n)) for n in (1, 2)]))
    target.commit(cut(1))
    return target


def referenced(database: TargetDatabase) -> None:
    database.execute(
        f"CREATE TABLE app.child (id int REFERENCES {WHERE} DEFERRABLE INITIALLY DEFERRED)", "INSERT INTO app.child VALUES (1)"
    )


def test_a_table_is_emptied_by_truncation_and_beside_readers_by_deleting(postgres: TargetDatabase, opened: Opened) -> None:
    for reads in (False, True):
        target = filled(opened)
        file = f"SELECT pg_relation_filenode('{WHERE}')"
        before = postgres.execute(file)
        with postgres.connect() as reader:
            reader.execute("BEGIN")
            if reads:
                reader.execute(f"SELECT count(*) FROM {WHERE}".encode())
            assert target.empty(("app", KEYED.table)) is None
            target.commit(cut(2))
        assert ([], reads) == (list(rows(postgres, KEYED)), before == postgres.execute(file))
        target.close()


def test_a_table_that_is_empty_is_left_alone_whoever_uses_or_references_it(postgres: TargetDatabase, opened: Opened) -> None:
    target = opened(KEYED)
    postgres.execute(f"CREATE TABLE app.child (id int REFERENCES {WHERE})")
    with postgres.connect() as writer:
        writer.execute("BEGIN")
        writer.execute(f"LOCK TABLE {WHERE} IN ROW EXCLUSIVE MODE".encode())
        assert target.empty(("app", KEYED.table)) is None
        target.commit(cut(1))


def test_a_table_that_this_role_may_not_truncate_is_emptied_too(postgres: TargetDatabase, opened: Opened) -> None:
    target = filled(opened)
    postgres.execute(f"REVOKE TRUNCATE ON {WHERE} FROM CURRENT_USER")
    assert target.empty(("app", KEYED.table)) is None
    target.commit(cut(2))
    assert 0 == rows(postgres, KEYED).total()


def test_a_table_whose_rows_a_foreign_key_references_is_not_emptied_and_nothing_else_is_undone(
    postgres: TargetDatabase, opened: Opened
) -> None:
    target = filled(opened)
    referenced(postgres)
    target.write(batch(KEYED, ("c", None, row(3))))
    refused = target.empty(("app", KEYED.table))
    assert isinstance(refused, Refused)
    assert ("target_referenced", "app.Keyed Table", True) == (refused.code, refused.place, "app.child" in refused.rule)
    target.commit(cut(2))
    assert 3 == rows(postgres, KEYED).total()


@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("strict", [False, True])
def test_a_swap_that_a_deferred_key_forbids_is_known_at_once_where_that_is_asked_for(
    strict: bool, gone: bool, postgres: TargetDatabase, opened: Opened
) -> None:
    """And one that only changes rows that are referenced is done."""
    target = filled(opened)
    place = target.place("app", KEYED.table)
    referenced(postgres)
    assert target.attempt("x", lambda wire: make_shadow(wire, place)) is None
    folded = batch(KEYED, *[("c", None, row(n, "new")) for n in ((2,) if gone else (1, 2))])
    folded.shadow = "id"
    target.write(folded)
    refused = target.attempt("x", lambda wire: become_equal(wire, place, KEYED, strict=strict))
    assert (gone and strict) == (refused is not None)
    target.within("x", lambda wire: drop_shadow(wire, place))
    if gone and not strict:
        with pytest.raises(Halt, match="23503"):
            target.commit(cut(2))
        return
    target.commit(cut(2))
    assert {"x" if gone else "new": 2} == _notes(postgres)


def _notes(database: TargetDatabase) -> dict[str, int]:
    return dict(database.execute(f'SELECT "Note", count(*)::int FROM {WHERE} GROUP BY 1'))


def test_a_second_table_that_somebody_reads_is_emptied_and_its_place_is_taken_when_they_have_gone(
    postgres: TargetDatabase, opened: Opened
) -> None:
    target = filled(opened)
    place = target.place("app", KEYED.table)
    assert target.attempt("x", lambda wire: make_shadow(wire, place)) is None
    folded = batch(KEYED, ("c", None, row(5)))
    folded.shadow = "id"
    target.write(folded)
    target.commit(cut(2))
    with postgres.connect() as reader:
        reader.execute("BEGIN")
        reader.execute(f"SELECT 1 FROM {shadow_of(place).sql}".encode())
        target.within("x", lambda wire: drop_shadow(wire, place))
        target.commit(cut(3))
        refused = target.attempt("x", lambda wire: make_shadow(wire, place))
        assert refused is not None
        assert ("second_table", True) == (refused.code, "somebody reads it" in refused.rule)
        target.commit(cut(4))
    assert [(0,)] == postgres.execute(f"SELECT count(*) FROM {shadow_of(place).sql}")
    assert target.attempt("x", lambda wire: make_shadow(wire, place)) is None
    target.commit(cut(5))


def test_what_passes_by_itself_is_no_refusal(postgres: TargetDatabase, opened: Opened) -> None:
    target = filled(opened)
    target.wire.connection.execute("SET lock_timeout = 50")
    with postgres.connect() as other:
        other.execute("BEGIN")
        other.execute(f"LOCK TABLE {WHERE} IN ACCESS EXCLUSIVE MODE".encode())
        with pytest.raises(Retry) as away:
            target.empty(("app", KEYED.table))
        assert "target_locked" == away.value.code


def test_an_error_names_what_its_statement_is_about_whoever_sends_it(postgres: TargetDatabase, opened: Opened) -> None:
    target = filled(opened)
    target.within("app.gone", lambda wire: wire.enqueue(Prepared("DELETE FROM app.gone")))
    with pytest.raises(Halt) as stop:
        target.lock()
    assert ("target_denied", "app.gone") == (stop.value.code, stop.value.place)
    target.lock()
    with pytest.raises(Halt) as stop:
        target.within("app.here", lambda wire: wire.connection.execute("DELETE FROM app.gone"))
    assert "app.here" == stop.value.place


def test_readers_wait_no_longer_than_the_copy_does(postgres: TargetDatabase, opened: Opened) -> None:
    """Whoever comes behind the request for the table's lock gets in when it is given up, while the copy is not yet committed."""
    target = filled(opened)
    with postgres.connect() as reader, postgres.connect() as late:
        reader.execute("BEGIN")
        reader.execute(f"SELECT 1 FROM {WHERE}".encode())
        emptied = threading.Thread(target=target.empty, args=(("app", KEYED.table),))
        emptied.start()
        emptied.join()
        late.execute("SET lock_timeout = 5000")
        assert (2,) == late.execute(f"SELECT count(*) FROM {WHERE}".encode()).fetchone()
        assert psycopg.pq.TransactionStatus.INTRANS == target.wire.connection.info.transaction_status
    target.rollback()


def test_a_table_that_joins_and_cannot_be_made_is_refused_and_stops_nothing(postgres: TargetDatabase, opened: Opened) -> None:
    target = opened()
    postgres.execute("CREATE SCHEMA app", "REVOKE CREATE ON SCHEMA app FROM CURRENT_USER")
    plans: Any = None
    tables = TableStates({})
    epochs = Epochs(target, tables, plans, CopyHandling(tables, HeldKeys(QuarantineLimits()), lambda _: KEYED))
    made = epochs.created(KEYED)
    assert (TableState.REFUSED, True) == (made.state, "42501" in made.reason)
    target.commit(cut(1), [made])
    target.close()
    with pytest.raises(Retry):
        epochs.created(KEYED)


@pytest.mark.parametrize("mended", [False, True])
def test_a_barrier_of_a_refused_table_looks_again_in_its_own_transaction(mended: bool, postgres: TargetDatabase, opened: Opened) -> None:
    """What the target knew of the table is kept, and nothing of it is stored before the copy's first rows are."""
    target, name = opened(), ("app", KEYED.table)
    kind = '"Id" int'  # of a stranger's table
    if not mended:
        postgres.execute("CREATE SCHEMA app", f"CREATE TABLE {WHERE} ({kind})", f"INSERT INTO {WHERE} VALUES (7)")
    refused = TableProgress(*name, *name, TableState.REFUSED, reason="before", schema={"key_schema": 1, "value_schema": 2})
    target.commit(cut(1), [refused])
    tables = TableStates({name: refused})
    copies = CopyHandling(tables, HeldKeys(QuarantineLimits()), lambda _: KEYED)
    copies.begin_copy(target.tables_of(target.transaction), Copy(1, 2, *name, at(2), "id"))
    assert [("refused", "before")] == postgres.execute("SELECT state, reason FROM cdc.tables")
    target.commit(cut(2), tables.dirty())
    ((state, reason, schema),) = postgres.execute("SELECT state, reason, schema FROM cdc.tables")
    assert ("copying", "") == (state, reason) if mended else ("refused", True) == (state, "the table exists but" in reason)
    assert ({"key_schema": 1, "value_schema": 2, MADE: True, "copy": "id"} if mended else refused.schema) == schema
    assert [(0 if mended else 1,)] == postgres.execute(f"SELECT count(*) FROM {WHERE}")
