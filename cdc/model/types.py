"""The one table of types: for each MySQL/MariaDB column type its wire form, its PostgreSQL type and its canonical text
on both sides.

A line is read by the envelope (wire schema), the codec (opcode), the sink (PostgreSQL type) and the verifier (canonical
SQL). A type that is not in the table stops the table at start; it is never treated as text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cdc.errors import Halt
from cdc.model.policies import AT_CAPTURE, HANGS_ON, Chosen, chosen
from cdc.model.policy_sql import adapted, boolean
from cdc.model.table import Column

Schema = dict[str, object]
MOMENTS = ("date", "datetime", "timestamp")


@dataclass(frozen=True, slots=True)
class Type:
    """One MySQL type: `op` names the codec's opcode, `avro` and `postgres` look at the column's parameters.

    `mysql_text` and `postgres_text` are templates over {c} (the quoted column), {n} (length), {f} (fractional digits).
    """

    mysql: str
    op: str
    avro: Callable[[Column], Schema]
    postgres: Callable[[Column], str]
    mysql_text: str
    postgres_text: str
    temporal: bool = False
    text: bool = False


def _plain(avro: str, connect_type: str = "") -> Callable[[Column], Schema]:
    def schema(column: Column) -> Schema:
        return {"type": avro, "connect.type": connect_type} if connect_type else {"type": avro}

    return schema


def _named(avro: str, name: str) -> Callable[[Column], Schema]:
    def schema(column: Column) -> Schema:
        return {"type": avro, "connect.version": 1, "connect.name": name}

    return schema


def _allowed(name: str) -> Callable[[Column], Schema]:
    def schema(column: Column) -> Schema:
        parameters = {"allowed": ",".join(column.labels)}
        return {"type": "string", "connect.version": 1, "connect.parameters": parameters, "connect.name": name}

    return schema


def _decimal(precision: int, scale: int) -> Schema:
    return {
        "type": "bytes",
        "scale": scale,
        "precision": precision,
        "connect.version": 1,
        "connect.parameters": {"scale": str(scale), "connect.decimal.precision": str(precision)},
        "connect.name": "org.apache.kafka.connect.data.Decimal",
        "logicalType": "decimal",
    }


def _column_decimal(column: Column) -> Schema:
    return _decimal(column.length, column.scale)


def _unsigned_bigint(column: Column) -> Schema:
    return _decimal(20, 0)


def _bit(column: Column) -> Schema:
    if column.length == 1:
        return {"type": "boolean"}
    parameters = {"length": str(column.length)}
    return {
        "type": "bytes",
        "connect.version": 1,
        "connect.parameters": parameters,
        "connect.name": "io.debezium.data.Bits",
    }


def _datetime(column: Column) -> Schema:
    name = "io.debezium.time.Timestamp" if column.scale <= 3 else "io.debezium.time.MicroTimestamp"
    return {"type": "long", "connect.version": 1, "connect.name": name}


def _geometry(column: Column) -> Schema:
    name = "io.debezium.data.geometry.Geometry"
    fields = [{"name": "wkb", "type": "bytes"}, {"name": "srid", "type": ["null", "int"], "default": None}]
    return {
        "type": "record",
        "name": "Geometry",
        "namespace": "io.debezium.data.geometry",
        "fields": fields,
        "connect.version": 1,
        "connect.name": name,
    }


def _vector(column: Column) -> Schema:
    return {"type": "array", "items": "float", "connect.version": 1, "connect.name": "io.debezium.data.FloatVector"}


def _as(postgres: str) -> Callable[[Column], str]:
    def name(column: Column) -> str:
        return postgres.format(n=max(column.length, 1), s=column.scale)

    return name


def _stamp(postgres: str) -> Callable[[Column], str]:
    def name(column: Column) -> str:
        return f"{postgres}({column.scale})"

    return name


# PostgreSQL and both sources print integers, decimals (fixed scale) and years alike.
_CAST, _TEXT = "CAST({c} AS CHAR)", "{c}::text"
_NUMBER = "CAST({c}+0 AS CHAR)"  # the sum drops the leading zeros of ZEROFILL, and nothing else
_SHORT, _HASH = "CONVERT({c} USING utf8mb4)", "SHA2({c},256)"
# Long text is hashed so that CONCAT never passes max_allowed_packet, which would make it NULL: a false "equal".
_LONG = "SHA2(CONVERT({c} USING utf8mb4),256)"
_PG_LONG = "encode(sha256(convert_to({c}::text,'UTF8')),'hex')"
_PG_HASH = "encode(sha256({c}),'hex')"
# The eight bytes of a double, which no rendering as text can bend (MySQL's and PostgreSQL's shortest texts differ:
# 1e23); a point's
# first coordinate is the only door to them that MySQL and MariaDB have, and a float passes it without loss.
_MYSQL_DOUBLE, _PG_DOUBLE = "HEX(REVERSE(SUBSTR(POINT({c},0),10,8)))", "upper(encode(float8send({c}::float8),'hex'))"
# Zero, partial, year-zero and impossible dates (ALLOW_INVALID_DATES) are null on the wire, so they are null here.
_BAD_DATE = (
    "YEAR({c})=0 OR MONTH({c})=0 OR DAYOFMONTH({c})=0 OR DAYOFMONTH({c})>CASE WHEN MONTH({c})=2 THEN "
    "28+(MOD(YEAR({c}),4)=0 AND"
    " (MOD(YEAR({c}),100)<>0 OR MOD(YEAR({c}),400)=0)) WHEN MONTH({c}) IN (4,6,9,11) THEN 30 ELSE 31 END"
)
_MYSQL_TIME = "CAST(IF({c}<0,-1,1)*((HOUR({c})*3600+MINUTE({c})*60+SECOND({c}))*1000000+MICROSECOND({c})) AS CHAR)"
# EWKB back to the source's own form: little-endian SRID, then WKB; an empty value stays one.
_PG_GEOMETRY = (
    "encode(sha256(CASE WHEN length({c})=0 THEN {c} WHEN get_byte({c},4)&32=32"
    " THEN substring({c} from 6 for 4)||set_byte(substring({c} from 1 for 5),4,"
    "get_byte({c},4)&223)||substring({c} from 10) ELSE '\\x00000000'::bytea||{c} END),'hex')"
)
# MySQL stores little-endian floats; float4send gives big-endian ones.
_PG_VECTOR = (
    "(SELECT encode(sha256(coalesce(string_agg(substring(b from 4 for 1)||substring(b from 3 for 1)||substring(b from "
    "2 for 1)||"
    "substring(b from 1 for 1),''::bytea ORDER BY n),''::bytea)),'hex') FROM unnest({c}) WITH ORDINALITY AS v(x,n),"
    " LATERAL (SELECT float4send(x)) AS s(b) HAVING {c} IS NOT NULL)"
)


def _date_text(pattern: str) -> str:
    return f"CASE WHEN {_BAD_DATE} THEN NULL ELSE DATE_FORMAT({{c}},'{pattern}') END"


_TIMESTAMP_TEXT = "CASE WHEN {c}=0 THEN NULL ELSE DATE_FORMAT({c},'%Y-%m-%d %H:%i:%s.%f') END"
_PG_STAMP = "to_char({c},'YYYY-MM-DD HH24:MI:SS.US')"

_int16, _int32, _int64 = _plain("int", "int16"), _plain("int"), _plain("long")
_string, _bytes = _plain("string"), _plain("bytes")

TYPES: dict[str, Type] = {
    line.mysql: line
    for line in (
        # MySQL, opcode, wire, PostgreSQL, canonical text: MySQL, PostgreSQL
        Type("tinyint", "INT8", _int16, _as("smallint"), _NUMBER, _TEXT),
        Type("tinyint unsigned", "UINT8", _int16, _as("smallint"), _NUMBER, _TEXT),
        Type("smallint", "INT16", _int16, _as("smallint"), _NUMBER, _TEXT),
        Type("smallint unsigned", "UINT16", _int32, _as("integer"), _NUMBER, _TEXT),
        Type("mediumint", "INT24", _int32, _as("integer"), _NUMBER, _TEXT),
        Type("mediumint unsigned", "UINT24", _int32, _as("integer"), _NUMBER, _TEXT),
        Type("int", "INT32", _int32, _as("integer"), _NUMBER, _TEXT),
        Type("int unsigned", "UINT32", _int64, _as("bigint"), _NUMBER, _TEXT),
        Type("bigint", "INT64", _int64, _as("bigint"), _NUMBER, _TEXT),
        Type("bigint unsigned", "UINT64", _unsigned_bigint, _as("numeric(20,0)"), _NUMBER, _TEXT),
        Type("decimal", "DECIMAL", _column_decimal, _as("numeric({n},{s})"), _NUMBER, _TEXT),
        Type("float", "FLOAT", _plain("float"), _as("real"), _MYSQL_DOUBLE, _PG_DOUBLE),
        Type("double", "DOUBLE", _plain("double"), _as("double precision"), _MYSQL_DOUBLE, _PG_DOUBLE),
        Type("bit", "BITS", _bit, _as("bit({n})"), "LPAD(BIN({c}+0),{n},'0')", _TEXT),
        Type(
            "year",
            "YEAR",
            _named("int", "io.debezium.time.Year"),
            _as("smallint"),
            "CAST(CAST({c} AS UNSIGNED) AS CHAR)",
            _TEXT,
        ),
        Type(
            "date",
            "DATE",
            _named("int", "io.debezium.time.Date"),
            _as("date"),
            _date_text("%Y-%m-%d"),
            "to_char({c},'YYYY-MM-DD')",
            temporal=True,
        ),
        Type(
            "datetime",
            "DATETIME",
            _datetime,
            _stamp("timestamp"),
            _date_text("%Y-%m-%d %H:%i:%s.%f"),
            _PG_STAMP,
            temporal=True,
        ),
        Type(
            "timestamp",
            "TIMESTAMP",
            _named("string", "io.debezium.time.ZonedTimestamp"),
            _stamp("timestamptz"),
            _TIMESTAMP_TEXT,
            "to_char({c} AT TIME ZONE 'UTC','YYYY-MM-DD HH24:MI:SS.US')",
            temporal=True,
        ),
        Type(
            "time",
            "TIME",
            _named("long", "io.debezium.time.MicroTime"),
            _as("interval"),
            _MYSQL_TIME,
            "(extract(epoch from {c})*1000000)::bigint::text",
            temporal=True,
        ),
        Type("char", "TEXT", _string, _as("varchar({n})"), _SHORT, "{c}", text=True),
        Type("varchar", "TEXT", _string, _as("varchar({n})"), _SHORT, "{c}", text=True),
        Type("tinytext", "TEXT", _string, _as("text"), _SHORT, "{c}", text=True),
        Type("text", "TEXT", _string, _as("text"), _LONG, _PG_LONG, text=True),
        Type("mediumtext", "TEXT", _string, _as("text"), _LONG, _PG_LONG, text=True),
        Type("longtext", "TEXT", _string, _as("text"), _LONG, _PG_LONG, text=True),
        Type("binary", "FIXED", _bytes, _as("bytea"), _HASH, _PG_HASH),
        Type("varbinary", "BYTES", _bytes, _as("bytea"), _HASH, _PG_HASH),
        Type("tinyblob", "BYTES", _bytes, _as("bytea"), _HASH, _PG_HASH),
        Type("blob", "BYTES", _bytes, _as("bytea"), _HASH, _PG_HASH),
        Type("mediumblob", "BYTES", _bytes, _as("bytea"), _HASH, _PG_HASH),
        Type("longblob", "BYTES", _bytes, _as("bytea"), _HASH, _PG_HASH),
        Type("enum", "ENUM", _allowed("io.debezium.data.Enum"), _as("text"), _SHORT, "{c}", text=True),
        Type("set", "SET", _allowed("io.debezium.data.EnumSet"), _as("text"), _SHORT, "{c}", text=True),
        Type("json", "JSON", _named("string", "io.debezium.data.Json"), _as("json"), _LONG, _PG_LONG),
        Type("geometry", "GEOMETRY", _geometry, _as("bytea"), _HASH, _PG_GEOMETRY),
        Type("vector", "VECTOR", _vector, _as("real[]"), _HASH, _PG_VECTOR),
        Type("uuid", "UUID", _named("string", "io.debezium.data.Uuid"), _as("uuid"), _CAST, _TEXT),
        Type("inet4", "INET4", _string, _as("inet"), _CAST, "host({c})"),
        Type(
            "inet6",
            "INET6",
            _string,
            _as("inet"),
            "HEX(CAST({c} AS BINARY(16)))",
            "upper(encode(substring(inet_send({c}) from 5),'hex'))",
        ),
    )
}


_MENDS = {"year(2)": "MODIFY it to YEAR, which tells no year from the year 2000, or exclude the table"}


def of(column: Column) -> Type:
    """The line of the table for this column; Halt where there is none."""
    name = column.type + (" unsigned" if column.unsigned and f"{column.type} unsigned" in TYPES else "")
    line = TYPES.get(name)
    if line is None:
        raise Halt(
            "column_type",
            column.name,
            f"the type {column.type} is not known",
            _MENDS.get(name, "exclude the table, or report it"),
        )
    return line


def wire(column: Column) -> Schema:
    """The column's Avro type without its null branch, as Debezium names it."""
    return {"type": "string"} if spelled(column) else of(column).avro(column)


def postgres(column: Column) -> str:
    """The column's PostgreSQL type under its policy."""
    policy = column.policy
    if spelled(column):
        return "text"
    if boolean(column):
        return "boolean"
    if column.type == "bigint" and column.unsigned and policy.bigint_unsigned == "bigint":
        return "bigint"
    kind = policy.json if column.type == "json" else of(column).postgres(column)
    return kind.replace("timestamptz", policy.timestamp) if column.type == "timestamp" else kind


def nullable_on_wire(column: Column) -> bool:
    """Temporal columns are always nullable: a zero date has no other honest form."""
    return column.nullable or of(column).temporal


def canonical_mysql(column: Column, quoted: str) -> str:
    """The SQL expression of the column's canonical text on the source; NULL for a null and for what becomes null."""
    return _texts(column)[0].format(c=quoted, n=column.length, f=column.scale)


def canonical_postgres(column: Column, quoted: str) -> str:
    """The SQL expression of the same text on the target."""
    return _texts(column)[1].format(c=quoted, n=column.length, f=column.scale)


def _texts(column: Column) -> tuple[str, str]:
    line = of(column)
    return adapted(column, (line.mysql_text, line.postgres_text), _BAD_DATE)


# Policies


def spelled(column: Column) -> bool:
    """Whether the column's dates travel, and are kept, as the source spells them."""
    return column.type in MOMENTS and column.policy.zero_date == "text"


def policy_keys(column: Column) -> tuple[str, ...]:
    """The keys of a policy that matter to a column of this type."""
    if column.type in MOMENTS:
        return ("zero_date", "sentinel_date") + (("timestamp", "timestamp_zone") if column.type == "timestamp" else ())
    if of(column).text:
        return ("invalid_text", "nul_text")
    if column.type == "json":
        return ("json", "refused_json")
    if column.type == "bigint" and column.unsigned:
        return ("bigint_unsigned", "over_wide")
    return ("tinyint1", "over_wide") if column.display == 1 or boolean(column) else ()


def policy_at_work(column: Column, key: str) -> bool:
    """Whether this key of its policy can change what becomes of the column."""
    policy = column.policy
    if key == "tinyint1":
        return column.type == "tinyint"
    if key == "over_wide":
        return boolean(column) or (column.type == "bigint" and column.unsigned and policy.bigint_unsigned == "bigint")
    needs, value = next(((needs, value) for one, needs, value in HANGS_ON if one == key), ("", ""))
    return key in policy_keys(column) and (not needs or getattr(policy, needs) == value)


def chosen_of(column: Column, *, at_capture: bool = False) -> Chosen:
    """What must be said of the column's policy, of what matters to it;
    `at_capture`: only what acts before the wire."""
    return chosen(column.policy, [key for key in policy_keys(column) if not at_capture or key in AT_CAPTURE])
