"""What every start asks before it writes anything: the source, the target, the broker, and whose topics these are.

Refused from here is exit code 2: nothing was written. Once a process is past it, `supervise` turns a refusal into a
halt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cdc.checks.source import Examined, SourceCheck
from cdc.checks.target import TargetCheck
from cdc.checks.topics import TopicsCheck
from cdc.config.load import TargetConfig, TransportConfig
from cdc.errors import CdcError, Halt, Refused
from cdc.runtime import logs
from cdc.state import resets
from cdc.state.shards import shards_differ
from cdc.state.store import StateStore

Fits = Callable[[Examined | None], None]
"""What the source is in, None where it is not asked; raises when a table that the target has cannot take the rows."""


@dataclass(frozen=True, slots=True)
class StartCheck:
    """What a start asks, and whom."""

    source: SourceCheck | None
    """None where the log is not read."""
    target: TargetCheck
    topics: TopicsCheck | None
    """None where none are used."""
    fits: Fits
    writes: bool
    """Whether the target is written; else it may be away."""

    def demand(self) -> None:
        """Refuse what would fail later."""
        try:
            self._demand()
        except Halt as error:
            raise Refused(error.code, error.place, error.rule, error.hint or "cdc doctor says more") from None

    def _demand(self) -> None:
        self._demand_no_reset()
        if self.topics is not None:
            self.topics.reach()
        found = None
        if self.source is not None:
            found = self.source.demand(restart=self._has_begun())
            if self.topics is not None:
                self.topics.demand_prefix(found.tables)
                for risk in self.topics.large_rows(found):
                    logs.logger("start").warning(risk.code, place=risk.place, rule=risk.rule, hint=risk.hint_sql)
        if self.writes:
            self.target.demand(found.tables if found is not None else ())
        self.fits(found)

    def _demand_no_reset(self) -> None:
        """Refuse to start within a reset; a target that cannot be asked is refused by what needs it."""
        try:
            state = StateStore(self.target.target, self.target.pipeline)
        except CdcError:
            return
        with state:
            resets.demand_none(state)

    def _has_begun(self) -> bool:
        """Whether the topics, or the target without topics, say where to go on.

        The first epoch begins where the target's copy does.
        """
        if self.topics is not None and self.topics.has_begun():
            return True
        with StateStore(self.target.target, self.target.pipeline) as state:
            state.check()
            return self.topics is None and state.read().progress is not None


def demand_kafka(transport: TransportConfig, command: str) -> None:
    """Refuse a command that is one half of a pipeline over Kafka where there is none."""
    if transport.kind != "kafka":
        raise Refused(
            "transport",
            "transport.kind",
            f'cdc {command} is one half of a pipeline over "kafka"',
            'use cdc run, or set kind = "kafka"',
        )


def demand_one_process(shards: int) -> None:
    """Refuse to be capture and one of several members in one process."""
    if shards:
        raise Refused(
            "transport",
            "apply.shards",
            "is for cdc apply, of which several share the partitions",
            "start cdc capture and cdc apply",
        )


def demand_shards(shards: int, target: TargetConfig, pipeline: str) -> None:
    """Refuse another number of shards than that to which the partitions are dealt out:
    each number's members would end the other's."""
    if not shards:
        return
    with StateStore(target, pipeline) as state:
        found = abs(state.mode()[1]) if state.check() else 0
    if found not in (0, shards):
        raise shards_differ(pipeline, found)
