"""Every short history of parents and children, in every division into batches: marks put each cascade where it was.

The marks are capture's own and the segments the sink's own; source and target are two dictionaries.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest

from cdc.capture.cascades import CascadeMarks
from cdc.model.foreign_key import Action, ForeignKey
from cdc.protocol.control import Cascade
from sinks.cascades import Segments
from sinks.cuts import UNREAD
from sinks.steps import TopicChanges

P, C = ("d", "p"), ("d", "c")
State = tuple[frozenset[int], frozenset[tuple[int, int | None]]]
Op = tuple[Any, ...]
PARENTS, CHILDREN = (1, 2), (7, 8)
OPS: list[Op] = [
    *(("insert", one) for one in PARENTS), *(("delete", one) for one in PARENTS), ("change", 1, 2), ("change", 2, 1),
    *(("put", one, of) for one in CHILDREN for of in (1, 2, None)), *(("drop", one) for one in CHILDREN), ("blind", 1),
]  # fmt: skip


class Source:
    """Parents and children with a key that cascades, what it logs, and what capture makes of that: a cut each."""

    def __init__(self, on_delete: Action, on_update: Action) -> None:
        key = ForeignKey("f", C, ("p",), P, ("id",), on_delete, on_update)
        self.key, self.parents, self.children = key, set[int](), dict[int, int | None]()
        self.logs: dict[str, list[tuple[int, int | None, bool]]] = {"p": [], "c": []}
        self.cuts: list[tuple[int, int, list[Cascade]]] = []
        self.marks = CascadeMarks([key])
        self.streams: dict[tuple[str, str], Any] = {name: self._stream(*name) for name in (P, C)}
        self.marks.follow(self.streams)

    @staticmethod
    def _stream(db: str, name: str) -> Any:
        table = SimpleNamespace(db=db, name=name, key=(0,), columns=(SimpleNamespace(name="id"),))
        return SimpleNamespace(table=table, followed=SimpleNamespace(topic=name), numbers=SimpleNamespace(seq=[0]))

    def say(self, topic: str, key: int, value: int | None, *, gone: bool = False) -> None:
        self.logs[topic].append((key, value, gone))
        self.streams["d", topic].numbers.seq[0] += 1

    def do(self, op: Op) -> None:
        """One transaction; what the server would refuse does nothing."""
        kind, one, *more = op
        if kind == "put" and (more[0] is None or more[0] in self.parents):
            self.children[one] = more[0]
            self.say("c", one, more[0])
        elif kind == "drop" and one in self.children:
            del self.children[one]
            self.say("c", one, None, gone=True)
        elif kind == "insert" and one not in self.parents:
            self.parents.add(one)
            self.say("p", one, None)
        elif kind in ("delete", "blind", "change") and one in self.parents and (kind != "change" or more[0] not in self.parents):
            self._leave(kind, one, more[0] if more else None)
        seqs = (self.streams[P].numbers.seq[0], self.streams[C].numbers.seq[0])
        self.cuts.append((*seqs, list(self.marks.said(full=False)[0])))

    def _leave(self, kind: str, old: int, new: int | None) -> None:
        stream, op = self.streams[P], "u" if kind == "change" else "d"
        event: Any = SimpleNamespace(table=stream.table, unchecked=kind == "blind", kind=op, columns=())
        before = list(stream.numbers.seq)
        self.parents.discard(old)
        self.say("p", old, None, gone=True)
        if new is not None:
            self.parents.add(new)
            self.say("p", new, None)
        if self.marks.acts(event):
            self.marks.mark(stream, op, before, f"t{len(self.cuts)}", moved=op == "u")
        if kind != "blind":
            act(self.children, self.key, op, old, new)

    def state(self) -> State:
        return frozenset(self.parents), frozenset(self.children.items())


def act(children: dict[int, int | None], key: ForeignKey, op: str, old: int, new: int | None) -> None:
    """What the engine does to children; the target does the same."""
    for child in [one for one, of in children.items() if of == old]:
        if key.action(op) == "cascade" and op == "d":
            del children[child]
        elif key.action(op):
            children[child] = new if key.action(op) == "cascade" else None


def applied(source: Source, ends: Sequence[int]) -> Iterator[State]:
    """The target's states when cuts are put together up to these."""
    parents, children = set[int](), dict[int, int | None]()
    at, number = (0, 0), 0
    for end in ends:
        cuts = source.cuts[number:end]
        number, until = end, cuts[-1][:2]
        segments = Segments({t: lot(start, stop) for t, start, stop in zip("pc", at, until, strict=True)})
        for cascade in (one for cut in cuts for one in cut[2]):
            write(source.logs, parents, children, segments.until(cascade.before))
            moved = segments.until(cascade.after)
            write(source.logs, parents, children, moved)
            rows = [source.logs["p"][int(value)] for value in moved["p"].values]
            old, new = rows[0][0], rows[1][0] if cascade.op == "u" else None
            act(children, source.key, cascade.op, old, new)
        write(source.logs, parents, children, segments.rest())
        at = until
        yield frozenset(parents), frozenset(children.items())


def lot(start: int, stop: int) -> TopicChanges:
    at = range(start, stop)
    values = [str(one).encode() for one in at]
    return TopicChanges(values, [None] * len(at), [UNREAD._replace(seq=one + 1) for one in at], [(0, stop - start)])


def write(logs: Any, parents: set[int], children: dict[int, int | None], topics: dict[str, TopicChanges]) -> None:
    """The last change of each key, as a fold leaves it: of one table after the other, children first."""
    for topic in sorted(topics):
        last = {row[0]: row for row in (logs[topic][int(value)] for value in topics[topic].values)}
        for key, value, gone in last.values():
            if topic == "p":
                (parents.discard if gone else parents.add)(key)
            elif gone:
                children.pop(key, None)
            else:
                children[key] = value


def check(history: Sequence[Op], actions: tuple[Action, Action], ends: Sequence[Sequence[int]]) -> None:
    source, states = Source(*actions), list[State]()
    for op in history:
        source.do(op)
        states.append(source.state())
    for one in ends:
        assert [states[end - 1] for end in one] == list(applied(source, one)), (history, actions, one)


@pytest.mark.parametrize("actions", [("cascade", "cascade"), ("set null", "cascade"), ("cascade", ""), ("", "set null")])
def test_each_batch_ends_at_a_state_of_the_source(actions: tuple[Action, Action]) -> None:
    first: list[Op] = [("insert", 1), ("put", 7, 1)]
    for history in product(OPS, repeat=2):
        check([*first, *history], actions, [(4,), (2, 4), (3, 4), (1, 2, 3, 4)])
    dice = random.Random(1)
    for _ in range(150):
        history = tuple(dice.choice(OPS) for _ in range(12))
        check([*first, *history], actions, [(14,), tuple(sorted({*dice.sample(range(1, 14), 3), 14}))])


def test_a_fold_without_marks_would_be_wrong() -> None:
    """Else the histories show nothing."""
    history: list[Op] = [("insert", 1), ("put", 7, 1), ("delete", 1), ("insert", 1), ("put", 8, 1)]
    source = Source("cascade", "")
    for op in history:
        source.do(op)
    (state,) = applied(source, [5])
    assert source.state() == state
    source.cuts = [(*cut[:2], []) for cut in source.cuts]
    (state,) = applied(source, [5])
    assert source.state() != state
