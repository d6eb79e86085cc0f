"""Where a pipeline's partitions are dealt out to several sinks: which shard has which. Pure.

Docs: docs/decisions/025-scaled-sink.md.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from cdc.errors import Refused
from cdc.model.record import Partition


def shard_of(partition: Partition, shards: int) -> int:
    """The shard, from 0 on, that a partition belongs to: for ever the same."""
    return (zlib.crc32(partition[0].encode()) + partition[1]) % shards


@dataclass(frozen=True, slots=True)
class Share:
    """The partitions of one shard of so many; `shards` = 0: all partitions, of a pipeline that is not dealt out."""

    shard: int = 0
    shards: int = 0

    def has(self, partition: Partition) -> bool:
        """Whether a partition is in the share."""
        return not self.shards or shard_of(partition, self.shards) == self.shard


ALL = Share()


def shards_differ(pipeline: str, found: int) -> Refused:
    """What is said where the partitions are dealt out to so many shards, and others are asked for."""
    return Refused("shards_differ", f"pipeline {pipeline}", f"its partitions are dealt out to {found} shards",
                   f"set apply.shards = {found}, "
                   "or run cdc apply with 0 until it has brought them together")  # fmt: skip
