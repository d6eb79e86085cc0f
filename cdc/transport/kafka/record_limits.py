"""How large a record may be: what a topic, a broker and this client take, and what is said when one is larger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import TimeoutError as NoAnswer
from typing import Any, NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from cdc.errors import Halt
from cdc.runtime import timing

LARGEST_RECORD = 1_000_000_000
"""Of librdkafka, in bytes, before compression; and what our topics take, compressed."""
LARGE = 1 << 20
"""A record above this travels alone; in bytes. So much a topic must take, for batches of small records."""
FRAME = 1 << 10
"""More than what is sent beside a record's key and value in a request of its own, in bytes."""
_TOPIC, _REQUEST, _CLIENT = "max.message.bytes", "socket.request.max.bytes", "message.max.bytes"


class RecordLimit(NamedTuple):
    """The bytes that something takes, and the setting that says so."""

    bytes: int
    setting: str
    mend: str


class RecordLimits:
    """What stands in a record's way, asked of the cluster when somebody wants to know."""

    def __init__(self, admin: AdminClient, kafka: Mapping[str, Any]) -> None:
        """`kafka`: the settings of `transport.kafka`."""
        self._admin, self._kafka = admin, kafka

    def client(self) -> RecordLimit:
        """Of our own producer, before compression."""
        if _CLIENT in self._kafka:
            mend = f"take {_CLIENT} out of transport.kafka"
            return RecordLimit(int(self._kafka[_CLIENT]), f"transport.kafka {_CLIENT}", mend)
        mend = 'shorten the row at the source, or exclude the table; transport.kind = "direct" has no such limit'
        return RecordLimit(LARGEST_RECORD, "librdkafka's largest message", mend)

    def request(self) -> list[RecordLimit]:
        """Of the brokers, the lowest, above which they end the connection; none where the account may not ask.

        It is of what is sent, and so of what is compressed; held to what is not, nothing is ever sent in vain for ever.
        """
        brokers = self._admin.list_topics(timeout=timing.TIMES.call_seconds).brokers
        found = self._described([ConfigResource(ResourceType.BROKER, str(number)) for number in brokers], _REQUEST)
        mend = f"raise {_REQUEST} in server.properties of each broker, and restart them"
        return [RecordLimit(min(found.values()), f"the broker's {_REQUEST}", mend)] if found else []

    def topics(self, topics: Iterable[str]) -> dict[str, RecordLimit]:
        """Of the topics that exist, compressed, as far as the account may ask."""
        found = self._described([ConfigResource(ResourceType.TOPIC, topic) for topic in topics], _TOPIC)
        return {topic: RecordLimit(size, f"its {_TOPIC}", _raising(topic)) for topic, size in found.items()}

    def _described(self, resources: list[ConfigResource], setting: str) -> dict[str, int]:
        found: dict[str, int] = {}
        seconds = timing.TIMES.call_seconds
        asked = self._admin.describe_configs(resources, request_timeout=seconds) if resources else {}
        for resource, answer in asked.items():
            try:
                found[resource.name] = int(answer.result(timeout=2 * seconds)[setting].value)
            except (KafkaException, NoAnswer, KeyError):  # no right to ask, or no such topic: nothing is known of it
                continue
        return found


def _raising(topic: str) -> str:
    changed = f"--add-config {_TOPIC}={LARGEST_RECORD}"
    return f"kafka-configs.sh --bootstrap-server .. --alter --entity-type topics --entity-name {topic} {changed}"


def too_large(topic: str, size: int, limit: RecordLimit | None) -> Halt:
    """The stop for a record that this topic does not take, of so many bytes, key and value."""
    if limit is None:
        limit = RecordLimit(0, f"its {_TOPIC}, which this account may not ask for", _raising(topic))
    known = f" = {limit.bytes:,} bytes" if limit.bytes else ""
    return Halt(
        "record_too_large",
        f"topic {topic}",
        f"a record of {size:,} bytes (a row before and after its change) is more than is taken: {limit.setting}{known}",
        f"nothing is lost: {limit.mend}; then start again",
    )
