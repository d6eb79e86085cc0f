"""What marks in cuts make the sink do: the order of segments, what is said of parents, and which tables are not known any more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from cdc.model.foreign_key import ForeignKey
from cdc.protocol.control import Cascade
from cdc.protocol.copy_progress import WHOLE, Active, Copies
from cdc.protocol.table_states import TableState
from sinks.cascades import MOVED, PASSED, UNTOLD, WAITING, Segments
from sinks.cuts import UNREAD
from sinks.steps import TopicChanges
from tests.helpers.sink_by_hand import DB, HEAP, P, Q, Story, Time, position, state
from tests.simulation.target import REFUSED_VALUE

PP, QQ = ("p.d.p", 0), ("p.d.q", 0)


@pytest.fixture(autouse=True)
def time() -> Iterator[Time]:
    with Time().lent() as moment:
        yield moment


def key(name: str = "f", child: Any = Q, parent: Any = P, delete: Any = "cascade", update: Any = "", column: str = "b") -> ForeignKey:
    return ForeignKey(name, (DB, child.name), (column,), (DB, parent.name), ("a",), delete, update)


def number(value: bytes | None) -> int | None:
    return None if value is None else int.from_bytes(value, "big", signed=True)


@dataclass
class Children:
    """Notes what is asked of children, with the rows that stand in the target then, and answers."""

    story: Story
    asked: list[tuple[Any, ...]] = field(default_factory=list)
    answers: list[list[dict[str, bytes | None]] | None] = field(default_factory=list)
    indexes: list[str] = field(default_factory=list)

    def change(self, one: ForeignKey, plans: Any, op: str, pairs: Sequence[Any], wanted: Sequence[str], *, shadowed: bool) -> Any:
        said = [tuple(number(side.get("a")) for side in pair if side) for pair in pairs]
        work = self.story.target._work
        assert work is not None
        rows = [[row[0] for row in work.stocks[f"{DB}.{t.name}"].content()] for t in (P, Q)]
        self.asked.append((one.name, op, said, *rows, tuple(wanted), shadowed))
        return self.answers.pop(0) if self.answers else []

    def index(self, one: ForeignKey, plan: Any) -> None:
        self.indexes.append(one.name)


def joined(*keys: ForeignKey, states: Sequence[Any] = (), **more: Any) -> tuple[Story, Children]:
    """A story whose base has these foreign keys, and what is asked of children in it."""
    story = Story(*(states or [state(t.name, TableState.CONSISTENT) for t in (P, Q, HEAP)]), **more)
    story.begins(foreign_keys=keys)
    children = Children(story)
    story.target.cascades_of = lambda transaction: children  # type: ignore[attr-defined]
    return story, children


def marked(story: Story, op: str, before: dict[Any, int], after: dict[Any, int], **more: Any) -> None:
    story.cut(cascades=(Cascade("p.d.p", op, before, after),), **more)


def of(story: Story, table: Any) -> tuple[TableState, str]:
    return story.of(table).state, story.of(table).reason.partition(":")[0]


def test_children_are_changed_between_what_came_before_and_behind_their_parents() -> None:
    story, children = joined(key())
    story.put(P, None, (1, 0))
    story.put(Q, None, (5, 1))
    story.put(P, (1, 0), None)
    story.put(P, None, (1, 9))
    story.put(Q, None, (6, 1))
    story.put(HEAP, None, (7, 7))
    marked(story, "d", {PP: 1, QQ: 1}, {PP: 2})
    story.put(P, (1, 9), None)
    marked(story, "d", {PP: 3, QQ: 2}, {PP: 4})
    story.applied()
    assert [("f", "d", [(1,)], [], [5], (), False), ("f", "d", [(1,)], [], [5, 6], (), False)] == children.asked
    assert ([], [(5, 1), (6, 1)], [(7, 7)]) == (story.rows(P), story.rows(Q), story.rows(HEAP)), (
        "what the children lose is the target's own"
    )
    assert (["f"], 2) == (children.indexes, len(story.target.commits)), "both cuts are one batch"
    assert [key()] == list(story.of(Q).foreign_keys)


def test_the_keys_are_known_to_a_sink_that_begins_behind_the_base_and_go_with_the_next_one() -> None:
    story, children = joined(key(), key("g", HEAP, column="a"))
    story.applied()
    story.put(P, (1, 0), None)
    marked(story, "d", {}, {PP: 1})
    story.applied()
    assert ["f", "g"] == [one[0] for one in children.asked]
    story.begins(foreign_keys=())
    story.put(P, (2, 0), None)
    story.cut()
    story.applied()
    assert ((), 2) == (story.of(Q).foreign_keys, len(children.asked))


def test_a_changed_key_is_two_records_and_one_change_in_the_order_of_the_log() -> None:
    story, children = joined(key(update="cascade"))
    for old, new in ((2, 3), (1, 2)):
        story.put(P, (old, 0), None)
        story.put(P, None, (new, 0))
    story.put(P, (9, 0), (9, 1))
    marked(story, "u", {}, {PP: 5})
    story.applied()
    assert [[(2, 3)], [(1, 2)]] == [one[2] for one in children.asked], "the third kept its key"


def test_what_went_takes_what_hangs_on_it_and_what_was_changed_passes_that_on() -> None:
    keys = (key(), key("g", HEAP, Q, "set null", "", "a"), key("h", P, Q, "", "cascade"), key("i", Q, Q, "cascade", ""))
    story, children = joined(*keys)
    story.put(P, (1, 0), None)
    children.answers = [[{"a": b"\0\0\0\5"}, {"a": b"\0\0\0\6"}], [], [{"a": b"\0\0\0\7"}]]
    marked(story, "d", {}, {PP: 1})
    story.applied()
    assert [("f", [(1,)], ("a",)), ("g", [(5,), (6,)], ()), ("i", [(5,), (6,)], ("a",)), ("g", [(7,)], ()), ("i", [(7,)], ("a",))] == [
        (one[0], one[2], one[5]) for one in children.asked
    ]


def test_what_is_applied_already_is_not_done_to_children_again() -> None:
    story, children = joined(key())
    story.put(P, (1, 0), None)
    marked(story, "d", {}, {PP: 1})
    story.applied()
    story.cut_no = story.number = 0
    story._changed.clear()
    story.begins(cut_no=0, foreign_keys=(key(),), position=position(0))
    story._seqs.clear()
    story.put(P, (1, 0), None)
    marked(story, "d", {}, {PP: 1})
    story.applied()
    assert 1 == len(children.asked)


@pytest.mark.parametrize(
    ("stands", "more", "op", "found"),
    [
        (TableState.CONSISTENT, {}, "d", (TableState.CONSISTENT, TableState.CONSISTENT, "")),
        (TableState.CATCHING_UP, {"ceiling": position(9)}, "d", (TableState.CATCHING_UP, TableState.REFUSED, PASSED)),
        (TableState.COPYING, {"ceiling": None}, "d", (TableState.COPYING, TableState.REFUSED, PASSED)),
        (TableState.COPYING, {"ceiling": None}, "u", (TableState.REFUSED, TableState.REFUSED, MOVED)),
        (TableState.REFUSED, {}, "d", (TableState.REFUSED, TableState.REFUSED, PASSED)),
    ],
)
def test_what_hangs_on_rows_that_are_not_complete_is_refused_and_what_can_be_right_is_not(
    stands: TableState, more: Any, op: str, found: tuple[TableState, TableState, str]
) -> None:
    keys = [key(update="cascade"), key("g", HEAP, Q, "cascade"), key("h", HEAP, Q, "", "cascade")._replace(referenced=("b",))]
    states = [state("p", TableState.CONSISTENT), state("q", stands, **more), state("heap", TableState.CONSISTENT)]
    copies = Copies(active=Active("i", "r", DB, "q", WHOLE, ("1",), 1)) if stands == TableState.COPYING else Copies()
    story = Story(*states)
    if stands == TableState.COPYING:
        story.content.tables[DB, "q"].schema["copy"] = "i"  # type: ignore[index]
    story.begins(foreign_keys=tuple(keys), copies=copies, uncopied=((DB, "q"),) if stands == TableState.COPYING else ())
    children = Children(story)
    story.target.cascades_of = lambda transaction: children  # type: ignore[attr-defined]
    story.put(P, (1, 0), None)
    if op == "u":
        story.put(P, None, (2, 0))
    marked(story, op, {}, {PP: len("d" if op == "d" else "dc")}, copies=copies)
    story.applied()
    assert found == (story.of(Q).state, story.of(HEAP).state, of(story, Q if found[2] == MOVED else HEAP)[1])
    assert (stands != TableState.REFUSED and op == "d") == bool(children.asked)


def test_rows_that_a_copy_of_some_keys_has_just_read_are_no_state_to_go_on_from() -> None:
    story, children = joined(key(), key("g", HEAP, Q, "cascade", "", "a"))
    story.put(Q, None, (5, 1), read=True)
    story.put(P, (1, 0), None)
    marked(story, "d", {QQ: 1}, {PP: 1})
    story.applied()
    assert ((TableState.CONSISTENT, ""), (TableState.REFUSED, PASSED)) == (of(story, Q), of(story, HEAP))
    assert ["f"] == [one[0] for one in children.asked]


def test_where_text_may_equal_more_than_the_target_can_tell_the_child_is_refused_and_what_hangs_on_it() -> None:
    story, children = joined(key(), key("g", HEAP, Q, "cascade", "", "a"))
    children.answers = [None]
    story.put(P, (1, 0), None)
    marked(story, "d", {}, {PP: 1})
    story.put(Q, None, (8, 1))
    story.cut()
    story.applied()
    assert ((TableState.REFUSED, UNTOLD), (TableState.REFUSED, PASSED)) == (of(story, Q), of(story, HEAP))
    assert [] == story.rows(Q), "its changes are no use any more"


def test_a_child_of_which_keys_wait_in_quarantine_is_refused() -> None:
    story, children = joined(key())
    story.put(Q, None, (5, REFUSED_VALUE))
    story.put(P, (1, 0), None)
    marked(story, "d", {QQ: 1}, {PP: 1})
    story.applied()
    assert ((TableState.REFUSED, WAITING), []) == (of(story, Q), children.asked)


def test_a_parent_that_waits_in_quarantine_takes_its_children_all_the_same() -> None:
    story, children = joined(key())
    story.put(P, None, (1, REFUSED_VALUE))
    story.cut()
    story.put(P, (1, REFUSED_VALUE), None)
    marked(story, "d", {PP: 1}, {PP: 2})
    story.applied()
    assert ([[(1,)]], ["p", "p"]) == ([one[2] for one in children.asked][-1:], story.waiting())


def test_children_that_were_copied_at_a_later_moment_are_as_it_left_them() -> None:
    story, children = joined(key(child=HEAP, column="a"), key("g"), key("h", Q, HEAP, "cascade", "", "b"))
    story.copy(HEAP, "i", exact=True, at=3)
    for number in (1, 2, 3, 4):
        story.put(P, (number, 0), None)
        marked(story, "d", {}, {PP: number})
    story.applied()
    assert [("f", [(4,)])] == [(one[0], one[2]) for one in children.asked if one[0] == "f"]


def test_records_are_given_out_up_to_each_mark_partition_by_partition() -> None:
    def lot(*seqs: int) -> TopicChanges:
        opened = [UNREAD._replace(seq=seq) for seq in seqs]
        return TopicChanges([b"%d" % n for n in seqs], [None] * len(seqs), opened, [])

    one = lot(1, 2, 11, 3, 12)
    one.pieces = [(0, 2), (1, 3), (0, 4), (1, 5)]
    segments = Segments({"t": one})
    assert [b"1", b"2"] == segments.until({("t", 0): 2})["t"].values
    assert {} == segments.until({("t", 0): 2, ("u", 0): 9})
    assert [b"11"] == segments.until({("t", 1): 11})["t"].values
    assert [b"3", b"12"] == segments.rest()["t"].values
    assert {} == segments.rest()
