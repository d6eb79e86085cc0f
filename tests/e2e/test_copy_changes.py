"""Tables that change in the middle of the initial copy: each is copied anew, alone, and the others keep what they have."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.e2e import oracle
from tests.e2e.watch import caught_up, until
from tests.helpers.documents import faults
from tests.helpers.pipelines import Pipeline, Running, said
from tests.helpers.servers import SourceDatabase, TargetDatabase

ROWS, FEW, RATE = 2000, 100, 400
"""So that a copy lasts for seconds: what happens to its tables happens in its middle."""
KEYED = "id INT NOT NULL, v INT NOT NULL, t VARCHAR(40), PRIMARY KEY (id)"
CHANGES = {
    "retyped": "ALTER TABLE retyped MODIFY v VARCHAR(20) NOT NULL",
    "heap": "ALTER TABLE heap ADD COLUMN more INT DEFAULT 7",
    "widened": "ALTER TABLE widened ADD COLUMN more INT NOT NULL DEFAULT 7 FIRST",
    "narrowed": "ALTER TABLE narrowed DROP COLUMN t",
    "rekeyed": "ALTER TABLE rekeyed DROP PRIMARY KEY, ADD PRIMARY KEY (v, id)",
    "gone": "DROP TABLE gone",
    "moved": "RENAME TABLE moved TO moved_away",
    "swapped": "RENAME TABLE swapped TO swapped_old, swapped_new TO swapped",
}
"""What happens to a table while it is copied, before that, or when it is copied already."""


def _create(source: SourceDatabase, engine: str) -> None:
    source.execute(
        "CREATE TABLE number (n INT NOT NULL PRIMARY KEY)",
        "INSERT INTO number VALUES " + ", ".join(f"({n})" for n in range(1000)),
    )
    for name in ("still", *CHANGES):
        columns = KEYED.rpartition(", PRIMARY")[0] if name == "heap" else KEYED
        rows = {"still": ROWS, "retyped": ROWS + 500, "heap": ROWS + 900}.get(name, FEW)
        source.execute(
            f"CREATE TABLE {name} ({columns}) ENGINE={engine}",
            f"INSERT INTO {name} SELECT a.n * 1000 + b.n, a.n, 'x' FROM number a, number b WHERE a.n * 1000 + b.n < {rows}",
            f"ANALYZE TABLE {name}",
        )
    source.execute("CREATE TABLE swapped_new (id INT NOT NULL PRIMARY KEY, w BIGINT)", "INSERT INTO swapped_new SELECT id, v FROM swapped")


def _ledger(target: TargetDatabase, table: str) -> set[tuple[Any, ...]]:
    if target.execute("SELECT to_regclass('cdc.chunks')") == [(None,)]:
        return set()
    return set(
        target.execute(f"SELECT load_no, chunk_no, low::text, high::text, rows, xmin::text FROM cdc.chunks WHERE \"table\" = '{table}'")
    )


def _under_way(made: Pipeline, target: TargetDatabase, *tables: str) -> Running:
    """A copy that has committed a chunk of each of these tables."""
    process = made.start("snapshot")
    until(lambda: all(_ledger(target, table) for table in tables), 60, "a chunk of each", process)
    return process


def _standings(made: Pipeline) -> dict[str, tuple[str, bool]]:
    """State of each table, and whether a reason is given for it."""
    status = made.json("status")
    assert [] == faults("status", status)
    return {one["source"].partition(".")[2]: (one["state"], bool(one["reason"])) for one in status["tables"]}


@pytest.mark.parametrize("flavour", ["mariadb", pytest.param("mysql", marks=pytest.mark.soak)])
def test_tables_that_change_while_they_are_copied_are_copied_anew_and_the_others_go_on(
    flavour: str, request: Any, pipeline: Any, postgres: TargetDatabase
) -> None:
    """In process and through Kafka; what was written to them before and after their change is there too."""
    source: SourceDatabase = request.getfixturevalue(flavour)
    broker = () if flavour == "mariadb" else (request.getfixturevalue("kafka"),)
    _create(source, "MyISAM" if flavour == "mariadb" else "InnoDB")
    made = pipeline(source, postgres, *broker, snapshot={"parallel": 3, "max_rows_per_second": RATE})
    process = _under_way(made, postgres, "still", "retyped")
    assert made.json("snapshot", "--pause")["paused"]  # beside three workers that hold the pipeline's row all the time
    until(lambda: '"paused"' in process.output(), 60, "a word of the pause", process)
    before = _ledger(postgres, "still")
    for name, change in CHANGES.items():
        source.execute(f"UPDATE {name} SET v = v + 1 WHERE id < 9", f"DELETE FROM {name} WHERE id = 10", change)
    source.execute(
        "INSERT INTO widened VALUES (7, -1, 1, NULL)", "UPDATE retyped SET v = 'word' WHERE id > 200",
        "DELETE FROM still WHERE id > 1990", "INSERT INTO heap SELECT * FROM heap WHERE id < 5",
        "INSERT INTO moved_away VALUES (-1, 1, 'late')",
    )  # fmt: skip
    assert not made.json("snapshot", "--resume")["paused"]
    assert 0 == process.process.wait(90), process.output()
    expected = dict.fromkeys(CHANGES, ("new", True)) | {"moved_away": ("new", False), "swapped_old": ("new", False)}
    expected |= dict.fromkeys(("still", "number"), ("catching_up", False)) | {"swapped_new": ("new", True)}
    assert expected == _standings(made)
    assert before <= _ledger(postgres, "still")
    assert [(None,)] == postgres.execute(f"SELECT to_regclass('{source.name}.retyped')")

    source.execute("UPDATE widened SET more = 8 WHERE id = 3", "INSERT INTO swapped VALUES (-5, 1)", "DELETE FROM rekeyed WHERE id = 4")
    made = pipeline(source, postgres, *broker)
    running = [made.start(command) for command in (("run",) if not broker else ("capture", "apply"))]
    caught_up(made)
    tables = [name for name, (state, _) in _standings(made).items() if state == "consistent"]
    assert sorted({"still", "number", "moved_away", "swapped_old", *CHANGES} - {"gone", "moved"}) == sorted(tables)
    assert {} == oracle.differences(source, postgres, tables)
    assert [0] * len(running) == [one.stop() for one in running], said(*running)


@pytest.mark.soak
def test_a_copy_that_was_killed_goes_on_beside_tables_that_changed_meanwhile(
    mysql: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Also where the target's columns stay the same, and where the process that finds the change is killed at once."""
    _create(mysql, "InnoDB")
    made = pipeline(mysql, postgres, snapshot={"parallel": 3, "max_rows_per_second": RATE})
    _under_way(made, postgres, "still", "retyped", "heap").kill()
    before = _ledger(postgres, "still")
    mysql.execute(
        CHANGES["retyped"], CHANGES["gone"], "ALTER TABLE heap MODIFY t VARCHAR(60)", "UPDATE heap SET t = REPEAT('y', 50) WHERE id = 7",
        "CREATE TABLE later (id INT NOT NULL PRIMARY KEY)", "INSERT INTO later VALUES (1)",
    )  # fmt: skip
    made.environ["CRASH_AT"] = "load.given_up:2"
    process = made.start("snapshot")
    assert -signal.SIGKILL == process.process.wait(60), process.output()
    del made.environ["CRASH_AT"]
    copied = made.json("snapshot")
    assert copied["complete"]
    assert before <= _ledger(postgres, "still")
    expected = dict.fromkeys(("retyped", "gone", "heap", "later"), "new")
    assert expected == {name: state for name, (state, _) in _standings(made).items() if state != "catching_up"}
    made = pipeline(mysql, postgres)
    running = made.start("run")
    caught_up(made)
    assert {} == oracle.differences(mysql, postgres, ["still", "retyped", "heap", "later", "widened"])
    assert 0 == running.stop()
