"""What a sink is among those of its pipeline: the only one, or (`sinks/shard_apply.py`) that of one shard,
which meets the others."""

from __future__ import annotations

from typing import Protocol

from cdc.model.table import TableName
from sinks.epochs import Epochs
from sinks.scope import WHOLE, Scope
from sinks.steps import At, Meet
from sinks.table_states import TableStates


class Role(Protocol):
    """Asked by a run of the sink where several sinks differ from one."""

    @property
    def scope(self) -> Scope:
        """Which cuts it assembles."""

    @property
    def settles(self) -> bool:
        """Whether its own position says that a table has passed its ceiling."""

    def queued(self, name: TableName) -> None:
        """In the open transaction, changes of a table were queued in quarantine."""

    def committed(self, tables: TableStates) -> None:
        """A whole cut is committed."""

    def goes_on(self) -> None:
        """A step is taken for which nobody is met."""

    def waits(self, offset: int) -> bool:
        """Wait before this control record; False: that is to be committed first."""

    def meet(self, meet: Meet, epochs: Epochs, at: At) -> bool:
        """Do what the meeting is for, if that is ours; whether to go on at once."""


class Alone:
    """The one sink of a pipeline."""

    scope, settles = WHOLE, True

    def queued(self, name: TableName) -> None:
        """The state of the table, which is stored with the commit, says it."""

    def committed(self, tables: TableStates) -> None:
        """Nobody else changes the states of tables."""

    def goes_on(self) -> None:
        """It never waits."""

    def waits(self, offset: int) -> bool:
        """It may go on."""
        return True

    def meet(self, meet: Meet, epochs: Epochs, at: At) -> bool:
        """There is nobody to be met: its scope names no meeting."""
        return True


ALONE: Role = Alone()
