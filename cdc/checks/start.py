"""What every start asks before it writes anything: the source, the target, the broker, and whose topics these are.

Refused from here is exit code 2: nothing was written. Once a process is past it, `supervise` turns a refusal into a halt.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

from cdc import codec
from cdc.checks import doctor
from cdc.codec import envelope
from cdc.config.load import Config
from cdc.errors import Halt, Malformed, Refused
from cdc.model import names
from cdc.model.names import control_topic
from cdc.model.table import Table
from cdc.mysql.catalog import Catalog
from cdc.protocol import control
from cdc.state.shards import shards_differ
from cdc.state.store import StateStore
from cdc.transport.kafka.broker import KafkaBroker
from cdc.transport.schema_registry import HttpRegistry

Fits = Callable[[Any, Sequence[Table]], None]
"""Flavour and tables in; raises when a table that the target has cannot take the rows."""


def demand(config: Config, broker: KafkaBroker | None, fits: Fits | None, *, capture: bool = True, told: Fits | None = None) -> None:
    """Refuse what would fail later. `broker` where topics are used, `fits` where the target is written, `capture` where the log is read.

    `told` is asked instead of `fits` where the target is not written and may be away.
    """
    try:
        _demand(config, broker, fits, capture, told)
    except Halt as error:
        raise Refused(error.code, error.place, error.rule, error.hint or "cdc doctor says more") from None


def _demand(config: Config, broker: KafkaBroker | None, fits: Fits | None, capture: bool, told: Fits | None) -> None:
    if broker is not None:
        demand_broker(config, broker)
    flavour, tables = None, list[Table]()
    if capture:
        restart = _has_begun(config, broker)
        flavour, tables = doctor.demand_source(config, lambda: Catalog(config.source), restart=restart)
        if broker is not None:
            demand_prefix(config, broker, tables)
    if fits is not None:
        doctor.demand_target(config, tables)
        fits(flavour, tables)
    elif told is not None:
        told(flavour, tables)


def _has_begun(config: Config, broker: KafkaBroker | None) -> bool:
    """Whether the topics, or the target without topics, say where to go on; the first epoch begins where the target's copy does."""
    if broker is not None and broker.exists(control_topic(config.transport.prefix)):
        return True
    with StateStore(config.target, config.pipeline.name) as state:
        state.check()
        return broker is None and state.read().progress is not None


def demand_broker(config: Config, broker: KafkaBroker) -> None:
    """The broker lets us in, and so does the registry if one is named."""
    broker.check()
    if config.transport.registry:
        HttpRegistry(config.transport.registry).check()


def demand_prefix(config: Config, broker: KafkaBroker, tables: Sequence[Table]) -> None:
    """Refuse to write topics that another pipeline's capture, or something else, has written: its next cuts would be void."""
    prefix = config.transport.prefix
    place = f"transport.prefix {prefix}"
    hint = "give transport.prefix a name that nothing else writes to, or delete its topics"
    if broker.exists(control_topic(prefix)):
        owner = _owner(broker, control_topic(prefix), place, hint)
        if owner and owner != config.pipeline.name:
            raise Refused("prefix_taken", place, f"its topics are written by pipeline {owner}", hint)
        return
    topics = [names.topic(prefix, table.db, table.name) for table in tables]
    with closing(broker.consumer()) as consumer:
        held = [name for name in topics if broker.exists(name) and _holds_records(broker, consumer, name)]
    if held:
        raise Refused("prefix_taken", place, f"{held[0]} holds records, and there is no control topic", hint)


def _owner(broker: KafkaBroker, topic: str, place: str, hint: str) -> str:
    """The pipeline that wrote the topic's first start record; compaction keeps every start."""
    value = broker.first(topic)
    if value is None:
        return ""
    try:
        entry = control.from_document(json.loads(value), 0)
    except (ValueError, Malformed):
        raise Refused("prefix_taken", place, f"{topic} is not a control topic", hint) from None
    return entry.pipeline if isinstance(entry, control.Start) else ""


def _holds_records(broker: KafkaBroker, consumer: Any, topic: str) -> bool:
    return any(low < high for low, high in (broker.watermarks(consumer, topic, p) for p in range(broker.known(topic))))


def demand_kafka(config: Config, command: str) -> None:
    """Refuse a command that is one half of a pipeline over Kafka where there is none."""
    if config.transport.kind != "kafka":
        raise Refused(
            "transport", "transport.kind", f'cdc {command} is one half of a pipeline over "kafka"', 'use cdc run, or set kind = "kafka"'
        )


def demand_one_process(config: Config) -> None:
    """Refuse to be capture and one of several members in one process."""
    if config.apply.shards:
        raise Refused(
            "transport", "apply.shards", "is for cdc apply, of which several share the partitions", "start cdc capture and cdc apply"
        )


def demand_shards(config: Config) -> None:
    """Refuse another number of shards than that to which the partitions are dealt out: each number's members would end the other's."""
    if not config.apply.shards:
        return
    with StateStore(config.target, config.pipeline.name) as state:
        found = abs(state.mode()[1]) if state.check() else 0
    if found not in (0, config.apply.shards):
        raise shards_differ(config.pipeline.name, found)


def plans(config: Config, flavour: Any, tables: Sequence[Table]) -> Iterator[codec.ValuePlan]:
    """How the tables' records become rows of the target."""
    prefix, book = config.transport.prefix, config.policies.policies
    for table in tables:
        yield codec.ValuePlan(envelope.value_schema(prefix, table, flavour), envelope.key_schema(prefix, table), book)
