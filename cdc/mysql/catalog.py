"""What the source says about itself: its identity, its tables and their columns; `LogPositions` asks about its log."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import NamedTuple

from cdc.config.load import SourceConfig
from cdc.errors import Halt, Refused
from cdc.model.policies import Policies
from cdc.model.position import Flavour
from cdc.model.selection import Selection, chosen
from cdc.model.table import Table, TableName
from cdc.mysql.connection import Session
from cdc.mysql.information_schema import COLUMNS_SQL, KEYS_SQL, OLD, canonical_charset, tables_of
from cdc.mysql.log_identity import Identity
from cdc.mysql.log_positions import LogPositions
from cdc.mysql.preflight import ServerSettings, version_of

_TABLES_SQL = """
SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE, TABLE_ROWS, TABLE_TYPE FROM information_schema.TABLES
WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND
  TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')"""
_DISGUISED_SQL = f"""
SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, IF(COLUMN_TYPE LIKE '%{OLD}', CAST(DATETIME_PRECISION AS CHAR),
LOWER(DATA_TYPE))
FROM information_schema.COLUMNS
WHERE (DATA_TYPE IN ('uuid', 'inet4', 'inet6', 'vector') OR COLUMN_NAME LIKE 'DB_ROW_HASH_%' OR (DATA_TYPE IN
('datetime', 'timestamp', 'time') AND COLUMN_TYPE LIKE '%{OLD}'))
  AND TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')"""


_COMPUTED_SQL = """
SELECT DISTINCT TABLE_SCHEMA, TABLE_NAME FROM information_schema.COLUMNS
WHERE TABLE_SCHEMA = %s AND EXTRA LIKE '%%STORED GENERATED%%'"""


class Listed(NamedTuple):
    """What the server's list says of a table."""

    engine: str
    """As the server writes it ("InnoDB", "MyISAM")."""
    rows: int
    """The server's guess."""
    kind: str


class Catalog:
    """One connection that asks the source; give it up with `close` or `with`. Not for use by several threads."""

    def __init__(self, source: SourceConfig) -> None:
        self.source = source
        self.session = Session(source)
        self.place, self._all = self.session.place, self.session.all
        self.settings = settings = _settings_of(self.session)
        self.flavour, self.version = settings.flavour, settings.version
        self.server, self.server_id = settings.server, settings.server_id
        self.identity = Identity(self.session, source, self.flavour, self.server, self.server_id, settings.gtid_mode)
        """Whether the server's log continues a stored position."""
        self.log = LogPositions(source, self.session, settings, self.identity)
        self._found: dict[TableName, Listed] = {}
        if self.flavour == "mysql":
            self.session.execute("SET SESSION information_schema_stats_expiry = 0")

    def __enter__(self) -> Catalog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; a second time does nothing."""
        self.session.close()

    def selection(self, patterns: Sequence[str], exclude: Sequence[str] = ()) -> Selection:
        """Which names the patterns select, with the server's own rule for upper and lower case."""
        return Selection(patterns, exclude, fold_case=self.settings.values["lower_case_table_names"] != "0")

    def tables(self, patterns: Sequence[str], exclude: Sequence[str] = ()) -> list[Table]:
        """The existing tables that are selected, ordered by name; views, sequences and system schemas never."""
        selected = self.selection(patterns, exclude)
        self._found = {
            (db, name): Listed(engine or "", int(rows or 0), kind)
            for db, name, engine, rows, kind in self._all(_TABLES_SQL)
        }
        wanted = frozenset(name for name in self._found if selected.wants(*name))
        schemas = sorted({db for db, _ in wanted})
        columns = [row for schema in schemas for row in self._all(COLUMNS_SQL, schema)]
        versioned = frozenset(self.versioned)
        return tables_of(columns, [row for schema in schemas for row in self._all(KEYS_SQL, schema)], wanted, versioned)

    def check_unchanged(self, tables: Iterable[Table]) -> None:
        """Stops when one of these tables is not any more as it was listed.

        Asked once a copy's position is taken: what changes later is in the log, what changed since the listing is
        nowhere.
        """
        for table in self.changed(tables):
            raise Halt(
                "shape_changed", table.qualified, "the table's columns changed while its copy began", "start again"
            )

    def changed(self, tables: Iterable[Table]) -> list[Table]:
        """Which of these selected tables are not any more as they were listed;
        one that is gone is none of what it was."""
        now = {(table.db, table.name): table for table in self.tables(self.source.tables, self.source.exclude)}
        return [table for table in tables if now.get((table.db, table.name)) != table]

    def computed(self, tables: Iterable[Table]) -> frozenset[TableName]:
        """Which of these tables have a stored generated column."""
        schemas = sorted({table.db for table in tables})
        return frozenset((db, name) for schema in schemas for db, name in self._all(_COMPUTED_SQL, schema))

    def lists(self, db: str, table: str) -> bool:
        """Whether the table existed when tables were listed last, selected or not."""
        return (db, table) in self._found

    @property
    def versioned(self) -> set[TableName]:
        """The tables WITH SYSTEM VERSIONING among those that were listed last, selected or not."""
        return {name for name, listed in self._found.items() if listed.kind == "SYSTEM VERSIONED"}

    def engine(self, table: Table) -> str:
        """The storage engine's name as the server writes it ("InnoDB", "MyISAM")."""
        return self._listed(table).engine

    def has_snapshots(self, table: Table) -> bool:
        """Whether a read of the table can be exact at a known position without a lock."""
        return self.engine(table).lower() == "innodb" and self.settings.gtid_mode

    def row_estimate(self, table: Table) -> int:
        """The server's guess of the number of rows."""
        return self._listed(table).rows

    def _listed(self, table: Table) -> Listed:
        if (table.db, table.name) not in self._found:
            rows = self._all(_TABLES_SQL + " AND TABLE_SCHEMA = %s AND TABLE_NAME = %s", table.db, table.name)
            if not rows:
                raise Halt("table_missing", table.qualified, "the table does not exist any more")
            self._found[table.db, table.name] = Listed(rows[0][2] or "", int(rows[0][3] or 0), rows[0][4])
        return self._found[table.db, table.name]

    def collations(self) -> dict[int, tuple[str, int]]:
        """Each collation's number -> its character set and that set's longest character in bytes."""
        longest = {
            str(name): int(size)
            for name, size in self._all("SELECT CHARACTER_SET_NAME, MAXLEN FROM information_schema.CHARACTER_SETS")
        }
        rows = self._all(
            "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATIONS WHERE ID IS NOT NULL "
            "AND CHARACTER_SET_NAME IS NOT NULL"
        )
        if self.flavour == "mariadb" and version_of(self.version) >= (
            10,
            10,
            1,
        ):  # the uca1400 family: one name, an id per set
            rows += self._all(
                "SELECT ID, CHARACTER_SET_NAME FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY "
                "WHERE ID IS NOT NULL"
            )
        return {int(number): (canonical_charset(name), longest[name]) for number, name in rows}

    def disguised(self) -> dict[tuple[str, str, str], str]:
        """What of its columns MariaDB's log does not tell."""
        if self.flavour == "mysql":
            return {}
        return {(db, table, column): kind for db, table, column, kind in self._all(_DISGUISED_SQL)}


def _settings_of(session: Session) -> ServerSettings:
    version = str(session.one("SELECT VERSION()"))
    flavour: Flavour = "mariadb" if "mariadb" in version.lower() else "mysql"
    values = {str(name).lower(): str(value) for name, value in session.all("SHOW GLOBAL VARIABLES")}
    return ServerSettings(flavour, version, values)


def selected_tables(
    catalog: Catalog, source: SourceConfig, policies: Policies, patterns: Sequence[str] = ()
) -> list[Table]:
    """The tables that the pipeline follows, with the policies of their columns; of these, what `patterns` name.

    Without patterns all. Refused for a pattern that names none of them: the answer would not be about what was asked.
    """
    tables = chosen(catalog.tables(source.tables, source.exclude), policies)
    if not patterns:
        return tables
    asked = [catalog.selection((pattern,)) for pattern in patterns]
    for pattern, names in zip(patterns, asked, strict=True):
        if not any(names.wants(table.db, table.name) for table in tables):
            raise not_selected(pattern, tables)
    return [table for table in tables if any(names.wants(table.db, table.name) for names in asked)]


def not_selected(name: str, tables: Sequence[Table]) -> Refused:
    """What is said of a name, or a pattern, that is none of the followed tables."""
    db, _, table = name.partition(".")
    near = [f"{db}.{one}" for one in difflib.get_close_matches(table, [t.name for t in tables if t.db == db], n=1)]
    near = near or difflib.get_close_matches(name, [t.qualified for t in tables], n=1, cutoff=0.8)
    hint = f"did you mean {near[0]}?" if near else "cdc status lists the tables; write it as db.table"
    return Refused("not_selected", name, "is no table that this pipeline follows", hint)
