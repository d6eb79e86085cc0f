"""docs/types.md, made from the table of types: what is said there is what the code does.

`python -m cdc.model.types_doc > docs/types.md` writes it; a test holds the two equal.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from cdc.model import types
from cdc.model.policies import DEFAULT, LOSSY, Policy
from cdc.model.table import Column

# A column of each type whose form depends on its length; what is shown is the form of these.
_SAMPLES: Mapping[str, tuple[dict[str, Any], ...]] = {
    "decimal": ({"length": 10, "scale": 2},),
    "bit": ({"length": 1}, {"length": 12}),
    "datetime": ({"scale": 3}, {"scale": 6}),
    "timestamp": ({"scale": 0}, {"scale": 6}),
    "time": ({"scale": 6},),
    "char": ({"length": 20},),
    "varchar": ({"length": 20},),
}
_NOTES: Mapping[str, str] = {
    "tinyint": "Debezium 3.7 sends signed ones as int8, versions before it as int16",
    "bigint unsigned": "Debezium's default (`long`) overflows above 2^63-1; this is its `precise`",
    "float": "both ways in give the four bytes themselves, not a rounded text",
    "double": "both ways in give the eight bytes themselves",
    "bit": "BIT(1) is a boolean on the wire; Debezium's sink makes it one in PostgreSQL too, here it stays a bit",
    "year": "0000 stays 0; Debezium's sink makes it an integer",
    "date": "Debezium sends 1970-01-01 for a zero date in a NOT NULL column; here dates are nullable on the wire, "
    "and it is null",
    "datetime": "up to three digits Timestamp (milliseconds), beyond MicroTimestamp, as if in UTC; "
    "zero dates as with date",
    "timestamp": "zero dates as with date",
    "time": "from -838:59:59 to 838:59:59, which PostgreSQL's time does not hold; Debezium's sink makes it a time",
    "char": "trailing spaces are not part of the value, as the server shows it; Debezium's sink makes it text",
    "varchar": "Debezium's sink makes it text, unless types are propagated",
    "binary": "the zero bytes that the log leaves out are put back",
    "enum": "index 0, the invalid value, is the empty text",
    "set": "members in the order of the definition, with commas",
    "json": "MySQL's own text; MariaDB's JSON is a longtext",
    "geometry": "bytea holds EWKB, which PostGIS casts; Debezium's sink needs PostGIS",
    "vector": "Debezium's sink needs pgvector",
}
_POLICY_WORDS: Mapping[str, tuple[str, str]] = {
    "zero_date": ("zero, partial and impossible dates, year 0", "null, sentinel (`sentinel_date`), "
                                                                "text (the column is text), error"),
    "invalid_text": ("bytes that are no text of the column's character set", "error, replace (by U+FFFD)"),
    "nul_text": ("a NUL character, which PostgreSQL's text cannot hold", "strip, error, replace (by U+2400)"),
    "json": ("the PostgreSQL type of MySQL's JSON columns", "json, jsonb, text"),
    "refused_json": ("what jsonb refuses: \\u0000, half a surrogate pair, more digits than numeric has, "
                     "more than 255 MB",
                     "error, null, string (the document as one JSON string; null where it is too large)"),
    "timestamp": ("the PostgreSQL type of TIMESTAMP", "timestamptz, timestamp (naive, in `timestamp_zone`)"),
    "tinyint1": ("the PostgreSQL type of a signed TINYINT(1); said of columns, of any TINYINT", "smallint, boolean"),
    "bigint_unsigned": ("the PostgreSQL type of BIGINT UNSIGNED", "numeric, bigint"),
    "over_wide": ("a value beyond a type chosen by tinyint1 or bigint_unsigned", "error, null, clamp (the largest; "
                                                                                 "true)"),
}  # fmt: skip
_KINDS = {"int": "int32", "long": "int64", "float": "float32", "double": "float64"}
_PROSE = """\
Made from `cdc/model/types.py` by `python -m cdc.model.types_doc > docs/types.md`; a test holds them equal.

A type that is not here stops the table at start; it is never treated as text. The form on the wire is Debezium's (Avro,
with the semantic name as `connect.name`) but for what the last column says. Every column's schema carries Debezium's
source parameters (`__debezium.source.column.type`, `.length`, `.scale`, `.name`), no field has a default but null, and
dates and times are always nullable. In PostgreSQL the columns of a key have the collation "C". A row that is selected
and the same row read from the log give the same bytes.

A table's columns are those that a SELECT can name: generated ones, invisible ones and the key that MySQL invents
(`my_row_id`) are columns, however a session hides them; MariaDB's hashes of UNIQUE keys (`DB_ROW_HASH_1`, in the log
alone) are not (docs/decisions/047-unlisted-columns.md).
"""
_POLICY_PROSE = """\
Each is a key of `[policies]`, for the whole pipeline or for columns by name
([config/pipeline.toml](../config/pipeline.toml)); the first choice is the default. No key column takes a lossy choice:
its row waits in quarantine where the sink acts (a NUL), its value stops the pipeline where capture does. Whatever is
changed is counted by table, column and reason, in `cdc.anomaly` and in the metric `cdc_anomalies_total`.
docs/decisions/009-policies.md says why.
"""


def document() -> str:
    """docs/types.md, whole."""
    rows = [_row(name) for name in types.TYPES]
    heads = ["MySQL, MariaDB", "on the wire", "PostgreSQL", "policies", "where it differs from Debezium, and notes"]
    policies = [f"| `{key}` | {what} | {choices} | {_lossy(key)} |" for key, (what, choices) in _POLICY_WORDS.items()]
    return "\n".join(
        [
            "# Types",
            "",
            _PROSE,
            _line(heads),
            _line(["---"] * len(heads)),
            *rows,
            "",
            "## Policies",
            "",
            _POLICY_PROSE,
            _line(["key", "what it is about", "choices", "lossy"]),
            _line(["---"] * 4),
            *policies,
            "",
        ]
    )


def _row(name: str) -> str:
    columns = samples(name)
    wire = _distinct(_wire(column) for column in columns)
    postgres = _distinct(f"`{kind}`" for column in columns for kind in _postgres(column))
    keys = [f"`{key}`" for key in types.policy_keys(columns[0]) if key in _POLICY_WORDS]
    return _line([name, wire, postgres, ", ".join(keys), _NOTES.get(name, "")])


def samples(name: str) -> list[Column]:
    """Columns of a line of the table of types, which show what its form depends on."""
    kind, _, unsigned = name.partition(" ")
    line = types.TYPES[name]
    plain = Column(
        "c", kind, unsigned=bool(unsigned), charset="utf8mb4" if line.text else "", display=int(name == "tinyint")
    )
    return [replace(plain, **changes) for changes in _SAMPLES.get(name, ({},))]


def _wire(column: Column) -> str:
    schema = types.of(column).avro(column)
    kind = str(schema.get("connect.type") or _KINDS.get(str(schema["type"]), schema["type"]))
    name = str(schema.get("connect.name", ""))
    return f"{kind} `{name.rpartition('.')[2]}`" if name else kind


def _postgres(column: Column) -> list[str]:
    """The default type, then those that policies may choose."""
    chosen = [Policy(json="jsonb"), Policy(json="text"), Policy(timestamp="timestamp"), Policy(tinyint1="boolean"),
              Policy(bigint_unsigned="bigint"), Policy(zero_date="text")]  # fmt: skip
    return list(dict.fromkeys(types.postgres(replace(column, policy=policy)) for policy in (DEFAULT, *chosen)))


def _distinct(words: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(words))


def _lossy(key: str) -> str:
    choices = _POLICY_WORDS[key][1]
    return ", ".join(sorted(LOSSY.get(key, ()), key=choices.index))


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.write(document())
