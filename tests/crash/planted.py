"""The model's wrong variants as changes of the product's text, and where each has to show.

A text that is not in its file exactly once is an error, so that no mutant quietly becomes the product itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from tests.crash.arena import TARGET
from tests.crash.group import MEMBER
from tests.crash.lane import Case
from tests.crash.losses import LOG
from tests.crash.plan import plan
from tests.crash.works import GROUP
from tests.crash.zombies import ZOMBIE
from tests.protocol_model.wrong import Wrong


@dataclass(frozen=True)
class Change:
    """One text of one file."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """How the product would look if it were careless in this way, and where that shows."""

    changes: tuple[Change, ...]
    cases: tuple[Case, ...]


def _at(flavour: str, transport: str, *points: str, seeds: int = 2) -> Iterator[Case]:
    """Cases that die at these points."""
    told = tuple((name, int(ordinal or 1)) for name, _, ordinal in (point.partition(":") for point in points))
    for seed in range(1, seeds + 1):
        yield Case(seed, flavour, transport, told)


def _kills(victim: str, flavour: str, transport: str) -> Iterator[Case]:
    yield Case(1, flavour, transport, victim=victim, times=10)


def _again(victim: str, seeds: int = 8, chosen: str = "") -> Iterator[Case]:
    for seed in range(1, seeds + 1):
        yield Case(seed, "mariadb", "kafka", victim=victim, times=5, chosen=chosen)


def _storms(kind: str, victim: str, transport: str, count: int = 4) -> Iterator[Case]:
    """The first seeds whose plan has such a fault."""
    for seed in range(1, 10_000):
        if any(fault.kind == kind and fault.victim == victim for fault in plan(seed, transport).faults):
            yield Case(seed, "mariadb", transport)
            count -= 1
        if not count:
            return


def _storms_with_xa(count: int = 4) -> Iterator[Case]:
    """The first seeds in which capture is hurt while writers prepare transactions; not a point, which such a mutant never comes by."""
    plans = ((seed, plan(seed, "kafka")) for seed in range(1, 10_000))
    found = (seed for seed, one in plans if one.habits.xa and any(fault.victim == "capture" for fault in one.faults))
    yield from (Case(seed, "mariadb", "kafka") for seed in islice(found, count))


def _mutant(*changes: tuple[str, str, str], cases: tuple[Iterator[Case], ...]) -> Mutant:
    return Mutant(tuple(Change(*change) for change in changes), tuple(case for some in cases for case in some))


_CAPTURE, _APPLY, _CUTS = "cdc/capture/capture.py", "sinks/apply.py", "sinks/cuts.py"
_APP, _LEDGER = "cdc/commands/run.py", "cdc/protocol/ledger.py"
_TRANSACTION, _OWNER, _FENCE = "sinks/postgres/transaction.py", "sinks/postgres/owner.py", "sinks/postgres/fence.py"
_UNENDED = (_FENCE, "    end_holders(connection, pipeline)\n", "")
_UNCHECKED = (_FENCE, "    if result.ntuples != 1:\n        raise fenced(pipeline)\n", "")
_UNREFUSED = (_CUTS, "        elif not self.at.position.covers(base.position):\n", "        elif False:\n")
_NOW = (
    "cdc/capture/run.py",
    "    return copied\n\n\ndef _copied",
    "    now = catalog.log.visible_position()\n"
    "    return Restart(now, 0, followed=copied.followed, clock_offset_us=copied.clock_offset_us)\n\n\ndef _copied",
)
_REMEMBERED = (
    (
        _TRANSACTION,
        "        stored = self.state.read()\n",
        "        stored = self.owner._remembered = getattr(self.owner, '_remembered', None) or self.state.read()\n",
    ),
    (
        _TRANSACTION,
        "        session.committed(progress)\n        return changed\n",
        "        session.committed(progress)\n        if progress is not None:\n"
        "            from dataclasses import replace as r\n"
        "            kept = session.owner._remembered\n"
        "            both = {**(dict(kept.progress.partitions) if kept.progress else {}), **progress.partitions}\n"
        "            all_ = {**kept.tables, **{(t.db, t.table): t for t in tables}}\n"
        "            session.owner._remembered = r(kept, progress=r(progress, partitions=both), tables=all_)\n"
        "        return changed\n",
    ),
)
_LOG = "cdc/binlog/reader.py"
_NO_FLOOR = (
    (
        _LOG,
        "        self._again = None if start.floor is None else xa.Reread(start, start.floor)\n",
        "        start = replace(start, floor=None)\n        self._again = None\n",
    ),
    (_LOG, "from __future__ import annotations\n", "from __future__ import annotations\n\nfrom dataclasses import replace\n"),
)
_PASSED = (
    _LOG,
    '        if decided is None and said.verb == b"COMMIT" and not',
    '        if False and decided is None and said.verb == b"COMMIT" and not',
)
_SHARD, _SHARDS, _SCOPE = "sinks/postgres/shard_target.py", "sinks/shard_apply.py", "sinks/scope.py"
_BARRIER_UNMET = (
    (_SCOPE, "        return isinstance(entry, Base | Copy) or (", "        return isinstance(entry, Base) or ("),
    (_SHARD, "        if self.leads:\n            say_tables(say, tables)\n", "        say_tables(say, tables)\n"),
)
_ONLY_THE_FIRST = (
    _APPLY,
    "        self._role.goes_on()\n",
    "        self._role.goes_on()\n"
    "        if type(step).__name__ == 'BeginCopy' and hasattr(self.target, 'share'):\n"
    "            session = self.target.session\n"
    "            session.wire.flush()\n"
    "            beyond = session.connection.execute('SELECT count(*) FROM cdc.shard WHERE pipeline = %s AND control_next >= %s',\n"
    "                                                [session.pipeline, self.cuts.at.control_next]).fetchone()\n"
    "            if beyond != (0,):\n"
    "                if step.copy.exact:\n"
    "                    self.cuts.floors[self.reader.topic(step.copy.db, step.copy.table)] = step.copy.position\n"
    "                return True\n",
)

MUTANTS: Mapping[Wrong, Mutant] = {
    Wrong.POSITION_BEFORE_ACK: _mutant(
        (_CAPTURE, '        self._send()\n        crash.point("capture.acknowledging")\n', '        crash.point("capture.acknowledging")\n'),
        (_CAPTURE, "        self._append(entry, wait=False)\n", "        self._append(entry, wait=False)\n        self._send()\n"),
        cases=(_at("mariadb", "kafka", "capture.sending:3", "capture.sending:5"), _at("mysql", "direct", "capture.sending:3")),
    ),
    Wrong.CUT_BEFORE_ACK: _mutant(
        ("cdc/transport/kafka/writer.py", "        while self._producer.flush(1.0):\n", "        while self._producer.flush(0) < 0:\n"),
        cases=(_at("mariadb", "kafka", "capture.acknowledged:3"), _storms("slow", "broker", "kafka")),
    ),
    Wrong.RECORDS_WITHOUT_EPOCH: _mutant(
        (_CUTS, "            if row.epoch != epoch or row.seq <= seq:\n", "            if row.seq <= seq:\n"),
        (_CUTS, "    return {row.epoch for row in opened} <= {epoch} and [row.seq", "    return [row.seq"),
        (_CUTS, "            self.at.offsets[partition], self.at.numbers[partition] = end, base.number(partition)\n",
         "            self.at.offsets[partition] = end\n"),
        cases=(_storms("zombie", "capture", "kafka", 12),),
    ),
    Wrong.NEWEST_CUT_VOID_OR_NOT: _mutant(
        (_LEDGER, "    counting = [(at, entry) for at, (offset, entry) in enumerate(known) if ledger.add(offset, entry)]\n",
         "    counting = [(at, entry) for at, (offset, entry) in enumerate(known) if ledger.add(offset, entry) or True]\n"),
        (_LEDGER, "        elif isinstance(entry, Cut) and not entry.partial and not ledger.went_below(entry):\n",
         "        elif isinstance(entry, Cut) and not entry.partial:\n"),
        cases=(_again(ZOMBIE),),
    ),
    Wrong.START_AT_NOW: _mutant(_NOW, cases=(_at("mariadb", "kafka", "load.stored", "capture.started"),)),
    Wrong.START_AT_NOW_UNREFUSED: _mutant(_NOW, _UNREFUSED, cases=(_at("mariadb", "kafka", "load.stored", "capture.started"),)),
    Wrong.PARTIAL_COMMITTED: _mutant(
        (_APPLY, "        if batch.partial:\n            self._opened = opened\n", "        if False:\n            self._opened = opened\n"),
        cases=(_at("mariadb", "kafka", "capture.partial_cut"),),
    ),
    Wrong.PARTIAL_RESTART: _mutant(
        (_LEDGER, "        elif isinstance(entry, Cut) and not entry.partial and not ledger", "        elif isinstance(entry, Cut) and not ledger"),
        cases=(_at("mariadb", "kafka", "capture.partial_cut", "capture.partial_cut"), _at("mariadb", "kafka", "apply.rewinding")),
    ),
    Wrong.PIECES_KEPT: _mutant(
        (_APPLY, '        self.target.rollback()\n        crash.point("apply.rewinding")\n        raise Rewound("rewound", f"pipeline {self.target.pipeline}", rule, "nothing is lost")\n',
         '        crash.point("apply.rewinding")\n'),
        cases=(_at("mariadb", "kafka", "capture.partial_cut", "capture.partial_cut", "capture.partial_cut", seeds=4),),
    ),
    Wrong.NO_VOID_BY_BASE: _mutant(
        (_LEDGER, "        return any(base.epoch > entry.epoch and base.cut_no < entry.cut_no for base in self._bases)\n", "        return False\n"),
        cases=(_at("mariadb", "kafka", "capture.partial_cut", "capture.partial_cut"), _at("mariadb", "kafka", "apply.rewinding")),
    ),
    Wrong.VOID_BY_POSITION: _mutant(
        (_LEDGER, "base.epoch > entry.epoch and base.cut_no < entry.cut_no for", "base.epoch > entry.epoch and not base.position.covers(entry.position) for"),
        cases=(_again(LOG),),
    ),
    Wrong.SKIP_FORGOTTEN: _mutant(
        (_CUTS, "        self._skip_until = self.at.position\n        \"\"\"What", "        self._skip_until: Position | None = None\n        \"\"\"What"),
        (_CUTS, "        self._since, self._unproven = self.at.position, set(self.at.offsets)\n",
         "        self._since: Position | None = None\n        self._unproven: set[Partition] = set()\n"),
        cases=(_again(LOG),),
    ),
    Wrong.SKIP_BY_CUT: _mutant(
        (_CUTS, "        messages = self._taken(partition, named.offset + 1)\n", "        messages, self._passing = self._taken(partition, named.offset + 1), cut\n"),
        (_CUTS, "known = self._since is not None and self._since.contains(text)\n", "known = self._since is not None and self._since.covers(self._passing.position)\n"),
        cases=(_again(LOG),),
    ),
    Wrong.ENDS_UNCHECKED: _mutant((_CAPTURE, "            if offset < self._ends[partition] or (", "            if ("), cases=(_again(LOG),)),
    Wrong.LOSS_UNNOTICED: _mutant(
        (_CAPTURE, " or (partition in self._all and offset <= self._all[partition].offset):", ":"), cases=(_again(LOG),)
    ),
    Wrong.NO_SKIP: _mutant(
        (_CUTS, "            known = self._since is not None and self._since.contains(text)\n"
         "            known = known or (topic in self.floors and self.floors[topic].contains(text))\n", "            known = False\n"),
        cases=(_at("mariadb", "kafka", "load.keyless_copied", seeds=4), _at("mysql", "direct", "load.chunk", seeds=4)),
    ),
    Wrong.EPOCH_FORGOTTEN: _mutant(
        (_CUTS, "        self._ledger = Ledger(self.at.epoch)\n", "        self._ledger = Ledger()\n"),
        cases=(_storms("zombie", "capture", "kafka", 8),),
    ),
    Wrong.NO_FENCE: _mutant(_UNENDED, _UNCHECKED, cases=(_storms("zombie", "apply", "kafka", 4), _storms("twice", "apply", "kafka", 4))),
    Wrong.FENCE_WITHOUT_LOCK: _mutant(
        _UNENDED, (_FENCE, " AND fence = $2::int8 FOR UPDATE", " AND fence = $2::int8"),
        cases=(_again(ZOMBIE),),
    ),
    Wrong.ROWS_FIRST: _mutant(
        (_TRANSACTION, '        self.within("cdc.progress", work)\n        crash.point("target.stored")\n',
         '        self._wire.enqueue(COMMIT)\n        self._wire.flush()\n        self._wire.enqueue(BEGIN)\n'
         '        crash.point("target.stored")\n        self.within("cdc.progress", work)\n'),
        cases=(_at("mariadb", "kafka", "target.stored:2", "target.stored:3"), _at("mysql", "direct", "target.stored:2")),
    ),
    Wrong.POSITIONS_FIRST: _mutant(
        (_APPLY, "        self._write(now, batch)\n",
         "        if not batch.partial and care == STRAIGHT:\n            self._commit(opened)\n            opened = self._begin()\n"
         "            now = Try(*opened, care, batch.partial, self.cuts.at.position)\n"
         "        self._write(now, batch)\n"),
        cases=(_at("mariadb", "kafka", "apply.written:2", "apply.written:3"), _at("mysql", "direct", "apply.written:2")),
    ),
    Wrong.POSITIONS_IN_MEMORY: _mutant(
        (_OWNER, "        if progress is not None:\n            say_progress", "        if progress is not None and progress.cut_no <= 3:\n            say_progress"),
        cases=(_at("mariadb", "kafka", "apply.committed:3"),),
    ),
    Wrong.BLIND_REPLAY: _mutant(*_REMEMBERED, cases=(_kills(TARGET, "mariadb", "kafka"), _kills(TARGET, "mysql", "kafka"))),
    Wrong.DIRECT_COMMIT_REPEATED: _mutant(*_REMEMBERED, cases=(_kills(TARGET, "mariadb", "direct"), _kills(TARGET, "mysql", "direct"))),
    Wrong.XA_NO_FLOOR: _mutant(*_NO_FLOOR, cases=(_at("mariadb", "kafka", "xa.held", "xa.decided:2", "xa.held:3", seeds=4),)),
    Wrong.XA_UNKNOWN_PASSED: _mutant(
        *_NO_FLOOR, _PASSED, cases=(_storms_with_xa(8),)
    ),
    Wrong.XA_AT_PREPARE: _mutant(
        (_LOG, "        if not one_phase:\n            self._transaction()\n", "        if False:\n            self._transaction()\n"), _PASSED,
        cases=(_storms_with_xa(),),
    ),
    Wrong.XA_P_WHILE_PREPARED: _mutant(
        ("cdc/mysql/log_positions.py", "        waiting = self.prepared() | self.prepared()  #", "        waiting = frozenset[Xid]()  #"), _PASSED,
        cases=(_at("mariadb", "direct", "xa.decided", seeds=4), _at("mysql", "direct", "xa.decided", seeds=4)),
    ),
    Wrong.SCALED_NO_FENCE: _mutant(
        (_SHARD, "    end_holders(connection, place)\n", ""),
        (_SHARD, "        if result.ntuples != 1:\n            raise taken(pipeline, self.share.shard)\n"
         "        if int(result.get_value(0, 2) or b\"-1\") != self._stands:\n            raise Moved\n", ""),
        cases=(_again(ZOMBIE, chosen=GROUP),),
    ),
    Wrong.SCALED_SHARED_POSITION: _mutant(
        (_SHARDS, "        return Apply(self._reader, self._target, stored, self._memory, self._policies, self)\n",
         "        from cdc.model.position import Position\n"
         "        sink = Apply(self._reader, self._target, stored, self._memory, self._policies, self)\n"
         "        cuts, session = sink.cuts, self._target.session\n"
         "        for (place,) in session.connection.execute('SELECT position FROM cdc.shard WHERE pipeline = %s', [session.pipeline]):\n"
         "            position = Position.from_json(place)\n"
         "            if cuts._skip_until is not None and position.covers(cuts._skip_until):\n                cuts._skip_until = cuts._since = position\n"
         "        return sink\n"),
        (_CUTS, "            self.at.position = cut.position\n            self._skip_until = None\n",
         "            self.at.position = cut.position\n"
         "            if self._skip_until is not None and cut.position.covers(self._skip_until):\n                self._skip_until = None\n"),
        cases=(_again(MEMBER, chosen=GROUP),),
    ),
    Wrong.SCALED_BARRIER_ALONE: _mutant(*_BARRIER_UNMET, _ONLY_THE_FIRST, cases=(_again(MEMBER, chosen=GROUP),)),
    Wrong.SCALED_BARRIER_EACH: _mutant(*_BARRIER_UNMET, cases=(_again(MEMBER, chosen=GROUP),)),
    Wrong.QUARANTINE_PASSED: _mutant(
        ("sinks/careful.py", "        if not self.held_keys.held(name):\n            return records, frozenset()\n", "        if True:\n            return records, frozenset()\n"),
        cases=(_at("mariadb", "direct", "quarantine.queued:3", "quarantine.queued:2", seeds=3),),
    ),
    Wrong.QUARANTINE_FORGOTTEN: _mutant(
        (_APPLY, "        self.held_keys.replace(self.target.held())\n        self.held_keys.mark()\n", "        self.held_keys.mark()\n"),
        cases=(_at("mariadb", "direct", "quarantine.queued:3", "quarantine.queued:2", seeds=3),),
    ),
    Wrong.QUARANTINE_STALE: _mutant(
        (_APPLY, "        if self.held_keys and releases != self._releases:\n", "        if False:\n"),
        cases=(_at("mariadb", "direct", "quarantine.freed", "quarantine.released", "quarantine.replayed", seeds=3),),
    ),
    Wrong.FLOOR_BY_CUT: _mutant(
        (_CUTS, "self.floors[topic].contains(text))", "self.floors[topic].covers(self._cutting))"),
        (_CUTS, "        messages = self._taken(partition, named.offset + 1)\n",
         "        messages = self._taken(partition, named.offset + 1)\n        self._cutting = cut.position\n"),
        cases=(_at("mariadb", "kafka", "load.keyless_copied", seeds=4), _at("mysql", "direct", "load.keyless_copied", seeds=4)),
    ),
    Wrong.WHOLE_BEFORE_Q: _mutant(
        (_CAPTURE, "        self._partial_until = until\n", "        self._partial_until = None\n"),
        cases=(_at("mariadb", "kafka", "capture.copying", seeds=4), _at("mysql", "direct", "capture.copying", seeds=4)),
    ),
    Wrong.KEYLESS_NO_FLOOR: _mutant(
        (_APPLY, "        if copy.exact:\n            self.cuts.floors[self.reader.topic(copy.db, copy.table)] = copy.position\n", ""),
        cases=(_at("mariadb", "kafka", "capture.copying", seeds=4), _at("mysql", "direct", "capture.copying", seeds=4)),
    ),
    Wrong.DIRECT_READS_ON: _mutant(
        (_APP, "    previous = capture_run.stored_restart(stored)\n", "    previous = capture_run.stored_restart(stored)\n"
         "    if metrics.captured and previous:\n        from dataclasses import replace\n"
         "        previous = replace(previous, position=metrics.captured[-1].position)\n"), _UNREFUSED,
        cases=(_storms("session", TARGET, "direct"), _kills(TARGET, "mariadb", "direct")),
    ),
    Wrong.DIRECT_COMMIT_MID_TRANSACTION: _mutant(
        (_APPLY, "        if batch.partial:\n            self._opened = opened\n", "        if False:\n            self._opened = opened\n"),
        cases=(_at("mariadb", "direct", "capture.partial_cut", "apply.piece_written"),),
    ),
    Wrong.DIRECT_NO_FENCE: _mutant(_UNENDED, _UNCHECKED, cases=(_storms("zombie", "apply", "direct", 4), _storms("twice", "apply", "direct", 4))),
    Wrong.DIRECT_START_AT_NOW: _mutant(
        _NOW, _UNREFUSED, (_APP, "    previous = capture_run.stored_restart(stored)\n", "    previous = None\n"),
        cases=(_at("mariadb", "direct", "capture.cut:2"),),
    ),
}  # fmt: skip
"""By the model's variant."""

_BARRIERS = "barriers and copies while streaming came after this list"
_LOSS = "needs a loss at one instant, or of the control topic: tests/protocol/test_control.py and tests/e2e/test_lost_records.py take those away"
_INSTANT = "the window is an instant between the source's log and its engine: tests/mysql/test_catalog.py puts a commit into it"
_HARMLESS = "harmless in the model itself: that bases are entered together guards the states of tables, which it does not have"
_SECOND_LOAD = "the lane starts no second loader beside a first"
_FIRST_COPY = "every table is empty before its only copy"
_ONE_XA = "one XA transaction of the lane is prepared at a time"
_DOMAINS = "the lane's source writes one domain, on one server"
_BELT = "another rule makes it harmless (docs/decisions/001-protocol.md: belts beside braces)"
_FENCED = "planted and never seen: who opens the target raises the fence, which ends the load"
_STATEMENTS = "a race between two statements, and the lane's replays are few"
_WIRE = "the queue is written on the batch's own connection: a transaction of its own would need another one"
_CONFLICT = "the lane provokes no deadlock on the target: tests/sinks/postgres has it"
NOT_PLANTED: Mapping[Wrong, str] = {
    **dict.fromkeys((Wrong.BARRIER_WITHOUT_CUT, Wrong.BARRIER_TWICE, Wrong.NO_BARRIER, Wrong.CHUNK_OUTSIDE_CUT, Wrong.MAKE_WHOLE_BARRIER,
                     Wrong.CHUNK_SHAPE_UNCHECKED, Wrong.COPY_GOES_ON, Wrong.SWAP_CHANGES_ONCE), _BARRIERS),
    **dict.fromkeys((Wrong.COVERED_BY_LAST_NUMBER, Wrong.MARK_UNCHECKED, Wrong.NO_WAIT_FOR_S, Wrong.NO_WAIT_FOR_CUTS), _LOSS),
    **dict.fromkeys((Wrong.CARELESS_P, Wrong.Q_FROM_EXECUTED, Wrong.INEXACT_KEYLESS), _INSTANT),
    **dict.fromkeys((Wrong.DOMAINS_KEPT, Wrong.DOMAINS_TAKEN, Wrong.DOMAINS_BY_NUMBER), _DOMAINS),
    **dict.fromkeys((Wrong.NEW_P_EACH_ATTEMPT, Wrong.NEW_P_UNSTORED, Wrong.NEW_P_UNREFUSED, Wrong.KEYLESS_NOT_EMPTIED,
                     Wrong.COPY_WITHOUT_EPOCH), _FIRST_COPY),
    **dict.fromkeys((Wrong.XA_FLOOR_OF_NEWEST, Wrong.XA_FLOOR_MOVES_EARLY), _ONE_XA),
    Wrong.SCALED_BASE_ALONE: _HARMLESS,
    Wrong.LOADER_WITHOUT_FENCE: _SECOND_LOAD,
    Wrong.CEILING_KEPT: _BELT,
    Wrong.APPLY_WHILE_LOADING: _FENCED,
    Wrong.QUARANTINE_UNLOCKED: _STATEMENTS,
    Wrong.QUARANTINE_APART: _WIRE,
    Wrong.DIRECT_MEMORY_KEPT: _CONFLICT,
}  # fmt: skip
"""What is not planted, and why."""
