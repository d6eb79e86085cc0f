"""The recorded corpus, and lanes made of it: the same images for every kernel that may meet them, keys and nulls in every place."""

from __future__ import annotations

import io
import json
import lzma
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import fastavro

from cdc import codec
from cdc.codec import envelope, ops, value_plan
from cdc.codec._copy import CopyPlan
from cdc.codec.layout import slots
from cdc.codec.policy_values import CHOICES, Choose
from cdc.codec.records import avro_bytes, avro_long
from cdc.errors import Halt
from cdc.model.policies import Policies, Policy
from cdc.model.table import Column, Table

PLACE = Path(__file__).with_name("corpus.jsonl.xz")
SHARES = {
    "insert": 3,
    "update": 2,
    "delete": 1,
    "select": 3,
    "packets": 1,
    "copy": 3,
    "key": 1,
    "envelope": 3,
    "value": 3,
    "json": 2,
    "numeric": 1,
}
"""How often each kind of lane comes up, in parts; the driver knows the kinds by their place here."""
KINDS = tuple(SHARES)
OPS = {"c": "insert", "u": "update", "d": "delete"}
FACTOR, INFLATED = 16, 4 * 1032
"""How many times its input an output may be, and where the input may be compressed (zlib makes at most 1032 characters of a byte)."""
WIRE_BYTES = 1024
"""What an envelope may add to a row."""


@dataclass(frozen=True)
class Recorded:
    """One line: a table of some server, and what was recorded of it."""

    server: str
    table: Table
    log: tuple[tuple[str, bytes], ...]
    select: tuple[bytes, ...]

    @property
    def name(self) -> str:
        last = self.table.columns[1]
        kind = " ".join((last.storage, last.type, last.charset, str(last.length or ""), str(last.scale or ""), str(len(last.labels) or "")))
        return f"{self.server.partition(' ')[0]} " + ("wide" if len(self.table.columns) > 2 else " ".join(kind.split()))


def read() -> list[Recorded]:
    """The corpus as it was recorded."""
    lines = [json.loads(line) for line in lzma.decompress(PLACE.read_bytes()).splitlines()]
    return [
        Recorded(
            line["server"],
            Table("db", "t", tuple(Column(**{**column, "labels": tuple(column.get("labels", ()))}) for column in line["columns"]), (0,)),
            tuple((kind, bytes.fromhex(image)) for kind, image in line["log"]),
            tuple(bytes.fromhex(payload) for payload in line["select"]),
        )
        for line in lines
    ]


def stamp() -> codec.Stamp:
    """The surroundings of the records."""
    connector = envelope.Connector("0.1", "mysql", "od")
    place = envelope.LogPlace(1_700_000_000_123_456, 5, "0-1-5", "log.000001", 4444)
    return envelope.stamp((1, 2), connector, ("db", "t"), place, 1_700_000_000_223_456, transaction="0-1-5")


def groups(driver: ModuleType) -> list[list[Any]]:
    """The driver's lanes by kind, each kind as often as its share."""
    kinds: dict[str, list[Any]] = {kind: [] for kind in SHARES}
    for lane in lanes(driver):
        kinds[KINDS[lane.kind]].append(lane)
    return [kinds[kind] for kind, share in SHARES.items() for _ in range(share)]


def lanes(driver: ModuleType) -> Iterator[Any]:
    """Every lane; a name is there once."""
    for recorded in read():
        yield from _table_lanes(driver, recorded, recorded.table, "")
        second = recorded.table.columns[1]
        if len(recorded.table.columns) == 2 and second.type not in ("geometry", "vector", "json"):
            solid = replace(recorded.table, columns=(recorded.table.columns[0], replace(second, nullable=False)), key=(1, 0))
            yield from _table_lanes(driver, recorded, solid, " keyed")
    yield from _foreign(driver)
    yield _lane(driver, "numeric", "numeric", [bytes([9] * n) for n in (1, 2, 7, 8, 9, 16, 30)])


def _table_lanes(driver: ModuleType, recorded: Recorded, table: Table, variant: str) -> Iterator[Any]:
    made, plan, target = encoded(recorded, table), codec.RowPlan(table), plan_of(table)
    shape: dict[str, Any] = {
        "plan": plan,
        "copy": target.copy_plan,
        "keys": target._key_plan,
        "envelope": target._envelope,
        "room": room(table),
        "factor": INFLATED if any(column.storage == "compressed" for column in table.columns) else FACTOR,
    }
    known = _reader(table)
    name = recorded.name + variant

    def lane(kind: str, images: Iterable[bytes], reader: Callable[[bytes], object] | None = None) -> Any:
        return _lane(driver, f"{kind} {name}", kind, images, reader=reader, **shape)

    single = [image for op, image in recorded.log if op == "d"]
    for letter, kind in OPS.items():
        images = [image for op, image in recorded.log if op == letter]
        if kind == "insert":
            images += single
        if images:
            yield lane(kind, images, known)
    if recorded.select:
        yield lane("select", recorded.select)
        yield lane("packets", [len(one).to_bytes(3, "little") + b"\1" + one for one in recorded.select])
    if made:
        yield lane("envelope", [value for value, _, _ in made])
        yield lane("copy", [row for _, row, _ in made])
        yield lane("key", [key[5:] for _, _, key in made])
    if len(table.columns) == 2 and not variant:
        yield lane("value", [image[9:] for image in single])
        if slots(table)[1].op == ops.JSON:
            yield lane("json", [image[13:] for image in single], _json)


def encoded(recorded: Recorded, table: Table) -> list[tuple[bytes, bytes, bytes]]:
    """Value, row and framed key of the records that our own codec makes of the single rows; none of rows that cannot be keys."""
    out: list[Any] = []
    for op, image in recorded.log:
        if op == "d":
            try:
                codec.encode_rows(codec.RowPlan(table), image, 0, len(image), "c", stamp(), codec.Numbers(1, 1), out)
            except Halt:
                continue
    opened = plan_of(table).open([record.value for record in out])
    return [(record.value, record.value[one.after_at : one.after_end], record.key) for record, one in zip(out, opened)]


@cache
def plan_of(table: Table) -> value_plan.ValuePlan:
    schemas = envelope.value_schema("od", table, "mysql"), envelope.key_schema("od", table)
    return value_plan.ValuePlan(*schemas, Policies(Policy(nul_text="error")))  # the kernels' own forms, none that a policy chose


def room(table: Table) -> int:
    """What one row may add to an output: labels, padding, fixed texts."""
    return WIRE_BYTES + sum(
        96 + sum(4 * len(label) + 1 for label in column.labels) + 2 * max(column.length, 255) for column in table.columns
    )


def _reader(table: Table) -> Callable[[bytes], object]:
    """A stranger's reader of records, which must use all of each."""
    schema = fastavro.parse_schema(envelope.value_schema("od", table, "mysql"))

    def read_value(value: bytes) -> None:
        stream = io.BytesIO(value[5:])
        fastavro.schemaless_reader(stream, schema)
        assert not stream.read(), "fastavro leaves bytes"

    return read_value


def _json(text: bytes) -> None:
    """Python's own reader of a JSON text that is an Avro string."""
    json.loads(text[next(i for i, byte in enumerate(text) if byte < 0x80) + 1 :])


def _lane(driver: ModuleType, name: str, kind: str, images: Iterable[bytes], **shape: Any) -> Any:
    whole: dict[str, Any] = {
        "plan": None,
        "copy": None,
        "keys": None,
        "envelope": None,
        "room": WIRE_BYTES,
        "factor": FACTOR,
        "reader": None,
    } | shape
    return driver.Lane(name, KINDS.index(kind), list(images), **whole)


FOREIGN: tuple[tuple[int, int, tuple[bytes, ...]], ...] = (
    (ops.TO_INT2, 0, (avro_long(-7), avro_long(32767))),
    (ops.TO_INT4, 0, (avro_long(-7), avro_long(2**31 - 1))),
    (ops.TO_INT8, 0, (avro_long(-7), avro_long(-(2**63)), avro_long(2**63 - 1))),
    (ops.TO_REAL, 0, (b"\0\0\x80\x3f",)),
    (ops.TO_DOUBLE, 0, (b"\0\0\0\0\0\0\xf0\x3f",)),
    (ops.TO_BOOL, 0, (b"\0", b"\1")),
    (ops.TO_BIT, 1, (b"\0", b"\1")),
    *((ops.TO_BITS, bits, (avro_bytes(b"\1" * ((bits + 7) // 8)),)) for bits in (2, 8, 9, 33, 64)),
    *((ops.TO_NUMERIC, scale, tuple(avro_bytes(b"\x7f\xff\x80" * n) for n in (1, 2, 3, 9))) for scale in (0, 1, 4, 16, 17, 30)),
    *((op, 0, (avro_bytes(b""), avro_bytes("né".encode()), avro_bytes(b"x" * 200))) for op in (ops.TO_TEXT, ops.TO_BYTEA)),
    (ops.TO_DATE, 0, (avro_long(0), avro_long(2932896), avro_long(-719162))),
    *(
        (op, 0, (avro_long(0), avro_long(1_700_000_000_123), avro_long(-62135596800000)))
        for op in (ops.TO_STAMP_MS, ops.TO_STAMP_US, ops.TO_STAMP_NS)
    ),
    (
        ops.TO_STAMP_TEXT,
        0,
        tuple(avro_bytes(text) for text in (b"2024-02-29T01:02:03.456789Z", b"2024-02-29T01:02Z", b"0001-01-01T00:00:00+01:30")),
    ),
    (ops.TO_INTERVAL, 0, (avro_long(-1), avro_long(3020399000000))),
    (ops.TO_INTERVAL_MS, 0, (avro_long(-1), avro_long(86399999))),
    (ops.TO_EWKB, 0, tuple(avro_bytes(b"\1\1\0\0\0" + bytes(16)) + tail for tail in (b"\0", b"\2\xc8\x43"))),
    (ops.TO_REALS, 0, (b"\0", b"\4" + bytes(8) + b"\0", b"\3\x10" + bytes(8) + b"\2" + bytes(4) + b"\0")),
    (ops.TO_UUID, 0, (avro_bytes(b"123e4567-e89b-12d3-a456-426655440000"),)),
    (ops.TO_INET, 0, (avro_bytes(b"192.168.1.0"), avro_bytes(b"2001:db8::1"))),
    (ops.TO_TEXT_CHOSEN, 0, (avro_bytes(b"plain"), avro_bytes(b"a\0b\0"))),
    (ops.TO_DOCUMENT, 0, (avro_bytes(b'{"a": [1.5, "x"]}'), avro_bytes(b'"\\u0000"'), avro_bytes(b"[1e999999]"))),
    (ops.TO_LOCAL, 0, (avro_bytes(b"2026-10-25T00:30:00Z"), avro_bytes(b"0001-01-01T00:00:00Z"))),
    (ops.TO_FLAG, 0, (avro_long(0), avro_long(1), avro_long(-128))),
    (ops.TO_WHOLE, 0, (avro_bytes(b"\x7f"), avro_bytes(b"\0" + b"\xff" * 8))),
)
"""Every form that a stranger's record may have: opcode, its number, Avro values."""


_POLICY = Policy(nul_text="replace", refused_json="string", timestamp_zone="Europe/Berlin", over_wide="clamp")


def _choice(op: int) -> Choose | None:
    """What a policy makes of values of this opcode, if it needs one."""
    return next((make(_POLICY, False) for name, make in CHOICES.items() if getattr(ops, name) == op), None)


def _foreign(driver: ModuleType) -> Iterator[Any]:
    names = {number: name for name, number in vars(ops).items() if name.startswith("TO_")}
    for op, parameter, found in FOREIGN:
        for null, images in ((-1, found), (0, [b"\2" + one for one in found]), (1, [b"\0" + one for one in found])):
            plan = CopyPlan("db.t", ["v"], [op], [parameter], [null], [_choice(op)])
            yield _lane(driver, f"copy foreign {names[op]} {parameter} null {null}", "copy", images, copy=plan)
    wide = [f"v{i}" for i in range(len(FOREIGN))], [one[0] for one in FOREIGN], [one[1] for one in FOREIGN], [0] * len(FOREIGN)
    whole = CopyPlan("db.t", *wide, [_choice(one[0]) for one in FOREIGN])
    rows = [b"".join(b"\2" + one[2][i % len(one[2])] for one in FOREIGN) for i in range(3)]
    yield _lane(driver, "copy foreign all", "copy", rows, copy=whole, room=WIRE_BYTES * len(FOREIGN))
