"""A pipeline's state where its partitions are dealt out to shards: which shard has which, and how far each of them is.

Docs: docs/decisions/025-scaled-sink.md.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from cdc.config.load import TargetConfig
from cdc.errors import Refused
from cdc.postgres.connection import Connection
from cdc.postgres.errors import guarded
from cdc.protocol.applied import Partition
from cdc.state.store import PLACE, StateStore

_PLACE = f"SELECT {PLACE} FROM cdc.shard WHERE (pipeline, shard) = (%s, %s)"


def shard_of(partition: Partition, shards: int) -> int:
    """The shard, from 0 on, that a partition belongs to: for ever the same."""
    return (zlib.crc32(partition[0].encode()) + partition[1]) % shards


class ShardState(StateStore):
    """The stored state as one shard sees it: its own place and partitions, and the tables of all."""

    def __init__(self, target: TargetConfig, pipeline: str, shard: int, shards: int, connection: Connection | None = None) -> None:
        super().__init__(target, pipeline, connection)
        self.shard, self.shards = shard, shards

    def _place(self) -> Any:
        return self.connection.execute(_PLACE.encode(), [self.pipeline, self.shard]).fetchone()

    def _partitions(self) -> Mapping[Partition, tuple[int, int]]:
        return {p: place for p, place in super()._partitions().items() if shard_of(p, self.shards) == self.shard}


def shards_differ(pipeline: str, found: int) -> Refused:
    """What is said where the partitions are dealt out to so many shards, and others are asked for."""
    return Refused("shards_differ", f"pipeline {pipeline}", f"its partitions are dealt out to {found} shards",
                   f"set apply.shards = {found}, or run cdc apply with 0 until it has brought them together")  # fmt: skip


@guarded("cdc.pipeline")
def mode(state: StateStore) -> tuple[int, int]:
    """The pipeline's fence, and its number of shards: 0 while one process applies all, below 0 while that is being brought about."""
    row = state.connection.execute("SELECT fence, shards FROM cdc.pipeline WHERE name = %s", [state.pipeline]).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)
