"""What each command that streams has: metrics, and checks before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import cdc
from cdc import codec
from cdc.checks import start as fitness
from cdc.config.load import Config
from cdc.runtime.metrics import Metrics
from cdc.transport.kafka.connect import broker_of
from sinks.postgres.tables import check_policies
from sinks.postgres.target import PostgresTarget
from sinks.quarantine import QuarantineLimits

Ready = Callable[[], None]


@contextmanager
def serving_metrics(config: Config) -> Iterator[Metrics]:
    metrics = Metrics(
        config.pipeline.name, transport=config.transport.kind, codec=codec.KIND, version=cdc.__version__, prefix=config.transport.prefix
    )
    endpoint = metrics.serve(config.metrics.listen, yields="listen" not in config.metrics.model_fields_set)
    try:
        yield metrics
    finally:
        if endpoint is not None:
            endpoint.close()


def check_fit(config: Config, *, capture: bool = True, topics: bool = True, target: bool = True) -> None:
    """Refuse what would fail later, before anything is written; what each command needs."""
    broker = broker_of(config, lambda: None) if topics and config.transport.kind == "kafka" else None
    fitness.demand(config, broker, fits(config) if target else None, capture=capture, told=fits(config, only_policies=True))


def fits(config: Config, *, only_policies: bool = False) -> fitness.Fits:
    place = config.target, config.pipeline.name
    check = partial(check_policies, *place) if only_policies else PostgresTarget(*place).check
    return lambda flavour, tables: check(fitness.plans(config, flavour, tables))


def limits_of(config: Config) -> QuarantineLimits:
    return QuarantineLimits(config.apply.quarantine_keys, config.apply.quarantine_share)
