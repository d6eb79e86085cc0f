"""The preflight: is everything there that a start needs, and which SQL mends what is not. Nothing is written anywhere.

`examine` reports everything at once, a server that cannot be asked included; `demand`, with which every start begins, raises the
first error of the same checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, Protocol, TypeVar

from cdc import columns, state
from cdc import names as target_names
from cdc.codec import layout
from cdc.config import Config
from cdc.errors import CdcError, Refused
from cdc.model import Table
from cdc.policies import LOSSY
from cdc.preflight import Finding, quoted
from cdc.types import policy_keys

OLDEST_TARGET = 140000
_LOCAL = ("127.0.0.1", "::1", "localhost")

Query = Callable[..., Sequence[Sequence[Any]]]
"""SQL and its parameters in, rows out; raises CdcError."""
Fits = Callable[[Any, Sequence[Table]], object]
"""Flavour of the source and its tables in; raises CdcError when a table that the target has already cannot hold the rows."""

_SERVER_SQL = """
SELECT current_setting('server_version_num')::int, current_setting('server_version'), current_setting('server_encoding'),
       pg_is_in_recovery(), has_database_privilege(current_database(), 'CREATE'),
       coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false), current_user, current_database()"""
_SCHEMAS_SQL = "SELECT nspname, has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = ANY(%s)"
_TABLES_SQL = """
SELECT n.nspname, c.relname, format('%%I.%%I', n.nspname, c.relname), c.relkind IN ('r', 'p'), pg_has_role(c.relowner, 'USAGE')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY(%s) AND c.relname = ANY(%s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')"""
# What a streaming pipeline knows as new it has made, or has copied once: rows are ours, those of a copy that was stopped among them.
_OURS_SQL = """
SELECT target_schema, target_table FROM cdc.tables t WHERE pipeline = %s
 AND (state NOT IN ('new', 'refused') OR (state = 'new' AND EXISTS (SELECT FROM cdc.progress p WHERE p.pipeline = t.pipeline)))"""
_OTHERS_SQL = """
SELECT target_schema, target_table, pipeline, db, "table" FROM cdc.tables WHERE pipeline <> %s AND state <> 'refused'"""

T = TypeVar("T")


class Source(Protocol):
    """What the doctor asks of `cdc.catalog.Catalog`."""

    flavour: Any
    version: str

    def preflight(self) -> list[Finding]: ...
    def tables(self, patterns: Sequence[str], exclude: Sequence[str] = ()) -> list[Table]: ...
    def engine(self, table: Table) -> str: ...


def examine(
    config: Config,
    source: Callable[[], AbstractContextManager[Source]],
    *,
    target: Callable[[Config], AbstractContextManager[Query]] | None = None,
    fits: Fits | None = None,
    broker: Callable[[Sequence[Table]], object] | None = None,
    codec: str = "pure",
) -> dict[str, Any]:
    """The document of `cdc doctor`. `source` opens a Catalog; `broker` reaches the brokers, and is None where none is needed."""
    findings: list[Finding] = []
    nothing: tuple[Any, list[Table]] = (None, [])
    about, tables = _tried(findings, nothing, lambda: _source(config, source, findings))
    version = _tried(findings, None, lambda: _target(config, target or querying, tables, findings))
    if fits is not None and version is not None and about is not None and not any(one.level == "error" for one in findings):
        _tried(findings, None, lambda: fits(about["flavour"], tables))
    if broker is not None:
        _tried(findings, None, lambda: broker(tables))
    return document(findings, about, version, [table.qualified for table in tables], codec)


class _Demands(list[Finding]):
    """Findings of a start: what cannot be asked is not noted, it stops."""

    def enforce(self) -> None:
        errors = [one for one in self if one.level == "error"]
        if errors:
            more = f" (and {len(errors) - 1} more: cdc doctor lists them)" if errors[1:] else ""
            raise Refused(errors[0].code, errors[0].place, errors[0].rule + more, errors[0].hint_sql)


def demand_source(
    config: Config, source: Callable[[], AbstractContextManager[Source]], *, restart: bool = False
) -> tuple[Any, list[Table]]:
    """The source's flavour and the tables to follow; Refused with the first thing that `examine` would call an error.

    At a restart a pattern may select nothing any more: the log says why, and capture stops there.
    """
    demands = _Demands()
    about, tables = _source(config, source, demands)
    demands[:] = [one for one in demands if not (restart and one.code == "no_tables")]
    demands.enforce()
    return about["flavour"], tables


def demand_target(config: Config, tables: Sequence[Table]) -> None:
    """Refused unless the target can take these tables; with none, unless it can hold the pipeline's state."""
    demands = _Demands()
    _target(config, querying, tables, demands)
    demands.enforce()


def document(findings: Iterable[Finding], source: Any, version: str | None, tables: Sequence[str], codec: str) -> dict[str, Any]:
    """Findings as a document, errors first."""
    ordered = sorted(findings, key=lambda one: (one.level != "error", one.code, one.place))
    shown = [{"level": one.level, "code": one.code, "place": one.place, "rule": one.rule, "hint": one.hint_sql} for one in ordered]
    errors = sum(one.level == "error" for one in ordered)
    return {
        "errors": errors,
        "warnings": len(ordered) - errors,
        "codec": codec,
        "source": source,
        "target": None if version is None else {"version": version},
        "tables": list(tables),
        "findings": shown,
    }


def _tried(findings: list[Finding], otherwise: T, ask: Callable[[], T]) -> T:
    try:
        return ask()
    except CdcError as error:
        if isinstance(findings, _Demands):
            raise
        findings.append(Finding("error", error.code, error.place, error.rule, error.hint))
        return otherwise


# Source


def _source(config: Config, source: Callable[[], AbstractContextManager[Source]], findings: list[Finding]) -> tuple[Any, list[Table]]:
    with source() as catalog:
        findings += source_tls(config)
        about = {"flavour": catalog.flavour, "version": catalog.version}
        findings += _tried(findings, [], catalog.preflight)
        tables = _tried(findings, list[Table](), lambda: _selected(config, catalog, findings))
    return about, tables


def _selected(config: Config, catalog: Source, findings: list[Finding]) -> list[Table]:
    tables = columns.chosen(catalog.tables(config.source.tables, config.source.exclude), config.policies.policies)
    findings += policies(config, tables)
    findings += selection(config, catalog, tables)
    findings += names(config, tables)
    findings += types(tables)
    return tables


def source_tls(config: Config) -> list[Finding]:
    """A warning where rows of patients would travel readable."""
    if config.source.url.host in _LOCAL or config.source.ssl_mode not in ("disabled", "preferred"):
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


def selection(config: Config, catalog: Source, tables: Sequence[Table]) -> list[Finding]:
    """Patterns that select nothing, and tables without a key."""
    found = [
        Finding(
            "error",
            "no_tables",
            "source.tables",
            f"{pattern} selects no table that exists and that the account may read",
            "-- SHOW TABLES as root; GRANT SELECT ON `database`.* TO the account of source.url",
        )
        for pattern in config.source.tables
        if not catalog.tables([pattern])
    ]
    if not tables and not found:
        found = [Finding("error", "no_tables", "source.exclude", "everything that source.tables selects is excluded")]
    return found + [_keyless(table, catalog.engine(table)) for table in tables if not table.key]


def _keyless(table: Table, engine: str) -> Finding:
    held = "under LOCK TABLES .. READ" if engine.lower() in ("myisam", "aria", "memory") else "at one exact position"
    rule = f"has no primary key: copied by one read of the whole table {held}; equal rows are told apart by their number only"
    return Finding("warning", "no_key", table.qualified, rule, f"ALTER TABLE {quoted((table.db, table.name))} ADD PRIMARY KEY (...)")


def target_of(config: Config, table: Table) -> tuple[str, str]:
    """Schema and name that the table gets on the target."""
    return target_names.target_of(config.target.schema_, table.db, table.name)


def names(config: Config, tables: Sequence[Table]) -> list[Finding]:
    """Two tables, columns or topics that would become one; schemas that are not for data; names that PostgreSQL would cut."""
    found: list[Finding] = []
    taken: dict[tuple[str, str], Table] = {}
    for table in tables:
        place = target_of(config, table)
        other = taken.setdefault(place, table)
        if other is not table:
            rule = f"would be written into the same table as {other.qualified}"
            found.append(Finding("error", "same_target", table.qualified, rule, 'target.schema = "{db}" keeps databases apart'))
        found += _names_in(table, place)
    return found + (_topics(config.transport.prefix, tables) if config.transport.kind == "kafka" else [])


def _names_in(table: Table, place: tuple[str, str]) -> list[Finding]:
    found, columns = [], [column.name for column in table.columns]
    if target_names.is_reserved_schema(place[0]):
        rule, hint = f"schema {place[0]} is PostgreSQL's own or the pipelines' state", 'target.schema = "source_{db}", or the like'
        found.append(Finding("error", "schema_reserved", table.qualified, rule, hint))
    for one, other in target_names.shared(columns):
        rule = f"columns {one} and {other} would both be called {target_names.column(other)}"
        found.append(Finding("error", "same_column", table.qualified, rule, "-- rename one of them, or exclude the table"))
    if (changed := target_names.renamed(columns)) or place[1] != table.name:
        rule = f"PostgreSQL cannot hold {'its name' if place[1] != table.name else next(iter(changed))}: it is shortened, or gets a suffix"
        found.append(Finding("warning", "name_changed", table.qualified, rule, "-- cdc status --json shows every name"))
    return found


def _topics(prefix: str, tables: Sequence[Table]) -> list[Finding]:
    found: list[Finding] = []
    taken: dict[str, Table] = {}
    for table in tables:
        topic = target_names.topic(prefix, table.db, table.name)
        other = taken.setdefault(target_names.alike(topic), table)
        if other is not table:
            rule = f"its topic {topic} cannot stand beside that of {other.qualified}: a broker tells names apart by letters and digits"
            found.append(Finding("error", "same_topic", table.qualified, rule, "-- follow one of them in a pipeline of its own"))
    return found


def policies(config: Config, tables: Sequence[Table]) -> list[Finding]:
    """Policies of single columns that no column has, and lossy ones that are said of a key."""
    book = config.policies.policies
    names = [(t.db, t.name, column.name) for t in tables for column in t.columns]
    unused = [pattern for pattern in book.patterns if not any(book.matches(pattern, *name) for name in names)]
    return [
        Finding("warning", "policy_unused", f'policies.columns."{pattern}"', "is the name of no column of a selected table")
        for pattern in unused
    ] + [
        Finding(
            "error",
            "policy_of_key",
            f"{table.qualified}.{table.columns[at].name}",
            f'policies.columns says {key} = "{value}" of a key column, which no policy may change',
            f"-- take {key} out of the column's policies",
        )
        for table in tables
        for at in table.key
        for key, value in book.named(table.db, table.name, table.columns[at].name).items()
        if value in LOSSY.get(key, ()) and key in policy_keys(table.columns[at])
    ]


def types(tables: Sequence[Table]) -> list[Finding]:
    """Columns of a type or character set that nobody taught us."""
    found: list[Finding] = []
    for table in tables:
        for column in table.columns:
            place = f"{table.qualified}.{column.name}"
            try:
                layout.slot(column, place)
            except CdcError as error:
                found.append(Finding("error", error.code, place, error.rule, error.hint or "-- exclude the table"))
    return found


# Target


@contextmanager
def querying(config: Config) -> Iterator[Query]:
    """A connection to the target that answers questions."""
    with closing(state.connect(config.target, "cdc doctor")) as connection:
        deciding = state.guarded(str(config.target.url), starting=True)
        yield deciding(lambda sql, *parameters: connection.execute(sql, parameters or None).fetchall())


def _target(
    config: Config, target: Callable[[Config], AbstractContextManager[Query]], tables: Sequence[Table], findings: list[Finding]
) -> str | None:
    with target(config) as query:
        version, text, *facts = query(_SERVER_SQL)[0]
        findings += target_server(config, version, *facts)
        findings += target_temporary(config, query)
        findings += target_schemas(config, query, tables, facts[2])
        findings += target_tables(config, query, tables)
    return str(text)


def target_server(
    config: Config, version: int, encoding: str, standby: bool, may_create: bool, tls: bool, user: str, database: str
) -> list[Finding]:
    """Findings about the server as a whole."""
    place = str(config.target.url)
    quoted_names = f'"{database}" TO "{user}"'
    checks = (
        (version < OLDEST_TARGET, "error", "target_version", f"PostgreSQL {version // 10000} is older than 14", "-- upgrade the server"),
        (
            encoding != "UTF8",
            "error",
            "target_encoding",
            f"the database's encoding is {encoding}",
            "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
        ),
        (standby, "error", "target_standby", "the server is a standby: it takes no writes", "-- name the primary in target.url"),
        (not may_create, "warning", "target_create", f"{user} may not create schemas", f"GRANT CREATE ON DATABASE {quoted_names}"),
        (
            not tls and config.target.url.host not in _LOCAL,
            "warning",
            "target_tls",
            "the connection is not encrypted",
            "add ?sslmode=verify-full&sslrootcert=... to target.url",
        ),
    )
    return [
        Finding("error" if level == "error" else "warning", code, place, rule, hint) for wrong, level, code, rule, hint in checks if wrong
    ]


def target_temporary(config: Config, query: Query) -> list[Finding]:
    """A role that may not make the temporary tables through which rows are merged."""
    may, user, database = query("SELECT has_database_privilege(current_database(), 'TEMP'), current_user, current_database()")[0]
    hint = f'GRANT TEMPORARY ON DATABASE "{database}" TO "{user}"'
    return [] if may else [Finding("error", "target_temporary", str(config.target.url), f"{user} may not create temporary tables", hint)]


def target_schemas(config: Config, query: Query, tables: Sequence[Table], may_create: bool) -> list[Finding]:
    """Schemas that are missing and cannot be made, or in which nothing can be made."""
    wanted = sorted({"cdc"} | {target_of(config, table)[0] for table in tables})
    there = {str(name): bool(may) for name, may in query(_SCHEMAS_SQL, wanted)}
    missing = [name for name in wanted if name not in there and not may_create]
    closed = [name for name in wanted if not there.get(name, True)]
    return [
        Finding(
            "error", "target_schema", name, "the schema does not exist and cannot be created", f'CREATE SCHEMA "{name}" AUTHORIZATION ...'
        )
        for name in missing
    ] + [
        Finding("error", "target_schema", name, "no privilege to create tables in it", f'GRANT USAGE, CREATE ON SCHEMA "{name}" TO ...')
        for name in closed
    ]


def target_tables(config: Config, query: Query, tables: Sequence[Table]) -> list[Finding]:
    """Existing relations in the way: not tables, not ours to change, or with rows that nobody let us replace."""
    wanted = {target_of(config, table) for table in tables}
    known = query("SELECT to_regclass('cdc.tables') IS NOT NULL")[0][0]
    ours = {tuple(row) for row in query(_OURS_SQL, config.pipeline.name)} if known else set()
    others = {(row[0], row[1]): row[2:] for row in query(_OTHERS_SQL, config.pipeline.name)} if known else {}
    rows = query(_TABLES_SQL, sorted({schema for schema, _ in wanted}), sorted({name for _, name in wanted}))
    found = [_taken(place, *others[place]) for place in sorted(wanted & set(others))]
    for schema, name, relation, is_table, is_owner in rows:
        if (schema, name) in wanted and (schema, name) not in ours and (schema, name) not in others:
            found += _existing(config, query, relation, is_table, is_owner)
    return found


def _taken(place: tuple[str, str], pipeline: str, db: str, table: str) -> Finding:
    rule = f"is the target of {db}.{table} of pipeline {pipeline}"
    return Finding("error", "target_taken", ".".join(place), rule, "-- give target.schema another name")


def _existing(config: Config, query: Query, relation: str, is_table: bool, is_owner: bool) -> list[Finding]:
    if not is_table:
        rule, hint = "exists and is not a table", f"-- rename it, or set target.schema; {relation} is a view or the like"
        return [Finding("error", "target_exists", relation, rule, hint)]
    if not is_owner:
        return [
            Finding(
                "error", "target_owner", relation, "exists and belongs to another role", f"ALTER TABLE {relation} OWNER TO CURRENT_USER"
            )
        ]
    if config.target.adopt or not query(f"SELECT EXISTS (SELECT FROM {relation})")[0][0]:
        return []
    return [
        Finding(
            "error",
            "target_not_empty",
            relation,
            "exists and holds rows of unknown origin",
            f"TRUNCATE {relation}; -- or target.adopt = true",
        )
    ]
