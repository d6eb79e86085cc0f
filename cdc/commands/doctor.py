"""`cdc doctor`: what stands in the way of a start."""

from __future__ import annotations

from cdc import codec
from cdc.checks.doctor import examine
from cdc.checks.target import TargetCheck
from cdc.commands.process import fits, source_check, topics_check
from cdc.config.load import Config
from cdc.model.record import Document


def doctor(config: Config) -> Document:
    """What stands in the way of a start."""
    topics = topics_check(config)
    return examine(
        source_check(config),
        TargetCheck(config.target, config.pipeline.name),
        fits=fits(config),
        broker=None if topics is None else topics.demand,
        large_rows=(lambda _: []) if topics is None else topics.large_rows,
        codec=codec.KIND,
    )
