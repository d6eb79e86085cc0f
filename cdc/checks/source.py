"""What is asked of the source: its settings, the selection, names, policies, types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cdc.checks.findings import LOCAL, Demands, tried
from cdc.checks.limits import limits
from cdc.checks.policies import column_policies
from cdc.codec import layout
from cdc.config.load import SourceConfig
from cdc.errors import CdcError
from cdc.model import names as target_names
from cdc.model.finding import Finding
from cdc.model.policies import Policies
from cdc.model.position import Flavour
from cdc.model.table import Table, TableName
from cdc.mysql import privileges
from cdc.mysql.catalog import Catalog, selected_tables
from cdc.mysql.preflight import dotted
from cdc.mysql.server_preflight import examine_server
from cdc.runtime import logs


class Examined(NamedTuple):
    """What the source is, and the tables that are to be followed."""

    flavour: Flavour
    version: str
    tables: Sequence[Table]
    packet_bytes: int = 0
    """The server's `max_allowed_packet`: about what a row can weigh."""


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """What is asked of the source, and by which names and policies its rows go on."""

    source: SourceConfig
    policies: Policies
    schema: str
    """Of the tables on the target, as `target.schema` says it."""
    prefix: str | None
    """Of the topics; None: there are none whose names could be alike."""
    shards: int = 0
    """How many sinks share the work; 0: one does it."""

    def examine(self, findings: list[Finding]) -> Examined:
        """What stands in the way is added to the findings."""
        with Catalog(self.source) as catalog:
            findings += source_tls(self.source)
            findings += tried(findings, [], lambda: examine_server(catalog, self.policies, self.shards))
            tables = tried(findings, list[Table](), lambda: self._selected(catalog, findings))
        packet_bytes = int(catalog.settings.values.get("max_allowed_packet") or 0)
        return Examined(catalog.flavour, catalog.version, tables, packet_bytes)

    def demand(self, *, restart: bool) -> Examined:
        """Refused with the first thing that `examine` would call an error.

        At a restart a pattern may select nothing any more: the log says why, and capture stops there.
        """
        demands = Demands()
        found = self.examine(demands)
        demands[:] = [one for one in demands if not (restart and one.code == "no_tables")]
        demands.enforce()
        return found

    def _selected(self, catalog: Catalog, findings: list[Finding]) -> list[Table]:
        tables = selected_tables(catalog, self.source, self.policies)
        findings += column_policies(self.policies, tables)
        findings += selection(self.source, catalog, tables)
        findings += names(self.schema, tables) + topics(self.prefix, tables)
        findings += types(tables) + limits(tables, int(catalog.settings.values.get("max_allowed_packet") or 0))
        return tables


def source_tls(source: SourceConfig) -> list[Finding]:
    """A warning where rows of patients would travel readable."""
    if source.url.host in LOCAL or source.ssl_mode not in ("disabled", "preferred"):
        return []
    return [
        Finding(
            "warning",
            "source_tls",
            "source.ssl_mode",
            "TLS to the source is not demanded",
            'ssl_mode = "verify_identity" and ssl_ca = "..."',
        )
    ]


def selection(source: SourceConfig, catalog: Catalog, tables: Sequence[Table]) -> list[Finding]:
    """Patterns that select nothing, and tables without a key."""
    found = [_selects_nothing(catalog, pattern) for pattern in source.tables if not catalog.tables([pattern])]
    if not tables and not found:
        found = [Finding("error", "no_tables", "source.exclude", "everything that source.tables selects is excluded")]
    return found + [_keyless(table, catalog.has_snapshots(table)) for table in tables if not table.key]


def _selects_nothing(catalog: Catalog, pattern: str) -> Finding:
    db = pattern.partition(".")[0]
    database = dotted((db,)) if not set("*?") & set(db) else "`database`"
    account = privileges.quoted_account(catalog.session.one("SELECT CURRENT_USER()"))
    hint = f"GRANT SELECT ON {database}.* TO {account}; -- as root; SHOW TABLES FROM {database} says what is there"
    rule = f"{pattern} selects no table that exists and that the account may read"
    return Finding("error", "no_tables", "source.tables", rule, hint)


def _keyless(table: Table, snapshots: bool) -> Finding:
    held = "at one exact position" if snapshots else "under LOCK TABLES .. READ"
    rule = (
        f"has no primary key: copied by one read of the whole table {held}; "
        "equal rows are told apart by their number only"
    )
    return Finding(
        "warning",
        "no_key",
        table.qualified,
        rule,
        f"ALTER TABLE {dotted((table.db, table.name))} ADD PRIMARY KEY (...)",
    )


def names(schema: str, tables: Sequence[Table]) -> list[Finding]:
    """Two tables or columns that would become one; schemas that are not for data; names that PostgreSQL would cut."""
    found: list[Finding] = []
    taken: dict[TableName, Table] = {}
    for table in tables:
        place = target_names.target_of(schema, table.db, table.name)
        other = taken.setdefault(place, table)
        if other is not table:
            rule = f"would be written into the same table as {other.qualified}"
            found.append(
                Finding("error", "same_target", table.qualified, rule, 'target.schema = "{db}" keeps databases apart')
            )
        found += _names_in(table, place)
    return found


def _names_in(table: Table, place: tuple[str, str]) -> list[Finding]:
    found, columns = [], [column.name for column in table.columns]
    if target_names.is_reserved_schema(place[0]):
        rule, hint = (
            f"schema {place[0]} is PostgreSQL's own or the pipelines' state",
            'target.schema = "source_{db}", or the like',
        )
        found.append(Finding("error", "schema_reserved", table.qualified, rule, hint))
    for one, other in target_names.shared(columns):
        rule = f"columns {one} and {other} would both be called {target_names.column(other)}"
        found.append(
            Finding("error", "same_column", table.qualified, rule, "-- rename one of them, or exclude the table")
        )
    if (changed := target_names.renamed(columns)) or place[1] != table.name:
        rule = (
            f"PostgreSQL cannot hold {'its name' if place[1] != table.name else next(iter(changed))}: "
            "it is shortened, or gets a suffix"
        )
        found.append(Finding("warning", "name_changed", table.qualified, rule, "-- cdc status --json shows every name"))
    return found


def topics(prefix: str | None, tables: Sequence[Table]) -> list[Finding]:
    """Two tables whose topics no broker would tell apart."""
    found: list[Finding] = []
    taken: dict[str, Table] = {}
    if prefix is None:
        return found
    for table in tables:
        topic = target_names.topic(prefix, table.db, table.name)
        other = taken.setdefault(target_names.alike(topic), table)
        if other is not table:
            rule = (
                f"its topic {topic} cannot stand beside that of {other.qualified}: "
                "a broker tells names apart by letters and digits"
            )
            found.append(
                Finding("error", "same_topic", table.qualified, rule, "-- follow one of them in a pipeline of its own")
            )
    return found


def types(tables: Sequence[Table]) -> list[Finding]:
    """Columns of a type or character set that nobody taught us."""
    found: list[Finding] = []
    for table in tables:
        for column in table.columns:
            place = f"{table.qualified}.{column.name}"
            try:
                with logs.about(place):
                    layout.slot(column, place)
            except CdcError as error:
                found.append(Finding("error", error.code, place, error.rule, error.hint or "-- exclude the table"))
    return found
