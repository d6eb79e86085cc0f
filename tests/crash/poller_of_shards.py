"""A reader of a target to which several sinks write: what a scaled sink promises while it runs, and nothing that it gives up.

Between shards a transaction may be there in part: the money may be gone from one account and not yet on the other. What holds
(docs/decisions/025-scaled-sink.md): no place goes back, neither the pipeline's nor a shard's, and the pipeline's is covered by each
shard's; no key goes back; no row of a table without a key is there twice; within a shard a transaction is there whole or not at all;
what was committed before the pipeline's place is there.

Which shard a row belongs to is found here by code of its own: Kafka's hash (murmur2) of the key's bytes, the place of the topic.
"""

from __future__ import annotations

import zlib
from collections import Counter
from functools import cache
from typing import Any, NamedTuple

import psycopg

from tests.crash.milestones import Milestones
from tests.crash.places import advanced
from tests.crash.poller import ABSENT, Poller
from tests.crash.workload import BULK_ROWS, LISTED, TABLES
from tests.crash.works import PARTITIONS, SHARDS
from tests.helpers.servers import SourceDatabase, TargetDatabase

_M = 0x5BD1E995


class Seen(NamedTuple):
    """One look at tables that are consistent."""

    counter: dict[str, int]
    wound: dict[str, int]
    bulk: dict[str, int]
    ledger: list[int]
    audit: list[list[int]]
    trail: list[int]


class ShardsPoller(Poller):
    """Looks as long as a block; begun before the tables are copied."""

    def __init__(self, target: TargetDatabase, pipeline: str, schema: str, source: SourceDatabase, prefix: str) -> None:
        super().__init__(target, pipeline, schema, pause_seconds=0.1)
        self._milestones = Milestones(source)
        self._prefix, self._schema = f"{prefix}.{schema}", schema
        self._shards: dict[str, dict[str, Any]] = {}
        self._rows: dict[str, dict[str, int]] = {}
        self._owed: set[int] = set()
        self._of_shards = f"""
            SELECT (SELECT position FROM cdc.progress WHERE pipeline = '{pipeline}'),
             (SELECT json_object_agg(shard, json_build_object('fence', fence, 'position', position))
                FROM cdc.shard WHERE pipeline = '{pipeline}'),
             (SELECT count(*) FROM cdc.tables WHERE pipeline = '{pipeline}' AND state IN ('consistent', 'quarantined')
               AND "table" IN ({LISTED})),
             (SELECT json_object_agg("table", schema -> 'key_schema') FROM cdc.tables WHERE pipeline = '{pipeline}'),
             (SELECT json_object_agg(k, n) FROM "{schema}".counter), (SELECT json_object_agg(id, n) FROM "{schema}".wound),
             (SELECT coalesce(json_object_agg(id, op), '{{}}') FROM "{schema}".bulk),
             (SELECT coalesce(array_agg(op), '{{}}') FROM "{schema}".ledger),
             (SELECT coalesce(array_agg(array[op, k, n::int8]), '{{}}') FROM "{schema}".audit),
             (SELECT array[count(*), count(DISTINCT (op, part))] FROM "{schema}".trail)""".encode()

    def __enter__(self) -> Poller:
        self._milestones.__enter__()
        return super().__enter__()

    def close(self) -> None:
        super().close()
        self._milestones.__exit__()

    def _look(self, line: psycopg.Connection[tuple[Any, ...]]) -> None:
        try:
            row = line.execute(self._of_shards).fetchone()
        except ABSENT:
            return  # before the copy
        assert row is not None
        self.looks += 1
        position, shards, tables, ids, *rows = row
        self._judge_place(position)
        self._judge_shards(position, shards or {})
        if position is not None:
            self._owed |= self._milestones.take(position)
        if tables == len(TABLES):
            self.whole += 1
            self.judge_rows(Seen(*rows), ids)

    def _judge_shards(self, position: dict[str, Any], shards: dict[str, dict[str, Any]]) -> None:
        for shard, now in shards.items():
            before = self._shards.get(shard, now)
            if now["fence"] < before["fence"] or not advanced(before["position"], now["position"]):
                self._find(f"shard {shard} went back from {before} to {now}")
            if not advanced(position, now["position"]):
                self._find(f"the position {position} is shown, and shard {shard} is at {now}")
        self._shards = shards

    def judge_rows(self, seen: Seen, ids: dict[str, int]) -> None:
        """What rows of consistent tables say; `ids`: the schema of each table's key."""
        shards = Shards(self._prefix, ids)
        self._judge_keys(seen)
        self._judge_keyless(seen)
        self._judge_within(seen, shards)
        for name, ops in (("ledger", set(seen.ledger)), ("audit", {op for op, _, _ in seen.audit})):
            if lost := self._owed - ops:
                self._find(f"{len(lost)} operations before the position that is shown are not in {name}, {min(lost)} first")

    def _judge_keys(self, seen: Seen) -> None:
        for table in ("counter", "wound"):
            now, before = getattr(seen, table), self._rows.get(table, {})
            for key in before.keys() & now.keys():
                if now[key] < before[key]:
                    self._find(f"{table} {key} stepped back from {before[key]} to {now[key]}")
            if gone := before.keys() - now.keys():
                self._find(f"{len(gone)} rows of {table} are gone")
            self._rows[table] = now

    def _judge_keyless(self, seen: Seen) -> None:
        double = [entry for entry, times in Counter((k, n) for _, k, n in seen.audit).items() if times > 1]
        if double:
            self._find(f"{len(double)} entries of the audit are there twice, {double[0]} first")
        rows, different = seen.trail
        if rows % 3 or rows != different:
            self._find(f"{rows} rows of statements that write three each, {different} of them different")

    def _judge_within(self, seen: Seen, shards: Shards) -> None:
        """Of each transaction a shard shows all of its part or nothing."""
        audit = shards.of_keyless("audit")
        entries = Counter(k for _, k, _ in seen.audit)
        for key, n in seen.counter.items():
            if shards.of("counter", int(key)) == audit and entries[int(key)] != n:
                self._find(f"{n} by counter {key}, {entries[int(key)]} in the audit of the same shard")
        beside = {op for op in seen.ledger if shards.of("ledger", op) == audit}
        entered = {op for op, _, _ in seen.audit if shards.of("ledger", op) == audit}
        if beside != entered:
            self._find(
                f"{len(beside ^ entered)} operations are in one of ledger and audit in the same shard, {min(beside ^ entered)} first"
            )
        for shard in range(SHARDS):
            ops = [op for key, op in seen.bulk.items() if shards.of("bulk", int(key)) == shard]
            if ops and (len(set(ops)) > 1 or len(ops) != shards.rows_of_bulk(shard)):
                self._find(f"{len(ops)} rows of {len(set(ops))} large transactions in shard {shard}")


class Shards:
    """Where rows belong, of topics whose names begin with `prefix`; `ids`: the schema of each table's key."""

    def __init__(self, prefix: str, ids: dict[str, int]) -> None:
        self._prefix, self._ids = prefix, ids

    def of(self, table: str, key: int) -> int:
        """The shard of a row by its key, one whole number."""
        return (self._topic(table) + partition(self._ids[table], key)) % SHARDS

    def of_keyless(self, table: str) -> int:
        """The shard of a table without a key, all of which is in the first partition."""
        return self._topic(table) % SHARDS

    def rows_of_bulk(self, shard: int) -> int:
        """How many rows of the table of large transactions belong to it."""
        return sum(self.of("bulk", number) == shard for number in range(BULK_ROWS))

    def _topic(self, table: str) -> int:
        return zlib.crc32(f"{self._prefix}.{table}".encode())


@cache
def partition(schema_id: int, key: int) -> int:
    """Where Kafka puts a key: the frame of its schema, then one number, as Avro writes it (zigzag, seven bits a byte)."""
    left, data = (key << 1) ^ (key >> 63), b"\0" + schema_id.to_bytes(4)
    while left > 0x7F:
        data, left = data + bytes([left & 0x7F | 0x80]), left >> 7
    return (murmur2(data + bytes([left])) & 0x7FFFFFFF) % PARTITIONS


def murmur2(data: bytes) -> int:
    """The hash of Kafka's own partitioner (org.apache.kafka.common.utils.Utils.murmur2)."""
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * _M & 0xFFFFFFFF
        h = h * _M & 0xFFFFFFFF ^ (k ^ k >> 24) * _M & 0xFFFFFFFF
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * _M & 0xFFFFFFFF
    h = (h ^ h >> 13) * _M & 0xFFFFFFFF
    return h ^ h >> 15
