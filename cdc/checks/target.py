"""What is asked of the target: its version, privileges, schemas and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from cdc.checks.findings import LOCAL, Demands
from cdc.config.load import ServerUrl, TargetConfig
from cdc.model.finding import Finding
from cdc.model.names import target_of
from cdc.model.table import Table, TableName
from cdc.postgres.connection import connect
from cdc.postgres.errors import guarded
from cdc.state import resets
from cdc.state.processes import abandoned, processes
from cdc.state.store import StateStore

OLDEST_TARGET = 140000

Query = Callable[..., Sequence[Sequence[Any]]]
"""SQL and its parameters in, rows out; raises CdcError."""

_SERVER_SQL = """
SELECT current_setting('server_version_num')::int, current_setting('server_version'),
    current_setting('server_encoding'),
       pg_is_in_recovery(), has_database_privilege(current_database(), 'CREATE'),
       coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false), current_user, current_database()"""
_SCHEMAS_SQL = "SELECT nspname, has_schema_privilege(oid, 'CREATE') FROM pg_namespace WHERE nspname = ANY(%s)"
_TABLES_SQL = """
SELECT n.nspname, c.relname, format('%%I.%%I', n.nspname, c.relname), c.relkind IN ('r', 'p'), pg_has_role(c.relowner,
    'USAGE')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY(%s) AND c.relname = ANY(%s) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')"""
# What a streaming pipeline knows as new it has made, or has copied once: rows are ours, those of a copy that was
# stopped among them.
_OURS_SQL = """
SELECT target_schema, target_table FROM cdc.tables t WHERE pipeline = %s
 AND (state NOT IN ('new', 'refused') OR (state = 'new' AND EXISTS (SELECT FROM cdc.progress p WHERE p.pipeline =
 t.pipeline)))"""
_OTHERS_SQL = """
SELECT target_schema, target_table, pipeline, db, "table" FROM cdc.tables WHERE pipeline <> %s AND state <> 'refused'"""


@dataclass(frozen=True, slots=True)
class TargetCheck:
    """What is asked of a pipeline's target."""

    target: TargetConfig
    pipeline: str

    def examine(self, tables: Sequence[Table], findings: list[Finding]) -> str:
        """The server's version; what stands in the way of these tables is added to the findings."""
        url = self.target.url
        with _querying(self.target) as query:
            version, text, *facts = query(_SERVER_SQL)[0]
            findings += target_server(url, version, *facts)
            if facts[0] != "UTF8":
                return str(text)  # nothing that is asked by a name has an answer there
            findings += target_temporary(url, query)
            wanted = {target_of(self.target.schema_, table.db, table.name) for table in tables}
            findings += target_schemas(query, {schema for schema, _ in wanted}, facts[2])
            findings += self._existing(query, wanted)
        with StateStore(self.target, self.pipeline) as state:
            findings += standing(state)
        return str(text)

    def demand(self, tables: Sequence[Table]) -> None:
        """Refused unless the target can take these tables; with none, unless it can hold the pipeline's state."""
        demands = Demands()
        self.examine(tables, demands)
        demands.enforce()

    def _existing(self, query: Query, wanted: set[TableName]) -> list[Finding]:
        """Existing relations in the way: not tables, not ours to change, or with rows that nobody let us replace."""
        known = query("SELECT to_regclass('cdc.tables') IS NOT NULL")[0][0]
        ours = {tuple(row) for row in query(_OURS_SQL, self.pipeline)} if known else set()
        others = {(row[0], row[1]): row[2:] for row in query(_OTHERS_SQL, self.pipeline)} if known else {}
        rows = query(_TABLES_SQL, sorted({schema for schema, _ in wanted}), sorted({name for _, name in wanted}))
        found = [_taken(place, *others[place]) for place in sorted(wanted & set(others))]
        for schema, name, relation, is_table, is_owner in rows:
            if (schema, name) in wanted and (schema, name) not in ours and (schema, name) not in others:
                found += _in_the_way(self.target, query, relation, is_table, is_owner)
        return found


def standing(state: StateStore) -> list[Finding]:
    """What was begun here and is not finished, while nobody works on it."""
    found = abandoned(state.connection, state.pipeline, processes(state.connection, state.pipeline)) \
        if state.version() else []  # fmt: skip
    reset = resets.pending(state)
    if reset is not None:
        rule = f"a reset was begun at {reset.at} and is not finished: nothing starts before it is"
        found.append(Finding("error", "reset_unfinished", f"pipeline {state.pipeline}", rule, f"-- {reset.hint}"))
    return found


@contextmanager
def _querying(target: TargetConfig) -> Iterator[Query]:
    """A connection to the target that answers questions."""
    with closing(connect(target, "cdc doctor")) as connection:
        deciding = guarded(str(target.url), starting=True)
        yield deciding(lambda sql, *parameters: connection.execute(sql, parameters or None).fetchall())


def target_server(
    url: ServerUrl, version: int, encoding: str, standby: bool, may_create: bool, tls: bool, user: str, database: str
) -> list[Finding]:
    """Findings about the server as a whole."""
    place = str(url)
    quoted_names = f'"{database}" TO "{user}"'
    checks = (
        (
            version < OLDEST_TARGET,
            "error",
            "target_version",
            f"PostgreSQL {version // 10000} is older than 14",
            "-- upgrade the server",
        ),
        (
            encoding != "UTF8",
            "error",
            "target_encoding",
            f"the database's encoding is {encoding}",
            "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0",
        ),
        (
            standby,
            "error",
            "target_standby",
            "the server is a standby: it takes no writes",
            "-- name the primary in target.url",
        ),
        (
            not may_create,
            "warning",
            "target_create",
            f"{user} may not create schemas",
            f"GRANT CREATE ON DATABASE {quoted_names}",
        ),
        (
            not tls and url.host not in LOCAL,
            "warning",
            "target_tls",
            "the connection is not encrypted",
            "add ?sslmode=verify-full&sslrootcert=... to target.url",
        ),
    )
    return [
        Finding("error" if level == "error" else "warning", code, place, rule, hint)
        for wrong, level, code, rule, hint in checks
        if wrong
    ]


def target_temporary(url: ServerUrl, query: Query) -> list[Finding]:
    """A role that may not make the temporary tables through which rows are merged."""
    may, user, database = query(
        "SELECT has_database_privilege(current_database(), 'TEMP'), current_user, current_database()"
    )[0]
    hint = f'GRANT TEMPORARY ON DATABASE "{database}" TO "{user}"'
    return (
        [] if may else [Finding("error", "target_temporary", str(url), f"{user} may not create temporary tables", hint)]
    )


def target_schemas(query: Query, schemas: set[str], may_create: bool) -> list[Finding]:
    """Schemas that are missing and cannot be made, or in which nothing can be made."""
    wanted = sorted({"cdc"} | schemas)
    there = {str(name): bool(may) for name, may in query(_SCHEMAS_SQL, wanted)}
    missing = [name for name in wanted if name not in there and not may_create]
    closed = [name for name in wanted if not there.get(name, True)]
    return [
        Finding(
            "error",
            "target_schema",
            name,
            "the schema does not exist and cannot be created",
            f'CREATE SCHEMA "{name}" AUTHORIZATION ...',
        )
        for name in missing
    ] + [
        Finding(
            "error",
            "target_schema",
            name,
            "no privilege to create tables in it",
            f'GRANT USAGE, CREATE ON SCHEMA "{name}" TO ...',
        )
        for name in closed
    ]


def _taken(place: tuple[str, str], pipeline: str, db: str, table: str) -> Finding:
    rule = f"is the target of {db}.{table} of pipeline {pipeline}"
    return Finding("error", "target_taken", ".".join(place), rule, "-- give target.schema another name")


def _in_the_way(target: TargetConfig, query: Query, relation: str, is_table: bool, is_owner: bool) -> list[Finding]:
    if not is_table:
        rule, hint = (
            "exists and is not a table",
            f"-- rename it, or set target.schema; {relation} is a view or the like",
        )
        return [Finding("error", "target_exists", relation, rule, hint)]
    if not is_owner:
        hint = f'ALTER TABLE {relation} OWNER TO "{target.url.user}"'
        return [Finding("error", "target_owner", relation, "exists and belongs to another role", hint)]
    if target.adopt or not query(f"SELECT EXISTS (SELECT FROM {relation})")[0][0]:
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
