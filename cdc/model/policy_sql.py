"""The canonical text of a column whose policy changes values, in SQL of both sides: what our codec writes, said by the
servers.

`adapted` takes the templates of the table of types and gives those of the column's policy. Where SQL cannot say what
our codec does (`needs_codec`), rows that differ are read and passed through the codec itself before they are called
different.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cdc.model.policies import NUL_SIGN, local, sentinel_micros, transitions
from cdc.model.table import Column

_UTF8 = "CONVERT({c} USING utf8mb4)"
_BYTES = f"CAST({_UTF8} AS BINARY)"
_MOST_JSON = 255 << 20
_STAMP = "%Y-%m-%d %H:%i:%s.%f"

Texts = tuple[str, str]
"""Templates for MySQL and PostgreSQL."""


def needs_codec(column: Column) -> bool:
    """Whether SQL alone may call equal values of this column different."""
    policy = column.policy
    return (bool(column.charset) and policy.invalid_text != "error") or (
        column.type == "json" and policy.json == "jsonb"
    )


def adapted(column: Column, texts: Texts, bad: str) -> Texts:
    """The templates under the column's policy; `bad` is the condition of a date that PostgreSQL cannot store."""
    policy = column.policy
    if column.type in ("date", "datetime", "timestamp"):
        return _moment(column, texts, bad)
    if column.charset and policy.nul_text != "error":
        sign = f"X'{NUL_SIGN.encode().hex() if policy.nul_text == 'replace' else ''}'"
        # CAST and REPLACE give NULL beyond max_allowed_packet, and nearly no text has anything to replace
        clean = f"CASE WHEN LOCATE(X'00',{_BYTES}) THEN REPLACE({_BYTES},X'00',{sign}) ELSE {_UTF8} END"
        return texts[0].replace(_UTF8, clean), texts[1]
    if boolean(column):
        wide = "NULL" if policy.over_wide == "null" else "'1'"
        return f"CASE WHEN {{c}} IN (0,1) THEN {texts[0]} WHEN {{c}} IS NOT NULL THEN {wide} END", "({c}::int)::text"
    if column.type == "bigint" and column.unsigned and policy.bigint_unsigned == "bigint":
        wide = "NULL" if policy.over_wide == "null" else "'9223372036854775807'"
        return f"CASE WHEN {{c}} > 9223372036854775807 THEN {wide} ELSE {texts[0]} END", texts[1]
    if column.type == "json" and policy.json == "jsonb":
        return _jsonb(policy.refused_json, texts)
    return texts


def boolean(column: Column) -> bool:
    """Whether the column is a TINYINT that becomes a boolean; which do, `cdc.model.selection.chosen` says."""
    return column.type == "tinyint" and column.policy.tinyint1 == "boolean"


def _moment(column: Column, texts: Texts, bad: str) -> Texts:
    policy, (source, target) = column.policy, texts
    if policy.zero_date == "text":
        return "CAST({c} AS CHAR)", "{c}"
    naive = column.type == "timestamp" and policy.timestamp == "timestamp"
    if column.type == "timestamp":
        bad = "{c}=0"
    if naive:
        source, target = (
            source.replace("DATE_FORMAT({c},", f"DATE_FORMAT({_moved(policy.timestamp_zone)},"),
            target.replace("{c} AT TIME ZONE 'UTC'", "{c}"),
        )
    if policy.zero_date == "sentinel":
        micros = sentinel_micros(policy)
        micros = local(policy.timestamp_zone, micros)[0] if naive else micros
        source = f"CASE WHEN {{c}} IS NULL THEN NULL WHEN {bad} THEN '{_spelled(column, micros)}' ELSE {source} END"
    return source, target


def _spelled(column: Column, micros: int) -> str:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    day = f"{moment.year:04}-{moment.month:02}-{moment.day:02}"
    return day if column.type == "date" else f"{day} {moment:%H:%M:%S.%f}"


def _moved(zone: str) -> str:
    """The naive time of a moment, by the same table of offsets that the codec uses: a server need not know the zone."""
    if zone == "UTC":
        return "{c}"
    moments, offsets = transitions(zone)
    table = f"ELT(1+INTERVAL(FLOOR(UNIX_TIMESTAMP({{c}})),{','.join(map(str, moments))}),{','.join(map(str, offsets))})"
    return f"DATE_ADD({{c}}, INTERVAL CAST({table} AS SIGNED) SECOND)"


def _jsonb(refused: str, texts: Texts) -> Texts:
    """What jsonb refuses of the documents that MySQL can hold: the escape of NUL, and sizes beyond its own."""
    text = "CONVERT({c} USING utf8mb4)"
    plain = f"CAST({text} AS BINARY)"
    # An escaped backslash is taken out first: what is left of a run of them begins an escape.
    nul = f"LOCATE('\\\\u0000', REPLACE({plain}, '\\\\\\\\', '')) > 0"
    parts = "+".join(f"LENGTH(REPLACE({plain},'{one}',''))" for one in (",", ":", "[", "{{"))
    size = f"LENGTH({plain}) > {10 << 20} AND LENGTH({plain})+20*(4*LENGTH({plain})-({parts})) > {_MOST_JSON}"
    instead = f"JSON_QUOTE({text})" if refused == "string" else "NULL"
    return f"SHA2(CASE WHEN {nul} OR ({size}) THEN {instead} ELSE {text} END,256)", texts[1]
