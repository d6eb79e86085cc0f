"""Who works on which shard: a consumer group on a topic that has a partition for each shard, and no records.

The group says who shall work on a shard, and says it late; that no two write it is for the target to hold.
Docs: docs/decisions/025-scaled-sink.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from cdc.errors import Halt
from cdc.model.names import shards_topic
from cdc.runtime import timing
from cdc.transport.kafka.broker import KafkaBroker, leave, translate
from cdc.transport.kafka.client_settings import CONTROL_TOPIC

Told = Callable[[frozenset[int]], None]


class KafkaGroup:
    """One member of a pipeline's group."""

    def __init__(self, broker: KafkaBroker, shards: int, given: Told, taken: Told) -> None:
        """`given` and `taken` hear of shards within `poll`; another member gets what was taken once `taken` has
        returned."""
        self._broker, self._topic = broker, shards_topic(broker.prefix, shards)
        if broker.prepare(self._topic, shards, CONTROL_TOPIC) != shards:
            raise Halt(
                "shards_topic", f"topic {self._topic}", f"has not {shards} partitions", "delete it: it holds no records"
            )
        self._consumer = broker.member(f"cdc-{broker.prefix}-members")
        self._given, self._taken = given, taken
        try:
            self._consumer.subscribe(
                [self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked
            )
        except KafkaException as e:
            raise translate(e.args[0], f"topic {self._topic}") from None

    def _assigned(self, _: Consumer, partitions: Iterable[TopicPartition]) -> None:
        self._given(frozenset(one.partition for one in partitions))

    def _revoked(self, _: Consumer, partitions: Iterable[TopicPartition]) -> None:
        self._taken(frozenset(one.partition for one in partitions))

    def poll(self, seconds: float) -> None:
        """Take part in the group for so long; Retry when the broker is away."""
        message: Any = self._consumer.poll(seconds)
        if message is None:
            self._broker.check_stop()
        elif message.error() is not None:
            raise translate(message.error(), f"topic {self._topic}")

    def close(self) -> None:
        """Leave the group, so that the others need not miss us first; a broker that is gone is not waited for."""
        leave(self._consumer, timing.TIMES.group_close_seconds)
