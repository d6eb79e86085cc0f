"""Waiting from SQL: the server's own comparison of positions is the one of `cdc.model.position`."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import replace

import pytest

from cdc.model.position import Flavour, Position, canonical_gtids
from cdc.protocol.table_states import TableState
from cdc.state.store import StateStore
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.conftest import Opened
from tests.sinks.postgres.opening import at, config, cut
from tests.sinks.postgres.plans import ONLY_KEY

UUIDS = ("3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562")


def mysql(chance: random.Random) -> str:
    sources = [*UUIDS, f"{UUIDS[0]}:tag_1"]
    ranges = [f"{chance.choice(sources)}:{first}-{first + chance.randrange(4)}" for first in (1, 3, 9) for _ in range(chance.randrange(3))]
    return canonical_gtids("mysql", ",".join(ranges))


def mariadb(chance: random.Random) -> str:
    return ",".join(f"{domain}-{chance.choice((1, 2))}-{chance.randrange(1, 4)}" for domain in (0, 1, 7) if chance.random() < 0.6)


def some(chance: random.Random, flavour: Flavour) -> Position:
    gtids = "" if chance.random() < 0.2 else mysql(chance) if flavour == "mysql" else mariadb(chance)
    file = chance.choice(("", "bin.000009", "bin.000010", "bin.1000000", "other.000009"))
    return Position(flavour, chance.choice("ab"), gtids, file, chance.choice((4, 99, 2**33)), chance.choice((0, 0, 7, 8)))


@pytest.mark.parametrize("flavour", ["mysql", "mariadb"])
def test_sql_and_program_agree_on_what_covers_what(postgres: TargetDatabase, flavour: Flavour):
    chance, verdicts = random.Random(7), []
    with StateStore(config(postgres), "p") as state:
        state.migrate()
        for _ in range(3000):
            have, want = some(chance, flavour), some(chance, flavour)
            row = state.connection.execute("SELECT cdc.covers(%s::jsonb, %s::jsonb)", [json.dumps(one.to_json()) for one in (have, want)])
            verdicts.append(have.covers(want))
            assert (verdicts[-1],) == row.fetchone(), f"{have} covers {want}"
    assert 300 < sum(verdicts) < 2700


def test_a_set_as_mysql_prints_it_is_understood(postgres: TargetDatabase):
    printed = f"{UUIDS[0].upper()}:1-5:8:tag_1:1-3,\n{UUIDS[1]}:4"
    have = Position("mysql", "a", canonical_gtids("mysql", printed))
    with StateStore(config(postgres), "p") as state:
        state.migrate()
        want = have.to_json() | {"gtids": printed}
        told = state.connection.execute("SELECT cdc.covers(%s::jsonb, %s::jsonb)", [json.dumps(have.to_json()), json.dumps(want)])
        assert (True,) == told.fetchone()


def test_waiting_ends_when_the_position_is_there_and_the_tables_are_consistent(postgres: TargetDatabase, opened: Opened):
    target = opened(ONLY_KEY)
    table = replace(target.open().tables["app", "only_key"], state=TableState.CATCHING_UP)
    target.commit(cut(3), [table])
    assert [(False,)] == postgres.execute("SELECT cdc.wait_for('0-1-3', 0)")
    answers: list[object] = []
    call = f"SELECT cdc.wait_for('{json.dumps(at(5).to_json())}'::jsonb, 30)"
    waiter = threading.Thread(target=lambda: answers.extend(postgres.execute(call)))
    waiter.start()
    target.commit(cut(4), [replace(table, state=TableState.CONSISTENT)])
    assert [(True,)] == postgres.execute("SELECT cdc.wait_for('0-1-3', 0)")
    assert [(False,)] == postgres.execute("SELECT cdc.wait_for('0-1-5', 0.1)")
    assert [] == answers
    target.commit(cut(5))
    waiter.join(10)
    assert [(True,)] == answers
