"""The part of applying that deals with refused rows: what is held waits, what is refused is found and queued, and the rest is written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Container, Mapping, Set

from cdc import codec
from cdc.errors import RowRefused
from cdc.runtime import clock
from cdc.transport.contract import Reader
from sinks.contract import TableBatch
from sinks.counters import Did
from sinks.cuts import CutAssembler
from sinks.fold import Fold
from sinks.halves import Halves
from sinks.plans import Plans
from sinks.postgres.quarantine import Schemas
from sinks.postgres.target import PostgresTarget
from sinks.quarantine import HeldKeys, Records, copied_again, freed, queued


class Careful(ABC):
    """Base of `Apply`: the methods that write a batch row by row after a refusal."""

    reader: Reader
    target: PostgresTarget
    held_keys: HeldKeys
    cuts: CutAssembler
    _did: Did
    _releases: int
    _plans: Plans

    def __init__(self) -> None:
        self._halves = Halves()
        self._in_pieces = False
        """Whether what is written now is a piece of something, and more may come before the commit."""

    @abstractmethod
    def _plan(self, frame: bytes) -> codec.ValuePlan:
        """How values of this frame are read and written."""

    def _see_released(self, releases: int) -> None:
        """Another process replays or discards keys under the same lock: what it freed is no longer held."""
        if self.held_keys and releases != self._releases:
            self.held_keys.replace(self.target.quarantine(lambda waiting: waiting.held()))
        self._releases = releases

    def _write_into(self, shadow: str, frame: bytes, records: Records, care: int) -> None:
        plan = self._plan(frame)
        name = (plan.db, plan.table)
        if shadow and self.held_keys.held(name):  # what the first table has just refused waits
            records = freed(plan, records, self.held_keys.held(name))
        fold = Fold(plan)
        fold.add(records.keys, records.values, records.opened)
        folded = fold.take()
        folded.shadow = shadow
        if care:
            self._write_bisected(frame, records, folded)
        else:
            self.target.write(folded, locate=not self.held_keys.limits.keys)
            self._did.written[name] += len(folded)
        if self._in_pieces:
            self._halves.wrote(plan, records)

    def _write_bisected(self, frame: bytes, records: Records, folded: TableBatch) -> None:
        name = (folded.db, folded.table)
        refused = {unit.identity: unit.error for unit in self.target.write_bisected(folded, self.held_keys.room(len(folded))) if unit.error}
        self.held_keys.judge(name, refused, len(folded) - len(refused), clock.monotonic())
        if refused:
            self._queue(frame, records, refused.keys(), refused)
            self.target.foreseen[name].update(self._halves.tears(self._plan(frame), records, refused))

    def _set_aside(self, frame: bytes, records: Records) -> tuple[Records, Set[bytes]]:
        """Queue what happens to held keys; the rest, and the keys of which a copy has brought a row in place of all that waited."""
        plan = self._plan(frame)
        name = (plan.db, plan.table)
        known = self.target.foreseen[name]
        if foreseen := self._halves.wait(plan, records, known):
            foreseen = {identity: error for identity, error in foreseen.items() if identity not in self.held_keys.held(name)}
            self.held_keys.judge(name, foreseen, 0, clock.monotonic())
            known.update(self._halves.tears(plan, records, foreseen, known))
        if not self.held_keys.held(name):
            return records, frozenset()
        if again := copied_again(plan, records, self.held_keys.held(name)) - self._halves.waiting[name]:
            self.target.quarantine(lambda q: q.drop(name, again))
            self.held_keys.release(name, again)
        self._queue(frame, records, self.held_keys.held(name), foreseen)
        return freed(plan, records, self.held_keys.held(name)), again

    def _queue(self, frame: bytes, records: Records, held: Container[bytes], refused: Mapping[bytes, RowRefused]) -> None:
        """Queue the changes of held keys; `refused`: those that are held from here on, and why."""
        plan = self._plan(frame)
        name = (plan.db, plan.table)
        waiting = queued(plan, records, held, refused)
        if waiting:
            key, value = self._plans.ids(frame)
            schemas = Schemas(value, None if key is None else self.reader.schema(key), self.reader.schema(value))
            self.target.quarantine(lambda q: q.add(name, schemas, waiting, self.cuts.at.position))
            self._did.queued[name] += len(waiting)
        self._did.news += [(name, identity, error) for identity, error in refused.items()]

    def _begin_anew(self) -> None:
        """The open transaction is committed, and what was foreseen of it has come."""
        for name, keys in self._halves.waiting.items():
            for key in keys:
                self.target.foreseen[name].pop(key, None)
        self._halves = Halves()
