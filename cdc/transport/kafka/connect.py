"""A cluster, and the registry of schemas, as the configuration names them."""

from __future__ import annotations

from cdc.config.load import TransportConfig
from cdc.transport.contract import Idle
from cdc.transport.kafka.broker import KafkaBroker
from cdc.transport.kafka.schemas_topic import topic_registry
from cdc.transport.schema_registry import HttpRegistry, Registry


def broker_of(transport: TransportConfig, check_stop: Idle) -> KafkaBroker:
    """The cluster of the configuration."""
    return KafkaBroker(
        transport.bootstrap,
        transport.prefix,
        transport.kafka,
        partitions=transport.partitions,
        partitions_of=transport.partitions_of,
        answer_seconds=transport.answer_timeout_seconds,
        idle=check_stop,
    )


def registry_of(transport: TransportConfig, broker: KafkaBroker) -> Registry:
    """Where the schemas of its topics are."""
    return (
        HttpRegistry(transport.registry, transport.answer_timeout_seconds)
        if transport.registry
        else topic_registry(broker)
    )
