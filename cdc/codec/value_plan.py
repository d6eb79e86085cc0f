"""The sink's plan: from a topic's Avro schemas alone, ours or plain Debezium's, to PostgreSQL's types and tuples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cdc.codec import ops
from cdc.codec._copy import CopyPlan, copy_rows, select_to_copy as _select_to_copy
from cdc.codec._open import SkipPlan, open_values
from cdc.codec._plan import RowPlan
from cdc.codec.avro import Names, null_branch, parameters, program
from cdc.codec.envelope import PARTIAL
from cdc.codec.policy_values import CHOICES, UNFIT, Choose
from cdc.codec.records import Opened
from cdc.codec.wider_types import holds
from cdc.errors import Halt, RowRefused
from cdc.model import policies
from cdc.model.names import column as target_column
from cdc.model.policies import AT_CAPTURE, PARAMETER, Chosen, Policies, Policy
from cdc.model.table import TableName

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_TRAILER = b"\xff\xff"
FRAME = 5
SOURCE = "__debezium.source.column."
MARKS = {"sequence": 4, "ts_ms": 5, "ts_us": 6}
Changed = dict[tuple[str, str], int]
"""How many values were changed, by (column, reason)."""


class TargetColumn(NamedTuple):
    """One column of the target table."""

    name: str
    postgres_type: str
    collation: str
    nullable: bool
    key: bool


class Field(NamedTuple):
    """One column as its schema describes it."""

    field: str
    name: str
    op: int
    number: int
    postgres: str
    null: int
    choice: Choose | None
    chosen: Chosen
    policed: frozenset[str]


class ValuePlan:
    """How records of one topic are opened and become COPY tuples; `key` holds column indexes in key order.

    `partial`: the records have some of the table's columns alone, and tell of rows that are there.
    `columns` bear the target's names; `renamed` says of those that had to change what the source calls them.
    `chosen` says which policies were at work, by column: capture's from the schema, the sink's from the configuration;
    `policed` which keys of a policy can matter to it.
    """

    def __init__(
        self, value_schema: Mapping[str, object], key_schema: Mapping[str, object] | None, book: Policies | None = None
    ):
        names = Names(value_schema)
        envelope = names.fields(value_schema)
        row = names.fields(names.plain(envelope["before"]))
        self.db, self.table = _source_names(value_schema)
        self.partial = PARTIAL in parameters(value_schema)
        place = f"{self.db}.{self.table}"
        self._book = book or Policies()
        key_fields = _key_fields(key_schema)
        names_of_keys = {name for name, _ in key_fields}
        self._fields = [self._field(name, schema, names, key=name in names_of_keys) for name, schema in row.items()]
        keys = [self._field(name, schema, Names(key_schema), key=True) for name, schema in key_fields]
        self._planned, self._keys = list(self._fields), keys
        positions = {field.field: i for i, field in enumerate(self._fields)}
        self.chosen = {field.name: field.chosen for field in self._fields if field.chosen}
        self.policed = {field.name: field.policed for field in self._fields}
        self.key = tuple(positions[field.field] for field in keys)
        self.columns = tuple(_target(field, i in self.key) for i, field in enumerate(self._fields))
        self.renamed = {f.name: column.name for f, column in zip(self._fields, self.columns) if f.name != column.name}
        self.copy_plan = _copy_plan(place, self._fields)
        self._key_plan = _copy_plan(place, keys)
        self._envelope = SkipPlan(place, *program(names, value_schema, _marks))

    def widen(self, found: Mapping[str, str]) -> None:
        """Take over the types that the target's columns have, by column, where they hold every value of ours."""
        fields = [_widened(field, found.get(column.name)) for field, column in zip(self._planned, self.columns)]
        if fields == self._fields:
            return
        place, by_field = f"{self.db}.{self.table}", {field.field: field for field in fields}
        self._fields = fields
        self.columns = tuple(_target(field, at in self.key) for at, field in enumerate(fields))
        old, self.copy_plan = self.copy_plan, _copy_plan(place, fields)
        self.copy_plan.changed = old.changed
        self._key_plan = _copy_plan(place, [key._replace(op=by_field[key.field].op) for key in self._keys])

    def _field(self, name: str, schema: object, names: Names, *, key: bool) -> Field:
        plain = names.plain(schema)
        known = parameters(plain)
        column = known.get(SOURCE + "name", name)
        found = _by_name(plain, known) or _by_type(plain, known)
        if found is None:
            kind = plain.get("connect.name") or plain["type"]
            raise Halt("schema_type", f"{self.db}.{self.table}.{column}", f"the wire type {kind} is not known")
        policy = self._book.of(self.db, self.table, column)
        at_capture = {key: known[PARAMETER + key] for key in AT_CAPTURE if PARAMETER + key in known}
        flag = _is_flag(known, asked=self._book.asks(self.db, self.table, column, "tinyint1"))
        op, number, postgres, choice, keys = _chosen(*found, known, policy, key, flag)
        return Field(
            name,
            column,
            op,
            number,
            postgres,
            null_branch(schema),
            choice,
            at_capture | dict(policies.chosen(policy, keys)),
            _policed(found[0], found[2], known.get(SOURCE + "type", "")),
        )

    def places(self, columns: Sequence[str]) -> list[int]:
        """Indexes of columns by the source's names."""
        at = {field.name: number for number, field in enumerate(self._fields)}
        return [at[one] for one in columns]

    def open(self, values: Sequence[bytes]) -> list[Opened]:
        """Find the images and the numbers of each value; Malformed where one does not fit its schema."""
        opened: list[Opened] = open_values(self._envelope, values)
        return opened

    def copy_rows(self, rows: Iterable[tuple[bytes, int]], out: bytearray) -> Changed:
        """Append a COPY tuple for each (value, offset of the row's Avro form); what policies changed in these rows."""
        try:
            copy_rows(self.copy_plan, rows, out)
        except Halt as error:
            raise _with_mend(error) from None
        finally:
            changed = self.taken()
        return changed

    def taken(self) -> Changed:
        """What policies changed in rows that were selected, since this was asked last."""
        changed: Changed = self.copy_plan.changed
        if changed:
            self.copy_plan.changed = {}
        return changed

    def copy_keys(self, keys: Iterable[bytes], out: bytearray) -> None:
        """Append a COPY tuple of the key columns for each framed key."""
        copy_rows(self._key_plan, [(key, FRAME) for key in keys], out)


def select_to_copy(
    plan: RowPlan, copy_plan: ValuePlan, block: bytes | bytearray, start: int, end: int, out: bytearray
) -> tuple[int, int]:
    """Row packets to COPY tuples, through each row's Avro form; how many bytes and rows that were."""
    try:
        used: tuple[int, int] = _select_to_copy(plan, copy_plan.copy_plan, block, start, end, out)
    except Halt as error:
        raise _with_mend(error) from None
    return used


def _with_mend(error: Halt) -> Halt:
    """The error with what to do about it, which a kernel leaves out;
    of a value without a form in PostgreSQL, as a row's."""
    if error.code == "nul_in_text" and not error.hint:
        hint = (
            "take it out on the source (WHERE LOCATE(CHAR(0), the column) finds the rows), "
            "choose policies.nul_text for the column,"
            " or exclude the table"
        )
        error = Halt(error.code, error.place, error.rule, hint)
    return RowRefused(error.code, error.place, error.rule, error.hint) if error.code in UNFIT else error


def _marks(path: tuple[str, ...]) -> int | None:
    """The mark before the value at a path of field names."""
    if len(path) == 1:
        return {"before": 0, "after": 2, "op": 8}.get(path[0])
    if path[0] == "source":
        return MARKS.get(path[1]) if len(path) == 2 else None
    return 7 if path == ("transaction", "id") else None


def _source_names(schema: Mapping[str, object]) -> TableName:
    known = parameters(schema)
    if "cdc.source.table" in known:
        return known["cdc.source.db"], known["cdc.source.table"]
    parts = str(schema.get("namespace", "")).split(".")
    if len(parts) < 2:
        raise Halt("schema", str(schema.get("name")), "the namespace does not end in database and table")
    return parts[-2], parts[-1]


def _key_fields(schema: Mapping[str, object] | None) -> list[tuple[str, object]]:
    return list(Names(schema).fields(schema).items()) if schema is not None else []


def _copy_plan(place: str, fields: Sequence[Field]) -> CopyPlan:
    names, choices = [f.name for f in fields], [f.choice for f in fields]
    return CopyPlan(place, names, [f.op for f in fields], [f.number for f in fields], [f.null for f in fields], choices)


def _widened(field: Field, found: str | None) -> Field:
    """The field as a column of another type takes it; as it was planned where that type does not fit."""
    if found is None or not holds(field.postgres, found):
        return field
    op = _INTEGERS[found] if field.op in _INTEGERS.values() else field.op
    return field._replace(op=op, postgres=found)


def _target(field: Field, key: bool) -> TargetColumn:
    text = field.postgres == "text" or field.postgres.startswith(("varchar", "character varying"))
    return TargetColumn(target_column(field.name), field.postgres, "C" if key and text else "", field.null >= 0, key)


def _chosen(
    op: int, number: int, postgres: str, known: Mapping[str, str], policy: Policy, key: bool, flag: bool
) -> tuple[int, int, str, Choose | None, tuple[str, ...]]:
    """The field under the column's policy, and which keys of it matter."""
    plain, keys = (op, number, postgres, None), tuple[str, ...]()
    source = known.get(SOURCE + "type", "")
    name = ""
    if op == ops.TO_TEXT and postgres != "json":
        keys, name = ("nul_text",), "TO_TEXT_CHOSEN" if policy.nul_text != "error" else ""
    elif postgres == "json":
        keys, name, postgres = ("json", "refused_json"), "TO_DOCUMENT" if policy.json == "jsonb" else "", policy.json
        plain = (op, number, postgres, None)
    elif op == ops.TO_STAMP_TEXT and policy.timestamp == "timestamp":
        keys, postgres = ("timestamp", "timestamp_zone"), postgres.replace("timestamptz", "timestamp")
        name, plain = "TO_LOCAL" if policy.timestamp_zone != "UTC" else "", (op, number, postgres, None)
    elif source == "BIGINT UNSIGNED" and op == ops.TO_NUMERIC and policy.bigint_unsigned == "bigint":
        keys, name, postgres = ("bigint_unsigned", "over_wide"), "TO_WHOLE", "bigint"
    elif flag and policy.tinyint1 == "boolean":
        keys, name, postgres = ("tinyint1", "over_wide"), "TO_FLAG", "boolean"
    return (getattr(ops, name), number, postgres, CHOICES[name](policy, key), keys) if name else (*plain, keys)


def _policed(op: int, postgres: str, source: str) -> frozenset[str]:
    """The keys of a policy that can matter to a column of this type."""
    if postgres.startswith(("timestamp", "date")):
        return frozenset({"zero_date", "sentinel_date", "timestamp", "timestamp_zone"})
    if postgres == "json":
        return frozenset({"json", "refused_json"})
    if source == "BIGINT UNSIGNED":
        return frozenset({"bigint_unsigned", "over_wide"})
    if source.partition(" ")[0] == "TINYINT":
        return frozenset({"tinyint1", "over_wide"})
    return frozenset({"invalid_text", "nul_text"} if op == ops.TO_TEXT else ())


def _is_flag(known: Mapping[str, str], *, asked: bool) -> bool:
    """Whether `tinyint1` is about the column: a TINYINT(1), and where the column's own policy asks, any TINYINT."""
    kind = known.get(SOURCE + "type", "")
    return kind.partition(" ")[0] == "TINYINT" if asked else kind == "TINYINT" and known.get(SOURCE + "length") == "1"


def _precision(known: Mapping[str, str], default: int | None) -> str:
    if SOURCE + "type" in known:
        return f"({known.get(SOURCE + 'length', '0')})"
    return "" if default is None else f"({default})"


def _by_name(schema: Mapping[str, object], known: Mapping[str, str]) -> tuple[int, int, str] | None:
    """Opcode, number and PostgreSQL type of a schema with a semantic name."""
    name = str(schema.get("connect.name", ""))
    if name == "org.apache.kafka.connect.data.Decimal":
        scale = int(str(schema["scale"]))
        if scale < 0:
            return None
        return ops.TO_NUMERIC, scale, f"numeric({schema['precision']},{scale})" if "precision" in schema else "numeric"
    if name == "io.debezium.data.Bits":
        return ops.TO_BITS, int(known["length"]), f"bit({known['length']})"
    stamps = {
        "io.debezium.time.Timestamp": (ops.TO_STAMP_MS, "timestamp", 3),
        "io.debezium.time.MicroTimestamp": (ops.TO_STAMP_US, "timestamp", 6),
        "io.debezium.time.NanoTimestamp": (ops.TO_STAMP_NS, "timestamp", 6),
        "io.debezium.time.ZonedTimestamp": (ops.TO_STAMP_TEXT, "timestamptz", 6),
    }
    if name in stamps:
        op, postgres, digits = stamps[name]
        return op, 0, postgres + _precision(known, digits)
    return _NAMED.get(name)


def _by_type(schema: Mapping[str, object], known: Mapping[str, str]) -> tuple[int, int, str] | None:
    """The same of a schema that is only a primitive type."""
    kind, source = str(schema["type"]), known.get(SOURCE + "type", "")
    if schema.get("connect.name"):
        return None
    if kind == "string" and source in ("CHAR", "VARCHAR"):
        return ops.TO_TEXT, 0, f"varchar({max(int(known.get(SOURCE + 'length', '1')), 1)})"
    if kind == "string" and source in ("INET4", "INET6"):
        return ops.TO_INET, 0, "inet"
    if kind == "boolean" and source == "BIT":
        return ops.TO_BIT, 1, "bit(1)"
    if kind == "int" and schema.get("connect.type") in ("int8", "int16"):
        return ops.TO_INT2, 0, "smallint"
    return _PRIMITIVE.get(kind)


_NAMED = {
    "io.debezium.time.Date": (ops.TO_DATE, 0, "date"),
    "io.debezium.time.Year": (ops.TO_INT2, 0, "smallint"),
    "io.debezium.time.MicroTime": (ops.TO_INTERVAL, 0, "interval"),
    "io.debezium.time.Time": (ops.TO_INTERVAL_MS, 0, "interval"),
    "io.debezium.data.Json": (ops.TO_TEXT, 0, "json"),
    "io.debezium.data.Enum": (ops.TO_TEXT, 0, "text"),
    "io.debezium.data.EnumSet": (ops.TO_TEXT, 0, "text"),
    "io.debezium.data.Uuid": (ops.TO_UUID, 0, "uuid"),
    "io.debezium.data.geometry.Geometry": (ops.TO_EWKB, 0, "bytea"),
    "io.debezium.data.FloatVector": (ops.TO_REALS, 0, "real[]"),
}
_INTEGERS = {"smallint": ops.TO_INT2, "integer": ops.TO_INT4, "bigint": ops.TO_INT8}
_PRIMITIVE = {
    "boolean": (ops.TO_BOOL, 0, "boolean"),
    "int": (ops.TO_INT4, 0, "integer"),
    "long": (ops.TO_INT8, 0, "bigint"),
    "float": (ops.TO_REAL, 0, "real"),
    "double": (ops.TO_DOUBLE, 0, "double precision"),
    "string": (ops.TO_TEXT, 0, "text"),
    "bytes": (ops.TO_BYTEA, 0, "bytea"),
}
