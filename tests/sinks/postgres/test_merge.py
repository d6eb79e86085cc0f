"""Merging folded batches: whatever the size and the way they go, the table equals a plain model of it."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from cdc.errors import Halt
from sinks.postgres.merge import HANDFUL
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.conftest import Opened
from tests.sinks.postgres.opening import batch, cut, rows, shown
from tests.sinks.postgres.plans import COMPOSITE, KEYED, KEYLESS, ONLY_KEY, HandPlan, Values, random_row

Change = tuple[str, Values | None, Values | None]
SIZES = (1, 5, HANDFUL, HANDFUL + 10, 300)


def keyed_changes(plan: HandPlan, chance: random.Random, table: dict[bytes, Values], count: int) -> list[Change]:
    """Changes as a log may hold them, a creation of a row that a copy has brought already included."""
    changes: list[Change] = []
    fresh = chance.random() < 0.5  # a batch of mostly new rows, so that some go straight
    for _ in range(count):
        row = random_row(plan, chance, 10_000 if fresh else 400)
        key = plan.key_tuple(row)
        old = table.get(key)
        if old is not None and chance.random() < 0.4:
            changes.append(("d", old, None))
            del table[key]
            continue
        changes.append(("u", old, row) if old is not None and chance.random() < 0.8 else ("c", None, row))
        table[key] = row
    return changes


def keyless_changes(chance: random.Random, table: list[Values], count: int) -> list[Change]:
    changes: list[Change] = []
    for _ in range(count):
        row = random_row(KEYLESS, chance, 0)
        if table and chance.random() < 0.55:
            old = table.pop(chance.randrange(len(table)))
            if chance.random() < 0.5:
                changes.append(("d", old, None))
                continue
            changes.append(("u", old, row))
        else:
            changes.append(("c", None, row))
        table.append(row)
    return changes


@pytest.mark.parametrize("plan", [KEYED, COMPOSITE, ONLY_KEY], ids=lambda plan: plan.table)
@pytest.mark.parametrize("seed", range(3))
def test_a_keyed_table_equals_a_dictionary_after_any_batches(postgres: TargetDatabase, opened: Opened, plan: HandPlan, seed: int):
    chance, table = random.Random(seed), dict[bytes, Values]()
    target = opened(plan, loaded_at="_at" if seed else "")
    for number in range(1, 26):
        before = dict(table)
        for _ in range(chance.choice((1, 1, 2, 3))):
            target.write(batch(plan, *keyed_changes(plan, chance, table, chance.choice(SIZES))))
        if chance.random() < 0.2:
            target.rollback()
            table = before
        else:
            target.commit(cut(number))
        assert Counter(shown(plan, row) for row in table.values()) == rows(postgres, plan), f"seed {seed}, batch {number}"


@pytest.mark.parametrize("seed", range(3))
def test_a_keyless_table_equals_a_multiset_after_any_batches(postgres: TargetDatabase, opened: Opened, seed: int):
    chance, table = random.Random(seed), list[Values]()
    target = opened(KEYLESS)
    for number in range(1, 21):
        before = list(table)
        for _ in range(chance.choice((1, 1, 2))):
            target.write(batch(KEYLESS, *keyless_changes(chance, table, chance.choice((1, 5, 100, 400)))))
        if chance.random() < 0.2:
            target.rollback()
            table = before
        else:
            target.commit(cut(number))
        assert Counter(shown(KEYLESS, row) for row in table) == rows(postgres, KEYLESS), f"seed {seed}, batch {number}"


@pytest.mark.parametrize("count", [1, HANDFUL + 1])
def test_a_keyless_row_that_is_not_there_stops_and_undoes_the_batch(postgres: TargetDatabase, opened: Opened, count: int):
    target = opened(KEYLESS)
    there = [(n, "x", None, 0.0, n) for n in range(count)]
    target.write(batch(KEYLESS, *[("c", None, row) for row in there]))
    target.commit(cut(1))
    with pytest.raises(Halt) as stop:
        target.write(batch(KEYLESS, *[("d", row, None) for row in there], ("d", (0, "x", None, -0.0, 0), None)))
        target.commit(cut(2))
    assert "row_missing" == stop.value.code
    assert count == rows(postgres, KEYLESS).total()


@pytest.mark.parametrize("count", [1, HANDFUL + 1])
def test_a_published_table_whose_rows_cannot_be_named_stops_instead_of_being_waited_for(
    postgres: TargetDatabase, opened: Opened, count: int
):
    """The server takes its inserts and no delete, until somebody gives it a replica identity: nothing passes by itself."""
    target = opened(KEYLESS)
    with postgres.connect("postgres") as line:
        line.execute("CREATE PUBLICATION everything FOR ALL TABLES")
    there = [(n, "x", None, 0.0, n) for n in range(count)]
    target.write(batch(KEYLESS, *[("c", None, row) for row in there]))
    target.commit(cut(1))
    gone = batch(KEYLESS, *[("d", row, None) for row in there])
    with pytest.raises(Halt) as stop:
        target.write(gone)
        target.commit(cut(2))
    assert ("target_denied", f"app.{KEYLESS.table}") == (stop.value.code, stop.value.place)
    postgres.execute(f'ALTER TABLE app."{KEYLESS.table}" REPLICA IDENTITY FULL')
    target.write(gone)
    target.commit(cut(2))
    assert not rows(postgres, KEYLESS)


def test_several_tables_and_pieces_go_in_one_transaction(postgres: TargetDatabase, opened: Opened):
    target = opened(KEYED, COMPOSITE, KEYLESS)
    for piece in range(3):
        target.write(batch(KEYED, *[("c", None, (n, f"{piece}", None, 1.5)) for n in range(piece * 100, piece * 100 + 150)]))
        target.write(batch(COMPOSITE, ("c", None, (1, "A", piece)), ("c", None, (1, "a", piece))))
        target.write(batch(KEYLESS, *[("c", None, (1, None, None, None, None))] * 100))
        assert (0, 0, 0) == (len(rows(postgres, KEYED)), len(rows(postgres, COMPOSITE)), len(rows(postgres, KEYLESS)))
    target.commit(cut(1))
    assert (350, 6, 300) == tuple(rows(postgres, plan).total() for plan in (KEYED, COMPOSITE, KEYLESS))


def test_emptying_a_table_is_part_of_the_transaction(postgres: TargetDatabase, opened: Opened):
    target = opened(ONLY_KEY)
    target.write(batch(ONLY_KEY, ("c", None, (1,))))
    target.commit(cut(1))
    target.empty(("app", "only_key"))
    target.rollback()
    assert Counter({("1",): 1}) == rows(postgres, ONLY_KEY)
    target.write(batch(ONLY_KEY, ("c", None, (2,))))
    target.empty(("app", "only_key"))
    target.write(batch(ONLY_KEY, ("c", None, (3,))))
    target.commit(cut(2))
    assert Counter({("3",): 1}) == rows(postgres, ONLY_KEY)


def test_the_load_time_moves_with_each_write_of_a_row(postgres: TargetDatabase, opened: Opened):
    target = opened(KEYED, loaded_at="_loaded_at")
    seen = set()
    for number, size in enumerate((1, 1, 200, 200), 1):
        target.write(batch(KEYED, *[("c", None, (n, None, None, None)) for n in range(size)]))
        target.commit(cut(number))
        seen.add(postgres.execute('SELECT _loaded_at FROM app."Keyed Table" WHERE "Id" = 0')[0][0])
    assert 4 == len(seen)
    assert None not in seen


def test_staging_tables_are_made_once_per_connection(postgres: TargetDatabase, opened: Opened):
    target = opened(KEYED)
    found = set()
    for number in range(1, 4):
        target.write(batch(KEYED, *[("u", (n, None, None, None), (n, "x", None, None)) for n in range(100)]))
        target.commit(cut(number))
        found.update(postgres.execute("SELECT oid, relfilenode FROM pg_class WHERE relname LIKE 'cdc_rows%'"))
    assert 1 == len(found)
