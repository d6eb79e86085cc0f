"""`cdc doctor`: what stands in the way of a start."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cdc import codec
from cdc.checks import doctor as examination, start as fitness
from cdc.commands.process import fits
from cdc.config.load import Config
from cdc.model.record import Document
from cdc.model.table import Table
from cdc.mysql.catalog import Catalog
from cdc.transport.kafka.connect import broker_of


def doctor(config: Config) -> Document:
    """What stands in the way of a start."""
    return examination.examine(
        config, lambda: Catalog(config.source), fits=fits(config), broker=_topics(config), codec=codec.KIND,
    )  # fmt: skip


def _topics(config: Config) -> Callable[[Sequence[Table]], None] | None:
    def check(tables: Sequence[Table]) -> None:
        broker = broker_of(config, lambda: None)
        fitness.demand_broker(config, broker)
        fitness.demand_prefix(config, broker, tables)

    return check if config.transport.kind == "kafka" else None
