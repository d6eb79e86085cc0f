"""Judges each commit of the target by what the source held at the position that is stored with it."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from cdc.model.names import control_topic
from cdc.model.record import Partition
from cdc.protocol.applied import Progress
from cdc.protocol.control import Base, Cut, from_document
from cdc.protocol.ledger import Ledger
from cdc.protocol.table_states import TableState
from cdc.state.shards import shard_of
from sinks.table_states import _UNBEGUN, _UNENDED
from tests.simulation.broker import Held, Place
from tests.simulation.source import DB, SimTable, number_of
from tests.simulation.target import Content, Tuple
from tests.simulation.world import PREFIX, World

if TYPE_CHECKING:
    from cdc.protocol.control import Entry


WITHOUT_A_PERSON = (_UNBEGUN, _UNENDED)
"""What a sink says where it and capture have come to differ: the pipeline has to see to it by itself that they never do."""


class Violation(Exception):
    """A promise is broken."""


class Numbers:
    """Which numbers and offsets the control topic's records add up to: a count beside the product's own, for one reader of them."""

    def __init__(self, entries: list[tuple[int, Entry]]) -> None:
        self._entries = entries
        self._counted = self._newest = 0
        self._ledger = Ledger()
        self.numbers: dict[Partition, tuple[int, int]] = {}
        """(next offset, number) of each partition."""

    def forget(self) -> None:
        """Records are gone that were counted: begin again."""
        self._counted, self._newest, self._ledger, self.numbers = 0, 0, Ledger(), {}

    def upto(self, end: int) -> dict[Partition, tuple[int, int]]:
        """What is to be stored by whoever applied all control records below an offset."""
        if self._counted and self._entries[self._counted - 1][0] >= end:
            self.forget()
        while self._counted < len(self._entries) and self._entries[self._counted][0] < end:
            self._count(*self._entries[self._counted])
            self._counted += 1
        return dict(self.numbers)

    def goes_back(self) -> bool:
        """Whether a later base makes void what lies below it: a sink may know of that already, or not yet."""
        return any(isinstance(entry, Base) and entry.cut_no < self._newest for _, entry in self._entries[self._counted :])

    def closing(self) -> int | None:
        """The offset of the cut that comes next, if a copy ends with it."""
        later = (one for one in self._entries[self._counted :] if isinstance(one[1], Cut) and one[1].epoch == self._ledger.epoch)
        offset, cut = next(later, (0, None))
        return offset if isinstance(cut, Cut) and cut.ended else None

    def _count(self, offset: int, entry: Entry) -> None:
        if not self._ledger.add(offset, entry):
            return
        if isinstance(entry, Base):
            self.numbers = {p: (end, entry.number(p)) for p, end in entry.ends.items()}
            self._newest = entry.cut_no
        elif isinstance(entry, Cut):
            self._newest = entry.cut_no
            self.numbers.update({p: (named.offset + 1, named.seq) for p, named in entry.partitions.items() if p in self.numbers})


class Oracle:
    """Looks at every commit."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._entries: list[tuple[int, Entry]] = []
        """The control topic's records, those that compaction has taken too."""
        self._numbers: dict[int | None, Numbers] = {}
        self.commits = 0
        self.foreign: dict[str, tuple[Tuple, ...]] = {}
        """What somebody else keeps in the place of a table."""
        self.failed: Violation | None = None
        world.brokers.appended = self._appended
        world.postgres.committed = self._committed

    def _appended(self, place: Place, held: Held) -> None:
        if place[0] == control_topic(PREFIX):
            while self._entries and self._entries[-1][0] >= held.offset:  # what stood there before is lost
                self._entries.pop()
                for numbers in self._numbers.values():
                    numbers.forget()
            self._entries.append((held.offset, from_document(json.loads(held.value or b""), held.offset)))

    def _committed(self, content: Content) -> None:
        self.commits += 1
        try:
            self.judge(content)
        except Violation as violation:
            if self.failed is None:
                self.failed = violation
                self._world.say(f"VIOLATION {violation}")

    def judge(self, content: Content) -> None:
        """Raise where the content breaks a promise."""
        progress = content.progress
        if progress is None:
            return
        for name, state in content.tables.items():
            if state.reason in WITHOUT_A_PERSON:
                raise Violation(f"{name[1]} waits for a person although nobody did anything to it: {state.reason}")
            if state.state in (TableState.CONSISTENT, TableState.QUARANTINED):
                for place in self._places(content, name[1]):
                    number = number_of(place.position)
                    if (table := self._world.source.table(name[1], number)) is not None:
                        self._compare(content, table, number, place.cut_no)
        for foreign, rows in self.foreign.items():
            if content.stocks[f"{DB}.{foreign}"].content() != rows:
                raise Violation(f"rows that are not ours were touched: {foreign}")
        if self._world.transport == "kafka":
            self._count(content)
        claims = {shard.place.source_ts_us for shard in content.shards.values()} or {progress.source_ts_us}
        if any(claim > self._world.source.latest_us() + 2_000_000 for claim in claims):
            raise Violation("the target claims to hold the future")

    def _places(self, content: Content, table: str) -> list[Progress]:
        """The place as of which a table can be judged: that of the sinks that write it, where they stand together."""
        if not content.shards:
            return [content.progress] if content.progress is not None else []
        topic = f"{PREFIX}.{DB}.{table}"
        places = [content.shards[shard_of((topic, p), self._world.shards)].place for p in range(self._world.partitions)]
        return places[:1] if len({place.position for place in places}) == 1 else []

    def _compare(self, content: Content, table: SimTable, number: int, cut_no: int) -> None:
        name = table.table.name
        held = {_key(one.identity) for of, one in content.waiting if of == (DB, name)}
        keyed = bool(table.table.key)
        wanted: Counter[Tuple] = Counter(row for row in table.at(number) if not (keyed and row[0] in held))
        found = Counter(row for row in content.stocks[f"{DB}.{name}"].content() if not (keyed and row[0] in held))
        never = [row for row in content.stocks[f"{DB}.{name}"].content() if keyed and row[0] in held and row not in table.ever]
        if never:
            raise Violation(f"{name} as of {number}: a key that waits shows what no commit of the source had")
        if wanted != found:
            missing, extra = wanted - found, found - wanted
            raise Violation(f"{name} as of {number} (cut {cut_no}): missing {dict(missing)}, extra {dict(extra)}")

    def _count(self, content: Content) -> None:
        assert content.progress is not None
        if not content.shards:
            self._count_in(content, None, content.progress.control_next)
        for number, shard in content.shards.items():
            self._count_in(content, number, shard.place.control_next)

    def _count_in(self, content: Content, shard: int | None, end: int) -> None:
        """Of one of several sinks the rows of a cut with which a copy ends may be in before the cut is passed."""
        assert content.progress is not None
        numbers = self._numbers.setdefault(shard, Numbers(self._entries))
        stored, wanted = content.progress.partitions, numbers.upto(end)
        wrong = {
            p: (at, stored.get(p)) for p, at in wanted.items() if at[1] and self._is_of(p, shard) and stored.get(p, (0, 0))[1] != at[1]
        }
        if wrong and shard is not None and (closing := numbers.closing()) is not None:
            then = numbers.upto(closing + 1)
            wrong = {p: at for p, at in wrong.items() if stored.get(p, (0, 0))[1] != then.get(p, (0, 0))[1]}
        if wrong and not numbers.goes_back():
            raise Violation(f"stored numbers are not those applied (wanted, stored): {wrong}")

    def _is_of(self, partition: Partition, shard: int | None) -> bool:
        return shard is None or shard_of(partition, self._world.shards) == shard


def _key(identity: bytes) -> int:
    """The number that an Avro key holds."""
    value = shift = 0
    for byte in identity:
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            break
    return (value >> 1) ^ -(value & 1)
