"""What is asked of the target: its version, privileges, schemas and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any

from cdc.checks.findings import LOCAL, target_of
from cdc.config.load import Config
from cdc.model.finding import Finding
from cdc.model.table import Table
from cdc.postgres.connection import connect
from cdc.postgres.errors import guarded

OLDEST_TARGET = 140000

Query = Callable[..., Sequence[Sequence[Any]]]
"""SQL and its parameters in, rows out; raises CdcError."""

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


# Target


@contextmanager
def querying(config: Config) -> Iterator[Query]:
    """A connection to the target that answers questions."""
    with closing(connect(config.target, "cdc doctor")) as connection:
        deciding = guarded(str(config.target.url), starting=True)
        yield deciding(lambda sql, *parameters: connection.execute(sql, parameters or None).fetchall())


def examine_target(
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
            not tls and config.target.url.host not in LOCAL,
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
        hint = f'ALTER TABLE {relation} OWNER TO "{config.target.url.user}"'
        return [Finding("error", "target_owner", relation, "exists and belongs to another role", hint)]
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
