"""Every setting of our clients of Kafka, and of the topics that we make.

Docs: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
"""

from __future__ import annotations

from cdc.runtime import timing
from cdc.transport.kafka.record_limits import LARGE, LARGEST_RECORD

_FETCH_BYTES = 33 << 20
CLIENT = {"reconnect.backoff.max.ms": timing.TIMES.reconnect_longest_ms, "socket.keepalive.enable": True}
PRODUCER = {
    "enable.idempotence": True,
    "enable.gapless.guarantee": True,
    "acks": "all",
    "message.timeout.ms": timing.TIMES.delivery_ms,
    "linger.ms": timing.TIMES.linger_ms,
    "batch.num.messages": 50_000,
    "batch.size": LARGE,
    "compression.type": "lz4",
    "queue.buffering.max.messages": 0,
    "queue.buffering.max.kbytes": 2_097_151,
    "message.max.bytes": LARGEST_RECORD,
}
CONSUMER = {
    "auto.offset.reset": "error",
    "check.crcs": True,  # else a flipped bit of a batch passes for data: librdkafka looks only when told to
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_uncommitted",
    "fetch.queue.backoff.ms": timing.TIMES.fetch_queue_backoff_ms,
    "fetch.error.backoff.ms": timing.TIMES.fetch_error_backoff_ms,
    "queued.max.messages.kbytes": 4_096,
    "queued.min.messages": 10_000,  # its own memory of a short record is several times the record
    "fetch.message.max.bytes": 1 << 20,
    "fetch.max.bytes": _FETCH_BYTES,  # a record that is larger comes alone
    "receive.message.max.bytes": LARGEST_RECORD + _FETCH_BYTES,
}
MEMBER = {
    "auto.offset.reset": "latest",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "partition.assignment.strategy": "cooperative-sticky",
    "session.timeout.ms": timing.TIMES.session_ms,
    "heartbeat.interval.ms": timing.TIMES.group_heartbeat_ms,
}
_ANY_RECORD = {"max.message.bytes": str(LARGEST_RECORD)}
DATA_TOPIC = {"cleanup.policy": "delete", "retention.ms": str(timing.TIMES.retention_ms), **_ANY_RECORD}
CONTROL_TOPIC = {"cleanup.policy": "compact", "min.compaction.lag.ms": str(timing.TIMES.retention_ms), **_ANY_RECORD}
SIGNAL_TOPIC = {"cleanup.policy": "delete", "retention.ms": "-1", **_ANY_RECORD}
