"""The target's tables: made from a plan, or found and proven fit.
Names are those of `cdc.model.names`, always quoted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cdc.config.load import TargetConfig
from cdc.errors import AllRefused, Halt, Refused, Retry
from cdc.model.names import NAME_BYTES, is_reserved_schema, primary_key, target_of
from cdc.model.table import TableName
from cdc.postgres.connection import Connection
from cdc.protocol.applied import TableProgress
from cdc.state.store import StateStore
from sinks.contract import ColumnOfPlan, Plan, demand_same_policies

_MAX_COLUMNS = 1600
_TAKEN = """
SELECT pipeline, db, "table" FROM cdc.tables WHERE (target_schema, target_table) = (%s, %s) AND state <> 'refused'"""


@dataclass(frozen=True, slots=True)
class TargetTable:
    """Where a table's rows go."""

    schema: str
    table: str
    loaded_at: str = ""

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def sql(self) -> str:
        return f"{quoted(self.schema)}.{quoted(self.table)}"


@dataclass(frozen=True, slots=True)
class Found:
    """A column as the server describes it."""

    name: str
    type: str
    oid: int
    required: bool
    """NOT NULL, or not to be left out of an INSERT."""


def quoted(name: str) -> str:
    """An identifier that means exactly this name."""
    return '"' + name.replace('"', '""') + '"'


def place_of(target: TargetConfig, db: str, table: str) -> TargetTable:
    """The target of a source table; a schema that is not for data is refused."""
    schema, name = target_of(target.schema_, db, table)
    if is_reserved_schema(schema):
        raise Refused("schema_reserved", f"{db}.{table}", f"schema {schema} is "
                                                          "PostgreSQL's own or the pipelines' state",
                      'give target.schema another name, such as "source_{db}"')  # fmt: skip
    for kind, one in (("schema", schema), ("table", name)):
        _fits(kind, one, f"{db}.{table}")
    return TargetTable(schema, name, target.loaded_at)


def _fits(kind: str, name: str, place: str) -> None:
    if len(name.encode()) > NAME_BYTES:
        raise Refused(
            "name_too_long", place, f"{kind} name {name!r} has more than {NAME_BYTES} bytes, PostgreSQL would cut it"
        )
    if not name or "\0" in name:
        raise Refused("name_invalid", place, f"{kind} name is empty or holds a NUL")


def check_names(plan: Plan, place: TargetTable) -> None:
    """Refuse what a PostgreSQL table cannot have: two columns of one name, too many,
    a load-time column that hides one of the source."""
    seen: set[str] = set()
    for column in plan.columns:
        _fits("column", column.name, f"{plan.db}.{plan.table}")
        if column.name in seen:
            raise Refused(
                "same_column",
                f"{plan.db}.{plan.table}",
                f"two columns would be called {column.name!r}",
                "rename one of them",
            )
        seen.add(column.name)
    if len(plan.columns) + bool(place.loaded_at) > _MAX_COLUMNS:
        raise Refused(
            "too_many_columns",
            f"{plan.db}.{plan.table}",
            f"PostgreSQL holds {_MAX_COLUMNS} columns",
            "exclude the table",
        )
    if any(column.name == place.loaded_at for column in plan.columns):
        raise Refused("loaded_at", f"{plan.db}.{plan.table}.{place.loaded_at}", "the source has a column of that name",
                      "choose another target.loaded_at")  # fmt: skip


def column_sql(column: ColumnOfPlan) -> str:
    """One column of CREATE TABLE. Nothing is NOT NULL: a temporal value may arrive as null."""
    collation = f" COLLATE pg_catalog.{quoted(column.collation)}" if column.collation else ""
    return f"{quoted(column.name)} {column.postgres_type}{collation}"


def create_sql(plan: Plan, place: TargetTable) -> str:
    """CREATE TABLE with the source's columns and primary key, and nothing else but the load time if it is asked for."""
    parts = [column_sql(column) for column in plan.columns]
    if place.loaded_at:
        parts.append(f"{quoted(place.loaded_at)} timestamptz DEFAULT now()")
    if plan.key:
        name = quoted(primary_key(place.schema, place.table))
        parts.append(f"CONSTRAINT {name} PRIMARY KEY ({names(plan.columns[at].name for at in plan.key)})")
    return f"CREATE TABLE {place.sql} ({', '.join(parts)})"


def names(columns: Iterable[str]) -> str:
    """Quoted names, with commas between."""
    return ", ".join(quoted(name) for name in columns)


def found_columns(connection: Connection, relation: str) -> list[Found]:
    """The columns of a relation, by its quoted name; empty when it does not exist."""
    rows = connection.execute(
        "SELECT attname, format_type(atttypid, atttypmod), atttypid::int8, attnotnull, atthasdef, attgenerated, "
        "attidentity"
        " FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum",
        [relation],
    )
    return [Found(name, kind, oid, (notnull and not default) or generated != "" or identity == "a")
            for name, kind, oid, notnull, default, generated, identity in rows]  # fmt: skip


def create_schema(connection: Connection, schema: str) -> None:
    """Make the schema unless it is there; needs no privilege then."""
    if connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", [schema]).fetchone() is None:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}".encode())


def make_empty(connection: Connection, place: TargetTable) -> None:
    """Empty the table; one that is empty is left alone, because the server waits for its disk at each TRUNCATE."""
    if connection.execute(f"SELECT 1 FROM {place.sql} LIMIT 1".encode()).fetchone():
        connection.execute(f"TRUNCATE {place.sql}".encode())


def check_free(connection: Connection, pipeline: str, plan: Plan, place: TargetTable) -> None:
    """Refuse a place that another source table, or another pipeline, writes to."""
    taken = connection.execute(_TAKEN, [place.schema, place.table]).fetchone()
    if taken is not None and taken != (pipeline, plan.db, plan.table):
        raise Refused("target_taken", str(place), f"it is the target of {taken[1]}.{taken[2]} of pipeline {taken[0]}",
                      "give target.schema another name")  # fmt: skip


def ensure_table(connection: Connection, plan: Plan, place: TargetTable, *, adopt: bool) -> bool:
    """Make the table, or prove that the one that is there can hold the rows;
    whether it was made. `adopt` allows it to hold some."""
    check_names(plan, place)
    create_schema(connection, place.schema)
    found = found_columns(connection, place.sql)
    if not found:
        connection.execute(create_sql(plan, place).encode())
        return True
    check_table(connection, plan, place, found)
    if not adopt and connection.execute(f"SELECT 1 FROM {place.sql} LIMIT 1".encode()).fetchone():
        raise Refused(
            "target_not_empty",
            str(place),
            "the table exists and holds rows",
            "rename it, or set target.adopt = true if its rows may go",
        )
    return False


def check_tables(
    connection: Connection, target: TargetConfig, plans: Iterable[Plan], ours: Mapping[TableName, TableProgress]
) -> None:
    """Refuse, all at once, tables that are not `ours` yet and could not be made or taken, or that other policies
    wrote; changes nothing."""
    refused = list[Refused]()
    with connection.transaction(force_rollback=True):
        for plan in plans:
            try:
                _check_one(connection, target, plan, ours.get((plan.db, plan.table)))
            except Refused as error:
                refused.append(error)
    if refused:
        raise refused[0] if len(refused) == 1 else AllRefused(refused)


def _check_one(connection: Connection, target: TargetConfig, plan: Plan, known: TableProgress | None) -> None:
    if known is not None:
        demand_same_policies(known, plan, Refused)
        return
    place = place_of(target, plan.db, plan.table)
    check_names(plan, place)
    if found := found_columns(connection, place.sql):
        check_table(connection, plan, place, found)


def check_table(connection: Connection, plan: Plan, place: TargetTable, found: list[Found]) -> None:
    """Refuse a table whose kind, columns or key are not the plan's, with everything that is wrong; types that hold all
    that the plan's do are taken over into it."""
    kind = connection.execute("SELECT relkind FROM pg_class WHERE oid = to_regclass(%s)", [place.sql]).fetchone()
    if kind is None or kind[0] != "r":
        raise Refused("target_table", str(place), "the table exists but is not an ordinary table", "drop or rename it")
    plan.widen({column.name: column.type for column in found})
    wrong = _differences(connection, plan, place, found)
    if wrong:
        rules, mends = ", ".join(rule for rule, _ in wrong), "; ".join(mend for _, mend in wrong if mend)
        raise Refused(
            "target_table",
            str(place),
            f"the table exists but {rules}",
            f"{mends}; or drop or rename it: it is made anew",
        )


def _differences(connection: Connection, plan: Plan, place: TargetTable, found: list[Found]) -> list[tuple[str, str]]:
    """What is wrong with a table, and the SQL that mends it."""
    there, wrong, alter = {column.name: column for column in found}, list[tuple[str, str]](), f"ALTER TABLE {place.sql}"
    for column in _expected(connection, plan):
        name, other = quoted(column.name), there.get(column.name)
        if other is None:
            wrong.append((f"has no column {column.name!r}", f"{alter} ADD COLUMN {name} {column.type}"))
        elif other.type != column.type:
            rule = f"column {column.name!r} is {other.type}, it should be {column.type}"
            wrong.append((rule, f"{alter} ALTER COLUMN {name} TYPE {column.type}"))
    keys = {plan.columns[at].name for at in plan.key}
    for column in found:
        if column.required and column.name not in keys:
            wrong.append(
                (
                    f"column {column.name!r} is NOT NULL or generated",
                    f"{alter} ALTER COLUMN {quoted(column.name)} DROP NOT NULL",
                )
            )
    if place.loaded_at and place.loaded_at not in there:
        mend = f"{alter} ADD COLUMN {quoted(place.loaded_at)} timestamptz DEFAULT now()"
        wrong.append((f"has no column {place.loaded_at!r} (target.loaded_at)", mend))
    if plan.key and not _has_key(connection, place, sorted(keys)):
        mend = f"{alter} ADD PRIMARY KEY ({names(plan.columns[at].name for at in plan.key)})"
        wrong.append(("has no primary key or unique constraint on exactly the key columns", mend))
    return wrong


def _expected(connection: Connection, plan: Plan) -> list[Found]:
    """The plan's columns in the server's own words: it is asked to make a table of them."""
    connection.execute("DROP TABLE IF EXISTS pg_temp.cdc_expected")
    connection.execute(
        f"CREATE TEMP TABLE cdc_expected ({', '.join(column_sql(one) for one in plan.columns)})".encode()
    )
    expected = found_columns(connection, "pg_temp.cdc_expected")
    connection.execute("DROP TABLE pg_temp.cdc_expected")
    return expected


def _has_key(connection: Connection, place: TargetTable, keys: list[str]) -> bool:
    rows = connection.execute(
        'SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE "C") FROM pg_index i'
        " JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)"
        " WHERE i.indrelid = to_regclass(%s) AND i.indisunique AND i.indimmediate AND i.indisvalid "
        "AND i.indpred IS NULL"
        " AND i.indexprs IS NULL AND i.indnatts = i.indnkeyatts GROUP BY i.indexrelid",
        [place.sql],
    )
    return [keys] in [list(row) for row in rows]


Type = tuple[int, int]
"""A type's number, and its modifier: a length, digits, or -1."""
TYPES_SQL = """
SELECT json_object_agg(attname, json_build_array(atttypid::int8, atttypmod))::text
FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped"""


def column_types(connection: Connection, plan: Plan, place: TargetTable) -> list[Type]:
    """The type of each of the plan's columns in the target, which are those of the rows that come; else it stops.

    Their bytes would be read as those of another type: eight bytes of a bigint are a double precision too. A type that
    holds all that the plan's does is taken over into it.
    """
    plan.widen({column.name: column.type for column in found_columns(connection, place.sql)})
    found = connection.execute(TYPES_SQL.replace("$1", "%s").encode(), [place.sql]).fetchone()
    described = connection.execute(
        f"SELECT {', '.join(f'NULL::{one.postgres_type}' for one in plan.columns)} LIMIT 0".encode()
    ).pgresult
    assert described is not None
    wanted = [(described.ftype(at), described.fmod(at)) for at in range(described.nfields)]
    check_types(plan, place, wanted, (found and found[0]) or "{}")
    return wanted


def check_types(plan: Plan, place: TargetTable, wanted: list[Type], found: str) -> None:
    """Stop unless the table has these types; `found`: what TYPES_SQL says of it."""
    there = json.loads(found)
    for column, kind in zip(plan.columns, wanted, strict=True):
        if column.name not in there:
            raise Halt(
                "target_missing",
                str(place),
                f"the table or its column {column.name!r} is not there any more",
                _PUT_BACK,
            )
        if tuple(there[column.name]) != kind:
            raise Halt(
                "target_table", str(place), f"column {column.name!r} is not {column.postgres_type} any more", _PUT_BACK
            )


_PUT_BACK = "make it again as it was; its rows come by cdc copy; or cdc reset it: it is made and copied anew"


def check_policies(target: TargetConfig, pipeline: str, plans: Iterable[Plan]) -> None:
    """Refuse policies by which the tables were not written, as far as the target can be asked now."""
    try:
        with StateStore(target, pipeline) as state:
            known = state.read().tables
    except (Retry, Refused):
        return
    for plan in plans:
        if (plan.db, plan.table) in known:
            demand_same_policies(known[plan.db, plan.table], plan, Refused)
