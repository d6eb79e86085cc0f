"""What each command that streams has: metrics, and checks before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Literal

import cdc
from cdc import codec
from cdc.checks.source import Examined, SourceCheck
from cdc.checks.start import Fits, StartCheck
from cdc.checks.target import TargetCheck
from cdc.checks.topics import TopicsCheck
from cdc.codec import envelope
from cdc.config.load import ApplyConfig, Config
from cdc.errors import CdcError
from cdc.model.policies import Policies
from cdc.runtime.flow import telling
from cdc.runtime.metrics import Metrics
from cdc.state.presence import Presence
from cdc.transport.kafka.connect import broker_of
from sinks.postgres.fence import successor
from sinks.postgres.tables import check_policies
from sinks.postgres.target import PostgresTarget
from sinks.quarantine import QuarantineLimits

Ready = Callable[[], None]
Work = Callable[[Ready], None]
ListenKey = Literal["listen", "apply_listen", "snapshot_listen"]
_LISTENS: Mapping[str, ListenKey] = {"apply": "apply_listen", "snapshot": "snapshot_listen"}
"""The key of the port of a command's metrics, where it has one of its own."""


@contextmanager
def serving_metrics(config: Config, key: ListenKey) -> Iterator[Metrics]:
    """The metrics of this process, served where its key says and told in the log once a minute; shards on one machine
    take the ports after it."""
    metrics = Metrics(
        config.pipeline.name,
        transport=config.transport.kind,
        codec=codec.KIND,
        version=cdc.__version__,
        prefix=config.transport.prefix,
    )
    ports = max(1, config.apply.shards) if key == "apply_listen" else 1
    chosen = key in config.metrics.model_fields_set
    endpoint = metrics.serve(getattr(config.metrics, key), key=key, ports=ports, yields=not chosen)
    try:
        with telling(metrics):
            yield metrics
    finally:
        if endpoint is not None:
            endpoint.close()


@contextmanager
def at_work(config: Config, command: str) -> Iterator[Metrics]:
    """The metrics of a process of the pipeline; the target shows that it runs, and then why it ended."""
    key = _LISTENS.get(command, "listen")
    with Presence(config.target, config.pipeline.name, command) as presence, serving_metrics(config, key) as metrics:
        presence.doing = lambda: metrics.doing
        yield metrics


def owned(target: PostgresTarget, work: Work) -> Work:
    """The work of a pipeline's owner; where its connection was ended for another one's sake, that is the error."""

    def run(ready: Ready) -> None:
        try:
            work(ready)
        except CdcError as error:
            raise successor(target.target, target.pipeline, target.fence, error) from None

    return run


def start_check(config: Config, *, capture: bool = True, topics: bool = True, target: bool = True) -> StartCheck:
    """What a command asks before anything is written; each asks for what it needs."""
    return StartCheck(
        source_check(config) if capture else None,
        TargetCheck(config.target, config.pipeline.name),
        topics_check(config) if topics else None,
        fits(config, only_policies=not target),
        writes=target,
    )


def source_check(config: Config) -> SourceCheck:
    prefix = config.transport.prefix if config.transport.kind == "kafka" else None
    return SourceCheck(config.source, config.policies.policies, config.target.schema_, prefix, config.apply.shards)


def topics_check(config: Config) -> TopicsCheck | None:
    """None where there is no broker."""
    if config.transport.kind != "kafka":
        return None
    return TopicsCheck(broker_of(config.transport, lambda: None), config.transport.registry, config.pipeline.name)


def fits(config: Config, *, only_policies: bool = False) -> Fits:
    """Whether the target can take the rows of the tables found.

    `only_policies`: where it is not written, as far as it can be asked.
    """
    place, prefix, policies = (config.target, config.pipeline.name), config.transport.prefix, config.policies.policies
    check = partial(check_policies, *place) if only_policies else PostgresTarget(*place).check
    return lambda found: check(plans(found, prefix, policies) if found is not None else ())


def plans(found: Examined, prefix: str, policies: Policies) -> Iterator[codec.ValuePlan]:
    """How the tables' records become rows of the target."""
    for table in found.tables:
        value = envelope.value_schema(prefix, table, found.flavour)
        yield codec.ValuePlan(value, envelope.key_schema(prefix, table), policies)


def limits_of(apply: ApplyConfig) -> QuarantineLimits:
    return QuarantineLimits(apply.quarantine_keys, apply.quarantine_share)
