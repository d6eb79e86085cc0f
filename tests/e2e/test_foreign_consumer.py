"""A consumer that knows Debezium's conventions and our documents, and nothing of our code, rebuilds the tables from the topics."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e import oracle
from tests.e2e.bank import TABLES, Bank, create
from tests.e2e.foreign import Record, Schemas, control_records, murmur2, partition_of, records
from tests.e2e.streaming import Streaming
from tests.e2e.watch import caught_up, equal, until
from tests.helpers.documents import faults
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase

PARTITIONS = 3
NEW_KEY, OLD_KEY = "__debezium.newkey", "__debezium.oldkey"
SOURCE_FIELDS = "version connector name ts_ms snapshot db sequence ts_us ts_ns table server_id gtid file pos row thread query".split()
ENVELOPE_FIELDS = "before after source transaction op ts_ms ts_us ts_ns".split()
KEYED, KEYLESS = ("savings", "current", "counter", "odd"), ("journal", "odd_heap")

_ZERO = datetime(1970, 1, 1, tzinfo=UTC)
_FORMS: dict[str, Callable[[Any], Any]] = {
    "io.debezium.time.Date": lambda days: (_ZERO + timedelta(days)).date(),
    "io.debezium.time.MicroTimestamp": lambda us: (_ZERO + timedelta(microseconds=us)).replace(tzinfo=None),
    "io.debezium.time.ZonedTimestamp": datetime.fromisoformat,
    "io.debezium.time.MicroTime": lambda us: timedelta(microseconds=us),
}


def test_the_strangers_hash_is_kafkas() -> None:
    """The examples of Kafka's own test (UtilsTest#testMurmur2)."""
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}
    assert known == {data: (murmur2(data) ^ 0x80000000) - 0x80000000 for data in known}


@pytest.fixture
def worked(source: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase) -> Streaming:
    """A pipeline whose copy went through the topics beside work, with a capture killed in the middle; all of it applied."""
    create(source)
    with Bank(source, 11) as bank:
        sections = {"snapshot": {"through": "topics"}, "transport": {"partitions": PARTITIONS}}
        works = Streaming(pipeline(source, postgres, kafka, **sections), "split")
        works.start()
        works.await_cut(postgres)
        for _ in range(2):
            done = bank.done
            until(lambda d=done: bank.done > d + 60, 60, "work", *works.processes.values())  # type: ignore[misc]
            works.kill("capture")
            works.start("capture")
        done = bank.done
        until(lambda: bank.done > done + 40, 60, "work", *works.processes.values())
    caught_up(works.pipeline)
    return works


def test_a_stranger_rebuilds_the_tables(worked: Streaming, source: SourceDatabase, kafka: Broker, postgres: TargetDatabase) -> None:
    """Keyed tables by the last record of each key, keyless ones as multisets of changes; shape, placement and order as Debezium's."""
    works = worked
    equal(works.pipeline)
    works.stop()
    schemas = Schemas(kafka)
    control = control_records(kafka)
    assert [] == [fault for record in control for fault in faults("control", record)]
    for table in TABLES:
        held = records(kafka, f"{kafka.prefix}.{source.name}.{table}")
        rows = _keyed(held, schemas) if table in KEYED else _keyless(held, schemas, _copied_at(control, table))
        assert oracle.source_rows(source, table) == rows, table
        _check_shape(held, schemas, source, kafka, keyed=table in KEYED)
        _check_numbers(held, schemas, control, f"{kafka.prefix}.{source.name}.{table}")
        _check_repeats(held, schemas)
    _check_deletes(records(kafka, f"{kafka.prefix}.{source.name}.current"), schemas, changes_keys=True)
    _check_deletes(records(kafka, f"{kafka.prefix}.{source.name}.odd"), schemas)
    assert {} == oracle.differences(source, postgres, TABLES)


# -- rebuilding ---------------------------------------------------------------------------------------------------------


def _row(value: dict[str, Any], schema: Any) -> tuple[Any, ...]:
    """The row in the oracle's plain forms."""
    kinds = {field["name"]: field["type"] for field in schema["fields"][0]["type"][1]["fields"]}
    return tuple(None if one is None else _plain(one, kinds[name]) for name, one in value.items())


def _plain(value: Any, kind: Any) -> Any:
    kind = next((one for one in kind if one != "null"), None) if isinstance(kind, list) else kind
    form = _FORMS.get(kind.get("connect.name", ""))
    return oracle._plain(form(value) if form else value)


def _keyed(held: Iterable[Record], schemas: Schemas) -> oracle.Rows:
    """The last state of each key, as every upserting sink keeps it."""
    rows: dict[bytes, tuple[Any, ...]] = {}
    for record in held:
        assert record.key is not None
        envelope = schemas.read(record.value)
        if envelope is None or envelope["op"] == "d":
            rows.pop(record.key, None)
        else:
            rows[record.key] = _row(envelope["after"], schemas.raw[schemas.number(record.value or b"")])
    return Counter(rows.values())


def _keyless(held: Iterable[Record], schemas: Schemas, copied_at: str) -> oracle.Rows:
    """The rows as a multiset: what was copied, and every later change once."""
    rows: oracle.Rows = Counter()
    seen = set()
    for record in held:
        envelope = schemas.read(record.value)
        schema = schemas.raw[schemas.number(record.value or b"")]
        name = _name(envelope)
        if envelope["op"] != "r" and (name in seen or _contains(copied_at, envelope["transaction"]["id"])):
            continue
        seen.add(name)
        rows.update([_row(envelope["after"], schema)] if envelope["after"] is not None else [])
        rows.subtract([_row(envelope["before"], schema)] if envelope["before"] is not None else [])
    assert not -rows, "more rows were taken out than there were"
    return +rows


def _name(envelope: dict[str, Any]) -> tuple[Any, ...]:
    """What names a change for ever: its transaction and its place in it."""
    place = envelope["transaction"]
    return (place["id"], place["total_order"], envelope["op"]) if place else (envelope["source"]["sequence"],)


def _copied_at(control: list[dict[str, Any]], table: str) -> str:
    """The position at which the newest copy of a table without a key was read."""
    return str(next(record["position"]["gtids"] for record in reversed(control) if record["type"] == "copy" and record["table"] == table))


def _contains(gtids: str, transaction: str) -> bool:
    if ":" not in transaction:
        domain, _, number = transaction.split("-")
        return any(int(number) <= int(one.split("-")[2]) for one in gtids.split(",") if one.split("-")[0] == domain)
    server, _, number = transaction.rpartition(":")
    own = next((one for one in gtids.split(",") if one.startswith(server)), "")
    spans = [(int(low), int(high or low)) for low, high in re.findall(r":(\d+)(?:-(\d+))?", own)]
    return any(low <= int(number) <= high for low, high in spans)


# -- what a consumer written for Debezium relies on -----------------------------------------------------------------------


def _check_shape(held: list[Record], schemas: Schemas, source: SourceDatabase, kafka: Broker, *, keyed: bool) -> None:
    partitions = {record.partition for record in held}
    assert partitions <= set(range(PARTITIONS)) if keyed else partitions == {0}
    for record in held:
        if record.key is None:
            assert not keyed
        else:
            assert partition_of(record.key, PARTITIONS) == record.partition
            assert f"{record.topic}-key" == schemas.subjects[schemas.number(record.key)]
        if record.value is None:
            assert keyed
            continue
        _check_envelope(record, schemas, source, kafka)


def _check_envelope(record: Record, schemas: Schemas, source: SourceDatabase, kafka: Broker) -> None:
    number = schemas.number(record.value or b"")
    envelope, schema = schemas.read(record.value), schemas.raw[number]
    assert f"{record.topic}-value" == schemas.subjects[number]
    assert ENVELOPE_FIELDS == [field["name"] for field in schema["fields"]]
    assert SOURCE_FIELDS == list(envelope["source"])
    about = envelope["source"]
    assert (source.flavour, kafka.prefix, source.name) == (about["connector"], about["name"], about["db"])
    assert about["table"] == record.topic.rpartition(".")[2]
    assert ("true" if envelope["op"] == "r" else "false") == about["snapshot"]
    assert {"c": (False, True), "r": (False, True), "u": (True, True), "d": (True, False)}[envelope["op"]] == (
        envelope["before"] is not None, envelope["after"] is not None
    )  # fmt: skip
    assert abs(envelope["ts_ms"] - about["ts_ms"]) < 120_000
    if record.key is not None:
        key, row = schemas.read(record.key), envelope["after"] or envelope["before"]
        assert key == {name: row[name] for name in key}


def _check_numbers(held: list[Record], schemas: Schemas, control: list[dict[str, Any]], topic: str) -> None:
    """Numbers grow by one within an epoch and go on from what the epoch's base says."""
    bases = {record["epoch"]: record for record in control if record["type"] == "base"}
    last: dict[tuple[int, int], int] = {}
    for record in held:
        envelope = schemas.read(record.value)
        if envelope is None:
            continue
        epoch, number = map(int, envelope["source"]["sequence"].split("."))
        named = bases[epoch]["named"].get(f"{topic}:{record.partition}", [0, 0, 0])
        assert last.get((record.partition, epoch), named[2]) + 1 == number
        last[record.partition, epoch] = number


def _check_repeats(held: list[Record], schemas: Schemas) -> None:
    """What comes again, after a crash, says exactly what it said before."""
    said: dict[tuple[Any, ...], str] = {}
    for record in held:
        envelope = schemas.read(record.value)
        if envelope is not None and envelope["op"] != "r":
            content = repr([record.key, record.headers, envelope["before"], envelope["after"]])
            assert content == said.setdefault(_name(envelope), content)


def _check_deletes(held: list[Record], schemas: Schemas, *, changes_keys: bool = False) -> None:
    """A tombstone follows each delete; a changed key is a delete, a tombstone and a create that point at each other."""
    lanes: dict[int, list[Record]] = defaultdict(list)
    for record in held:
        lanes[record.partition].append(record)
    left, entered = [], []
    for lane in lanes.values():
        for record, after in zip(lane, [*lane[1:], None], strict=True):
            envelope = schemas.read(record.value)
            if envelope is not None and envelope["op"] == "d":
                followed = after is not None and (after.key, after.value) == (record.key, None)
                assert followed or (after is not None and _epoch(after, schemas) > _epoch(record, schemas))  # a crash fell in between
                left += [(record.key, record.headers[NEW_KEY], _name(envelope)[0])] if NEW_KEY in record.headers else []
            elif envelope is not None and OLD_KEY in record.headers:
                assert envelope["op"] == "c"
                entered.append((record.headers[OLD_KEY], record.key, _name(envelope)[0]))
    assert changes_keys == bool(left)
    assert set(left) == set(entered)
    assert all(old != new for old, new, _ in left)


def _epoch(record: Record, schemas: Schemas) -> int:
    envelope = schemas.read(record.value)
    return int(envelope["source"]["sequence"].split(".")[0]) if envelope else -1
