"""The initial copy: many key ranges at once, by any kind of key; paused, killed and changed beneath, it loses and doubles no row."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from random import Random
from typing import Any

import pytest

from cdc import codec
from cdc.codec import envelope
from cdc.commands.snapshot import snapshot
from cdc.config.load import load
from cdc.errors import Halt
from cdc.mysql import table_reader
from cdc.mysql.catalog import Catalog
from cdc.mysql.key_range import KeyRange
from snapshot.load import copier
from snapshot.load.spans import NUMBERS
from tests.e2e import oracle
from tests.e2e.watch import Metrics, caught_up, listening, until
from tests.helpers.documents import faults
from tests.helpers.pipelines import Pipeline, Running
from tests.helpers.servers import SourceDatabase, TargetDatabase
from tests.helpers.source_log import config

_RNG = Random(19)
_BITS = [0, 1, 2**63, 2**64 - 1, *(_RNG.getrandbits(_RNG.randrange(1, 65)) for _ in range(80))]
_WORDS = ("", "A", "a b", "Äb", "äz", "Zz", "ß", "🦷", "o''k", "x\\\\")
KEYS: dict[str, tuple[str, str, list[str]]] = {
    "composite": ("a VARCHAR(9) COLLATE utf8mb4_general_ci, b INT", "a, b",
                  [f"'{word}', {n}" for word in _WORDS for n in (-5, 0, 1, 7, 2**31 - 1)]),
    "sparse": ("k BIGINT UNSIGNED", "k", [str(bits) for bits in sorted(set(_BITS), key=str)]),
    "labels": ("k ENUM('z','a','ü'), n SMALLINT", "k, n", [f"'{label}', {n}" for label in "zaü" for n in range(-4, 8)]),
    "moments": ("k DATETIME(6)", "k", [f"'20{n:02}-03-31 0{n % 10}:00:00.{n:06}'" for n in range(50)]),
    "octets": ("k VARBINARY(9)", "k", [f"X'{n * 5:02x}{'00' * (n % 3)}'" for n in range(50)]),
    "latin": ("k VARCHAR(9) CHARACTER SET latin1 COLLATE latin1_general_cs", "k",
              [f"'{word}{n}'" for word in ("é", "E", "z", "Z") for n in range(9)]),
    "amounts": ("k DECIMAL(12,4), n DOUBLE", "k, n", [f"{n - 20}.{n:04}, {n}e-3" for n in range(40)]),
    "bits": ("k BIT(12)", "k", [f"{n * 80}" for n in range(50)]),
    "one": ("k INT", "k", ["7"]),
    "none": ("k INT", "k", []),
}  # fmt: skip
"""Tables by what their primary key is made of: its columns, their names, and the keys."""
MANY = 20_000


def _create(source: SourceDatabase) -> None:
    for name, (columns, key, keys) in KEYS.items():
        source.execute(f"CREATE TABLE `{name}` ({columns}, v INT, PRIMARY KEY ({key}))")
        if keys:
            source.execute(f"INSERT INTO `{name}` VALUES " + ", ".join(f"({one}, {n})" for n, one in enumerate(keys)))


def _move_keys(source: SourceDatabase, over: threading.Event) -> None:
    """Rows go where the copy has been, and where it will come to."""
    rng = Random(5)
    with source.connect() as line, line.cursor() as cursor:
        while not over.wait(0.002):
            cursor.execute(f"UPDATE IGNORE sparse SET k = {rng.getrandbits(64)} ORDER BY RAND({rng.randrange(99)}) LIMIT 1")
            cursor.execute(
                f"UPDATE IGNORE composite SET a = '{rng.choice('aÄzß')}', b = {rng.randrange(9)} ORDER BY v LIMIT {rng.randrange(3)}"
            )
            cursor.execute(f"DELETE FROM labels WHERE v = {rng.randrange(10)}")
            cursor.execute(f"INSERT IGNORE INTO octets VALUES (X'{rng.randbytes(3).hex()}', 1)")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of three rows, spans of seven, and a commit after each piece."""
    for name, rows in {"_FIRST_ROWS": 3, "_LEAST_ROWS": 1, "_MOST_ROWS": 3, "_FIRST_SPAN": 7, "_LEAST_SPAN": 7, "_MOST_SPAN": 7}.items():
        monkeypatch.setattr(table_reader, name, rows)
    monkeypatch.setattr(copier, "CHUNK_BYTES", 0)


@pytest.mark.usefixtures("tiny")
def test_workers_share_the_ranges_of_every_kind_of_key(source: SourceDatabase, pipeline: Any, postgres: TargetDatabase) -> None:
    """Composite, collated, sparse, labelled and binary keys, an empty table and one of one row, while rows change their keys."""
    _create(source)
    made, over = pipeline(source, postgres, snapshot={"parallel": 4}), threading.Event()
    mover = threading.Thread(target=_move_keys, args=(source, over))
    mover.start()
    try:
        copied = snapshot(load(made.path, made.environ), threading.Event(), lambda *_: None)
    finally:
        over.set()
        mover.join()
    assert (True, len(KEYS)) == (copied["complete"], len(copied["tables"]))
    counts = dict(postgres.execute('SELECT "table", count(*) FROM cdc.chunks GROUP BY 1'))
    assert [] == [name for name, (_, _, keys) in KEYS.items() if counts[name] < max(1, len(keys) // 6)]
    made.start("run")
    caught_up(made)
    assert {} == oracle.differences(source, postgres, KEYS)


def _many(source: SourceDatabase, engine: str) -> None:
    """A table of so many rows, with gaps between its keys."""
    source.execute(f"CREATE TABLE many (id BIGINT NOT NULL PRIMARY KEY, v INT NOT NULL, t VARCHAR(40)) ENGINE={engine}",
                   "INSERT INTO many VALUES (3, 1, 'one'), (10, 2, NULL), (11, 3, 'three'), (40, 4, ''), (44, 5, 'five')",
                   *(f"INSERT INTO many SELECT id + {50 << n}, v, t FROM many" for n in range(12)))  # fmt: skip
    source.execute(f"DELETE FROM many ORDER BY id DESC LIMIT {5 * 2**12 - MANY}")


def _ledger(target: TargetDatabase) -> set[tuple[Any, ...]]:
    if target.execute("SELECT to_regclass('cdc.chunks')") == [(None,)]:
        return set()
    return set(target.execute("SELECT load_no, chunk_no, low::text, high::text, rows, xmin::text FROM cdc.chunks"))


def _rows(ledger: set[tuple[Any, ...]]) -> int:
    return sum(chunk[4] for chunk in ledger)


def _copying(made: Pipeline, postgres: TargetDatabase, chunks_more: int) -> Running:
    """A copy that has just committed so many chunks."""
    before, process = len(_ledger(postgres)), made.start("snapshot")
    until(lambda: len(_ledger(postgres)) >= before + chunks_more, 60, f"{chunks_more} chunks", process)
    return process


def test_a_copy_rests_when_asked_and_knows_how_far_it_is_after_each_restart(
    mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Killed, and started while it is to rest: what is in the ledger stays, status counts it, and the copy goes on from there."""
    _many(mariadb, "MyISAM")
    listen = listening()
    place = {"snapshot_listen": listen["listen"]}
    made = pipeline(mariadb, postgres, snapshot={"parallel": 4, "max_rows_per_second": 6000}, metrics=place)
    process = _copying(made, postgres, 4)
    assert 0 < Metrics(listen["listen"]).value("cdc_rows_copied_total", table=f"{mariadb.name}.many")
    assert 4 < Metrics(listen["listen"]).value("cdc_copy_read_seconds_count", locking="true")
    process.kill()
    before = _ledger(postgres)
    assert len({chunk[1] // NUMBERS for chunk in before}) > 1, "one worker had the table for itself"
    _check_status(made, _rows(before), paused=False)
    assert [(_rows(before),)] == postgres.execute(f'SELECT count(*) FROM "{mariadb.name}".many')

    assert {"pipeline": mariadb.name, "paused": True} == made.json("snapshot", "--pause")
    process = made.start("--json", "snapshot")
    until(lambda: '"paused"' in process.output(), 30, "a word of the pause", process)
    assert before == _ledger(postgres)
    _check_status(made, _rows(before), paused=True)
    assert [] == postgres.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                                  " AND application_name LIKE 'cdc % load' AND xact_start IS NOT NULL")  # fmt: skip
    resumed = made.json("snapshot", "--resume")
    assert ([], False) == (faults("snapshot_rest", resumed), resumed["paused"])
    assert 0 == process.process.wait(60), process.output()
    document = json.loads(next(line for line in process.output().splitlines() if line.startswith('{"pipeline"')))
    assert [] == faults("snapshot", document)
    assert document["reads"]["locking"]["pieces"] > 3
    assert (before, MANY) == (before & _ledger(postgres), _rows(_ledger(postgres)))
    assert made.json("status")["copying"] is None
    assert {} == oracle.differences(mariadb, postgres, ["many"])


def _check_status(made: Pipeline, rows: int, *, paused: bool) -> None:
    status = made.json("status")
    assert [] == faults("status", status)
    [table] = status["tables"]
    assert ("copying", rows, MANY) == (table["state"], table["rows_loaded"], table["rows_estimated"])
    whole = status["copying"]
    assert (rows, MANY, paused) == (whole["rows"], whole["rows_estimated"], whole["paused"])
    assert whole["remaining_seconds"] == pytest.approx((MANY - rows) / whole["rows_per_second"])


@pytest.mark.parametrize("engine", ["MyISAM", "InnoDB"])
def test_a_refused_row_in_the_middle_of_an_exact_read_waits_and_the_rest_is_copied(
    engine: str, source: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    """The read is broken off with its table locked, or in its snapshot: what the server still sends is nobody's answer."""
    source.execute(f"CREATE TABLE heap (n INT, t VARCHAR(2000)) ENGINE={engine}", "INSERT INTO heap VALUES (0, REPEAT('x', 1999))",
                   *["INSERT INTO heap SELECT n + 1, t FROM heap"] * 10, "UPDATE heap SET t = 'a\\0b' WHERE n = 0",
                   "CREATE TABLE next (id INT PRIMARY KEY)", "INSERT INTO next VALUES (1)")  # fmt: skip
    made = pipeline(source, postgres, snapshot={"parallel": 1}, policies={"nul_text": "error"})
    copied = made.json("snapshot")
    assert (True, {"heap": 1023, "next": 1}) == (copied["complete"], {t["source"].split(".")[1]: t["rows"] for t in copied["tables"]})
    assert [("heap", 1)] == postgres.execute('SELECT "table", count(*) FROM cdc.quarantine GROUP BY 1')


def test_all_readers_of_a_copy_see_the_columns_that_the_first_saw(source: SourceDatabase) -> None:
    source.execute("CREATE TABLE t (id INT PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1, 1)")
    shape = table_reader.ResultShape()

    def read() -> None:
        with Catalog(config(source)) as catalog:
            [table] = catalog.tables([f"{source.name}.t"])
            with closing(table_reader.TableReader(config(source), catalog, table, shape)) as reader:
                reader.read(KeyRange(), lambda block, start, end: codec.select_to_copy(rows, values, block, start, end, bytearray())[0])

    with Catalog(config(source)) as catalog:
        [table] = catalog.tables([f"{source.name}.t"])
    key, value = envelope.key_schema("x", table), envelope.value_schema("x", table, catalog.flavour)
    rows, values = codec.RowPlan(table), codec.ValuePlan(value, key)
    read()
    read()
    source.execute("ALTER TABLE t MODIFY v INT UNSIGNED")
    with pytest.raises(Halt) as stopped:
        read()
    assert "shape_changed" == stopped.value.code


def test_pause_and_resume_exclude_one_another(mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase) -> None:
    refused = pipeline(mariadb, postgres).run("--json", "snapshot", "--pause", "--resume")
    assert (2, "usage") == (refused.returncode, json.loads(refused.stdout)["error"]["code"])
