"""What a row's content can bring about in PostgreSQL is the row's, under whatever SQLSTATE; what is not its content never is."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import pytest

from cdc.errors import Halt, Retry, RowRefused, RowSuspected
from cdc.protocol.applied import LedgerChunk
from sinks.postgres import statements
from sinks.postgres.load import ChunkLoader, TableLoad
from sinks.quarantine import QuarantineLimits, Records
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.conftest import Opened
from tests.sinks.postgres.opening import at, batch, cut, rows
from tests.sinks.postgres.plans import KEYED, Column, HandPlan, Values

NAME = 'app."Keyed Table"'
WIDE = HandPlan("wide", (Column("Code", "varchar(768)", True), Column("n", "bigint")))
RAISED = (
    "45000", "U0001", "38000", "39004", "2F003", "09000", "27000", "0A000", "XX000", "42704", "42804", "HV00B", "22023", "23514", "44000",
)  # fmt: skip
"""What a function that somebody hung on the table may say of a row: two are no class of PostgreSQL at all."""
KINDS = {
    "P0001": "RAISE 'no'",
    "P0004": "ASSERT false",
    "20000": "CASE NEW.\"Note\" WHEN 'x' THEN NULL; END CASE",
    "21000": "PERFORM (SELECT n FROM generate_series(1, 2) n)",
    "22012": "PERFORM 1 / 0",
    "22003": "PERFORM 10::numeric ^ 200000",
    "22P05": "PERFORM '{\"a\": \"\\u0000\"}'::json ->> 'a'",
    "42601": "PERFORM 'two words'::tsquery",
    "42883": "EXECUTE 'SELECT app.nothing()'",
    "54000": "PERFORM repeat('x', 1 << 30)",
    "54001": "PERFORM app.deep(0)",
}
_BRANCHES = "".join(f"WHEN '{state}' THEN {action}; " for state, action in KINDS.items())
TRIGGER = (
    "CREATE FUNCTION app.deep(n int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN app.deep(n + 1); END $$",
    "CREATE FUNCTION app.guard() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$ BEGIN"
    f" CASE NEW.\"Note\" {_BRANCHES}"
    " ELSE IF NEW.\"Note\" <> 'fine' THEN RAISE 'no' USING ERRCODE = NEW.\"Note\"; END IF; END CASE; RETURN NEW; END $$",
)  # fmt: skip


def row(number: int, note: str = "fine") -> Values:
    return number, note, None, 0.5


def guard(postgres: TargetDatabase, when: str = "BEFORE INSERT OR UPDATE") -> None:
    kind = "CONSTRAINT TRIGGER" if "AFTER" in when else "TRIGGER"
    deferred = "DEFERRABLE INITIALLY DEFERRED" if "AFTER" in when else ""
    postgres.execute(*TRIGGER, f"CREATE {kind} guard {when} ON {NAME} {deferred} FOR EACH ROW EXECUTE FUNCTION app.guard()")


@pytest.mark.parametrize("good", [2, 70])
def test_whatever_a_row_s_content_brings_about_holds_that_row_and_no_other(postgres: TargetDatabase, opened: Opened, good: int) -> None:
    """By prepared statements and by COPY."""
    target = opened(KEYED)
    guard(postgres)
    bad = [*KINDS, *RAISED]
    changes = [row(number, state) for number, state in enumerate(bad)] + [row(1000 + number) for number in range(good)]
    random.Random(good).shuffle(changes)
    refused = target.write_bisected(batch(KEYED, *[("c", None, one) for one in changes]), 1000)
    target.commit(cut(1))
    found = {one.identity: (one.error.code, one.error.sqlstate) for one in refused if one.error}
    assert {KEYED.key_tuple(row(number)): ("target_value", state) for number, state in enumerate(bad)} == found
    assert good == rows(postgres, KEYED).total()


NOT_ROWS = ("42501", "42P01", "53100", "53200", "57014", "58030", "55000", "40001", "26000", "XX001", "F0000", "08006")


def test_what_is_no_row_s_fault_holds_none(postgres: TargetDatabase, opened: Opened) -> None:
    target = opened(KEYED)
    guard(postgres)
    for state in NOT_ROWS:
        with pytest.raises((Halt, Retry)) as stopped:
            target.write_bisected(batch(KEYED, ("c", None, row(1)), ("c", None, row(2, state))), 1000)
        assert not isinstance(stopped.value, RowSuspected), state
        assert state in stopped.value.rule


def test_a_definition_that_refuses_every_row_holds_none(postgres: TargetDatabase, opened: Opened) -> None:
    """Of the same class as what a function says of one row: the statement is refused without a row too."""
    target = opened(KEYED)
    target.write(batch(KEYED, ("c", None, row(1))))
    target.commit(cut(1))
    postgres.execute(f'ALTER TABLE {NAME} DROP COLUMN "Fee"')
    with pytest.raises(RowSuspected) as suspected:  # as if every row were fit: whose fault it is, is not asked yet
        target.write(batch(KEYED, ("c", None, row(2))))
        target.commit(cut(2))
    assert ("target_denied", "42703") == (suspected.value.code, suspected.value.sqlstate)
    with pytest.raises(Halt) as stopped:
        target.write_bisected(batch(KEYED, ("c", None, row(2)), ("c", None, row(3))), 1000)
    assert (Halt, "target_denied", True) == (type(stopped.value), stopped.value.code, "42703" in stopped.value.rule)


def test_a_key_above_the_limit_of_an_index_is_held_and_its_deletion_is_none(postgres: TargetDatabase, opened: Opened) -> None:
    chance, target = random.Random(1), opened(WIDE)
    wide: Values = ("".join(chr(chance.randrange(0x10000, 0x30000)) for _ in range(768)), 1)
    for filler in (0, 100):
        good = [("c", None, (f"{filler} {number}", 1)) for number in range(filler + 1)]
        with pytest.raises(RowRefused) as stopped:
            target.write(batch(WIDE, ("c", None, wide), *good))
            target.commit(cut(1))
        assert "54000" == stopped.value.sqlstate
        refused = target.write_bisected(batch(WIDE, ("c", None, wide), *good), 5)
        assert [WIDE.key_tuple(wide)] == [one.identity for one in refused]
        assert [] == target.write_bisected(batch(WIDE, ("d", wide, None)), 5)
        target.commit(cut(1 + filler))
    assert 102 == rows(postgres, WIDE).total()


def test_what_no_message_holds_is_refused_before_it_is_sent_and_ends(
    opened: Opened, postgres: TargetDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server would end the session, which looks like a server that is away: it would be tried again for ever."""
    target = opened(KEYED)
    target.lock()
    monkeypatch.setattr(statements, "MOST_BYTES", 50)
    refused = target.write_bisected(batch(KEYED, ("c", None, row(1, "x" * 40)), ("c", None, row(2, "x"))), 5)
    assert [(KEYED.key_tuple(row(1)), "54000")] == [(one.identity, one.error.sqlstate) for one in refused if one.error]
    monkeypatch.undo()
    target.commit(cut(1))
    assert 1 == rows(postgres, KEYED).total()


def recorded(*values: Values) -> Loaded:
    return Loaded(Records(*map(list, zip(*[KEYED.change("r", None, one) for one in values], strict=True))))


class Loaded:
    """Rows of a chunk as records."""

    schemas = (None, {"type": "record"})

    def __init__(self, records: Records) -> None:
        self.keys, self.values, self.opened = records.keys, records.values, records.opened
        self.changed: Mapping[tuple[str, str], int] = {}

    def seen(self) -> dict[tuple[str, str], int]:
        return {("Note", "invalid_text"): 3}


@pytest.mark.parametrize(("when", "state"), [("BEFORE INSERT", "U0001"), ("AFTER INSERT", "P0001")])
def test_a_chunk_of_a_load_holds_the_row_also_when_it_is_refused_at_the_commit(
    when: str, state: str, postgres: TargetDatabase, opened: Opened
) -> None:
    target = opened(KEYED)
    load: TableLoad = target.begin_load(KEYED, at(2))
    guard(postgres, when)
    loader: ChunkLoader = target.loader()
    values = [row(1), row(2, state), *(row(number) for number in range(3, 100))]
    with pytest.raises(RowSuspected), loader.chunk(load, LedgerChunk(1)) as chunk:
        chunk.write(b"".join(KEYED.packed(one) for one in values))
    found = recorded(*values)
    assert 1 == loader.chunk_with_care(load, LedgerChunk(1, high=[99]), found, QuarantineLimits())
    loader.close()
    assert {("Note", "invalid_text"): 3} == found.changed
    assert [(state, "r")] == postgres.execute("SELECT sqlstate, op FROM cdc.quarantine")
    assert 98 == rows(postgres, KEYED).total()


class Unspeakable(HandPlan):
    """Of a key with this text no tuple can be made."""

    def copy_keys(self, keys: Sequence[bytes], out: bytearray) -> None:
        if any(b"nul" in key for key in keys):
            raise Halt("nul_in_text", "app.wide.Code", "a key column holds a NUL character")
        super().copy_keys(keys, out)


@pytest.mark.parametrize("more", [1, 100])
def test_a_deletion_of_a_key_that_the_target_cannot_hold_is_done_by_doing_nothing(
    more: int, postgres: TargetDatabase, opened: Opened
) -> None:
    plan = Unspeakable(WIDE.table, WIDE.columns)
    target = opened(plan)
    target.write(batch(plan, *[("c", None, (f"{number}", 1)) for number in range(more + 1)]))
    target.write(batch(plan, ("d", ("nul", 1), None), *[("d", (f"{number}", 1), None) for number in range(more)]))
    target.commit(cut(1))
    assert {(f"{more}", "1"): 1} == rows(postgres, plan)
