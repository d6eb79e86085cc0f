"""What every start asks before it writes anything: the source, the target, the broker, and whose topics these are.

Refused from here is exit code 2: nothing was written. Once a process is past it, `supervise` turns a refusal into a halt.
"""

from __future__ import annotations

from collections.abc import Callable

from cdc.checks.source import Examined, SourceCheck
from cdc.checks.target import TargetCheck
from cdc.checks.topics import TopicsCheck
from cdc.config.load import TargetConfig, TransportConfig
from cdc.errors import Halt, Refused
from cdc.state.shards import mode, shards_differ
from cdc.state.store import StateStore

Fits = Callable[[Examined | None], None]
"""What the source is in, None where it is not asked; raises when a table that the target has cannot take the rows."""


def demand(source: SourceCheck | None, target: TargetCheck, topics: TopicsCheck | None, fits: Fits, *, writes: bool) -> None:
    """Refuse what would fail later. `source` where the log is read, `topics` where they are used, `writes` where the target is written."""
    try:
        if topics is not None:
            topics.reach()
        found = None
        if source is not None:
            found = source.demand(restart=_has_begun(target, topics))
            if topics is not None:
                topics.demand_prefix(found.tables)
        if writes:
            target.demand(found.tables if found is not None else ())
        fits(found)
    except Halt as error:
        raise Refused(error.code, error.place, error.rule, error.hint or "cdc doctor says more") from None


def _has_begun(target: TargetCheck, topics: TopicsCheck | None) -> bool:
    """Whether the topics, or the target without topics, say where to go on; the first epoch begins where the target's copy does."""
    if topics is not None and topics.has_begun():
        return True
    with StateStore(target.target, target.pipeline) as state:
        state.check()
        return topics is None and state.read().progress is not None


def demand_kafka(transport: TransportConfig, command: str) -> None:
    """Refuse a command that is one half of a pipeline over Kafka where there is none."""
    if transport.kind != "kafka":
        raise Refused(
            "transport", "transport.kind", f'cdc {command} is one half of a pipeline over "kafka"', 'use cdc run, or set kind = "kafka"'
        )


def demand_one_process(shards: int) -> None:
    """Refuse to be capture and one of several members in one process."""
    if shards:
        raise Refused(
            "transport", "apply.shards", "is for cdc apply, of which several share the partitions", "start cdc capture and cdc apply"
        )


def demand_shards(shards: int, target: TargetConfig, pipeline: str) -> None:
    """Refuse another number of shards than that to which the partitions are dealt out: each number's members would end the other's."""
    if not shards:
        return
    with StateStore(target, pipeline) as state:
        found = abs(mode(state)[1]) if state.check() else 0
    if found not in (0, shards):
        raise shards_differ(pipeline, found)
