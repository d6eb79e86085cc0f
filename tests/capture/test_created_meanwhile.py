"""Tables that come into the selection while capture is away, or reads what it missed: none is passed over, in whatever order
(tables listed, statement logged, rows logged) it happens, on real servers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from cdc.binlog.events import Event
from cdc.binlog.reader import BinlogReader
from cdc.capture.capture import Capture
from cdc.capture.restart import Restart
from cdc.errors import Halt
from cdc.mysql.catalog import Catalog
from cdc.transport.direct import DirectLog
from tests.helpers.servers import SourceDatabase
from tests.helpers.source_log import config, position, reading

SCRIPTS = {
    "created": ["CREATE TABLE n (id INT PRIMARY KEY) ENGINE={engine}", "INSERT INTO n VALUES (1)"],
    "like another": ["CREATE TABLE n LIKE t", "INSERT INTO n VALUES (1)"],
    "of a select": ["CREATE TABLE n ENGINE={engine} AS SELECT * FROM t", "INSERT INTO n VALUES (9)"],
    "renamed into it": ["CREATE TABLE {other}.x (id INT PRIMARY KEY) ENGINE={engine}", "INSERT INTO {other}.x VALUES (1)",
                        "RENAME TABLE {other}.x TO {db}.n", "INSERT INTO n VALUES (2)"],
    "renamed by ALTER": ["CREATE TABLE {other}.x (id INT PRIMARY KEY) ENGINE={engine}", "ALTER TABLE {other}.x RENAME TO {db}.n",
                         "INSERT INTO n VALUES (2)"],
    "renamed twice": ["CREATE TABLE {other}.x (id INT PRIMARY KEY) ENGINE={engine}", "RENAME TABLE {other}.x TO {db}.n",
                      "INSERT INTO n VALUES (1)", "RENAME TABLE n TO m"],
    "renamed out of it": ["CREATE TABLE n (id INT PRIMARY KEY) ENGINE={engine}", "INSERT INTO n VALUES (1)",
                          "RENAME TABLE n TO {other}.x"],
    "created again": ["CREATE TABLE n (id INT PRIMARY KEY) ENGINE={engine}", "INSERT INTO n VALUES (1)", "DROP TABLE n",
                      "CREATE TABLE n (id INT PRIMARY KEY, v INT) ENGINE={engine}", "INSERT INTO n VALUES (1, 1)"],
    "altered": ["CREATE TABLE n (id INT PRIMARY KEY) ENGINE={engine}", "INSERT INTO n VALUES (1)", "ALTER TABLE n ADD v INT",
                "TRUNCATE TABLE n", "INSERT INTO n VALUES (1, 1)"],
    "in a new database": ["CREATE DATABASE {db}_2", "CREATE TABLE {db}_2.n (id INT PRIMARY KEY) ENGINE={engine}",
                          "INSERT INTO {db}_2.n VALUES (1)"],
}  # fmt: skip


@dataclass
class Behind:
    """A log of which more has always come already, and that is far behind."""

    reader: BinlogReader

    def __iter__(self) -> Iterator[Event]:
        return iter(self.reader)

    def pending(self) -> bool:
        return True

    def clock_us(self) -> int:
        return self.reader.clock_us() + 3_600_000_000

    def close(self) -> None:
        self.reader.close()


@dataclass
class Epoch:
    """What one start of capture came to."""

    followed: set[str]
    """Copied already, as a restart will have it."""
    uncopied: set[str]
    """Followed and to be copied."""
    halt: Halt | None
    again: Restart


def epoch(place: SourceDatabase, restart: Restart, between: Sequence[str] = (), after: Sequence[str] = ()) -> Epoch:
    """Capture starts, and reads to the end of the log: `between` happens before the tables are listed, `after` once they are."""
    source = config(place, f"{place.name}*.*")
    with Catalog(source) as catalog:
        listed_at = catalog.log.shown_position()
        place.execute(*between)
        stage = Capture(DirectLog("p"), "p", place.flavour, "1", catalog.tables(source.tables), listed_at=listed_at)
        place.execute(*after)
        end, selects = catalog.log.written_position(), catalog.selection(source.tables)
    stage.start(lambda: restart, restart, selects)
    halt = None
    with reading(place, restart.position, stage.wants) as reader:
        try:
            stage.run(Behind(reader), lambda: stage.position is not None and stage.position.covers(end), selects)
        except Halt as error:
            halt = error
    assert stage.position is not None
    again = Restart(stage.position, followed=frozenset(stage.followings.followed()))
    uncopied = {f"{db}.{table}" for db, table in stage.followings.uncopied}
    return Epoch({f"{db}.{table}" for db, table in stage.followings.followed()}, uncopied, halt, again)


def listed(place: SourceDatabase) -> set[str]:
    found = place.execute(f"SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA LIKE '{place.name}%'")
    return {f"{db}.{table}" for db, table in found}


@pytest.fixture
def other(source: SourceDatabase) -> Iterator[str]:
    """A database that is not selected; it and what a script made are gone afterwards."""
    name = f"other_{source.name}"
    source.execute(f"CREATE DATABASE {name}")
    yield name
    source.execute(f"DROP DATABASE {name}", f"DROP DATABASE IF EXISTS {source.name}_2")


@pytest.mark.slow
@pytest.mark.parametrize(("script", "engine"), [(one, "InnoDB") for one in SCRIPTS] + [("created", "MyISAM"), ("created again", "MyISAM")])
def test_whatever_comes_into_the_selection_is_copied_or_stops_a_start_that_the_next_one_mends(
    script: str, engine: str, source: SourceDatabase, other: str
) -> None:
    """Every way to part a script into what was logged before the tables were listed, while, and after."""
    source.execute(f"CREATE TABLE t (id INT PRIMARY KEY) ENGINE={engine}", "INSERT INTO t VALUES (1)")
    words = [one.format(db=source.name, other=other, engine=engine) for one in SCRIPTS[script]]
    stops = 0
    for first in range(len(words) + 1):
        for second in range(first, min(first + 1, len(words)) + 1):
            restart = Restart(position(source), followed=frozenset({(source.name, "t")}))
            source.execute("INSERT INTO t VALUES (2)", "DELETE FROM t WHERE id = 2", *words[:first])
            ended = epoch(source, restart, words[first:second], words[second:])
            if ended.halt is not None:
                assert "statement_unsupported" == ended.halt.code, ended.halt
                stops += 1
                ended = epoch(source, ended.again)
            assert None is ended.halt, (first, second)
            assert (listed(source), {f"{source.name}.t"}) == (ended.followed | ended.uncopied, ended.followed), (first, second)
            source.execute(f"DROP TABLE IF EXISTS n, m, {other}.x", f"DROP DATABASE IF EXISTS {source.name}_2")
    assert 0 < stops
