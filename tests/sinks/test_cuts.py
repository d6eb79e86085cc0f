"""The sink's assembly of cuts: what is taken, what is void, and where it stops; without a database."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence

import pytest

from cdc.codec.records import Opened
from cdc.errors import Halt
from cdc.model.position import Position
from cdc.model.record import Message, Partition
from cdc.protocol.applied import Progress
from cdc.protocol.control import Anomaly, Base, Copy, Cut, Entry, Followed, Named, Start, mark, to_document
from cdc.transport.contract import nothing_below
from sinks import cuts as module
from sinks.cuts import UNREAD, CutAssembler
from sinks.losses import check_mark
from sinks.steps import Batch, BeginCopy, Enter

AHEAD_BYTES, AHEAD_CUTS, BATCH_BYTES = 80_000, 40, 120_000
"""The limits of the product, made small."""
TOPIC, CONTROL = "p.db.t", "p.control"
P: Partition = (TOPIC, 0)
Q: Partition = (TOPIC, 1)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AHEAD_BYTES", AHEAD_BYTES)
    monkeypatch.setattr(module, "AHEAD_CUTS", AHEAD_CUTS)
    monkeypatch.setattr(module, "BATCH_BYTES", BATCH_BYTES)


def position(number: int) -> Position:
    return Position("mariadb", "s", f"0-1-{number}", "b.000001", number * 100)


def value(epoch: int, seq: int, transaction: int, op: str = "c") -> bytes:
    """A record whose envelope is this line of text."""
    return f"{epoch} {seq} {op} 0-1-{transaction}".encode()


def opened(values: Sequence[bytes]) -> list[Opened]:
    """Reads what `value` wrote."""
    found: list[Opened] = []
    for each in values:
        if each[:1] == b"\0":
            found.append(UNREAD)
            continue
        epoch, seq, op, transaction = each.decode().split()
        at = (0, 0) if op == "r" else (len(each) - len(transaction), len(each))
        found.append(Opened(int(epoch), int(seq), op, -1, -1, 0, len(each), at, 0))
    return found


class Topics:
    """Builds messages as a transport would deliver them."""

    def __init__(self) -> None:
        self.offsets = {P: 0, Q: 0, (CONTROL, 0): 0}
        self.messages: list[Message] = []

    def put(self, partition: Partition, content: bytes | None) -> int:
        offset = self.offsets[partition]
        self.offsets[partition] += 1
        self.messages.append(Message(*partition, offset, b"key of %d.%d" % (partition[1], offset), content))
        return offset

    def say(self, entry: Entry) -> int:
        return self.put((CONTROL, 0), json.dumps(to_document(entry)).encode())

    def start(self) -> int:
        return self.say(Start(str(len(self.messages)), 0))

    def base(self, epoch: int, cut_no: int, at: int, *, copying: bool = False, named: dict[Partition, Named] | None = None) -> None:
        ends = {p: self.offsets[p] for p in (P, Q)}
        self.say(Base(epoch, cut_no, position(at), 0, copying, ends, named or {}, (Followed("db", "t", TOPIC, 2, 1, 2),)))

    def cut(self, epoch: int, cut_no: int, at: int, *, partial: bool = False, **named: tuple[int, int]) -> None:
        partitions = {(TOPIC, int(n[1:])): Named(offset, epoch, seq) for n, (offset, seq) in named.items()}
        self.say(Cut(epoch, cut_no, position(at), at * 1000, False, partial, partitions))


class Delivered(CutAssembler):
    """Whose reader delivers again what lies behind a base's ends, as a transport does that is assigned anew."""

    _seen: list[Message]

    def feed(self, messages: Iterable[Message]) -> None:
        come = list(messages)
        self._seen = [*getattr(self, "_seen", []), *come]
        super().feed(come)

    def enter(self, base: Base) -> None:
        super().enter(base)
        super().feed(m for m in self._seen if m[:2] in base.ends and m.offset >= base.ends[m[0], m[1]])


def cuts(stored: Progress | None = None, floors: dict[str, Position] | None = None) -> CutAssembler:
    return Delivered(stored, floors or {}, CONTROL, opened)


def everything(assembly: CutAssembler, limit: int = 1000) -> list[str]:
    """Takes steps until there is none; a short word for each."""
    said = []
    while (step := assembly.take(limit)) is not None:
        if isinstance(step, Enter):
            assembly.enter(step.base)
            said.append(f"base {step.base.epoch}")
        elif isinstance(step, BeginCopy):
            said.append(f"copy {step.copy.id}")
        elif isinstance(step, Batch):
            rows = [v.decode() for changes in step.topics.values() for v in changes.values]
            said.append(f"{'partial' if step.partial else 'cut'} {step.cut.cut_no}: {', '.join(rows)}")
    return said


def test_a_cut_is_applied_when_all_its_records_are_there_and_not_before() -> None:
    """Order of arrival between partitions and control does not matter."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 0)
    a, b = topics.put(P, value(epoch, 1, 1)), topics.put(Q, value(epoch, 1, 1))
    topics.cut(epoch, 1, 1, p0=(a, 1), p1=(b, 1))
    for seed in range(20):
        assembly, order = cuts(), _shuffled(topics.messages, seed)
        said: list[str] = []
        for i, message in enumerate(order):
            assembly.feed([message])
            said += everything(assembly)
            if i < len(order) - 1:
                assert not any(word.startswith("cut") for word in said)
        assert [f"base {epoch}", f"cut 1: {epoch} 1 c 0-1-1, {epoch} 1 c 0-1-1"] == said


def _shuffled(messages: list[Message], seed: int) -> list[Message]:
    """Another order of arrival that keeps each partition's own."""
    queues: dict[Partition, list[Message]] = {}
    for message in messages:
        queues.setdefault(message[:2], []).append(message)
    rng, order = random.Random(seed), []
    while queues:
        partition = rng.choice(sorted(queues))
        order.append(queues[partition].pop(0))
        if not queues[partition]:
            del queues[partition]
    return order


def test_records_of_another_epoch_are_void_and_counted() -> None:
    """The torn tail of a crash and a zombie's late record lie between ours."""
    topics = Topics()
    first = topics.start()
    topics.base(first, 0, 0)
    topics.put(P, value(first, 1, 1))
    second = topics.start()
    topics.base(second, 0, 0)
    topics.put(P, value(first, 2, 1))
    mine = topics.put(P, value(second, 1, 1))
    topics.cut(second, 1, 1, p0=(mine, 1))
    assembly = cuts()
    assembly.feed(topics.messages)
    assert [f"base {first}", f"base {second}", f"cut 1: {second} 1 c 0-1-1"] == everything(assembly)
    assert 1 == assembly.void["epoch"]


def test_what_the_target_has_applied_is_skipped_by_transaction() -> None:
    """Capture went back below what is stored: of one cut, one transaction is new."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 3, 3)
    topics.put(P, value(epoch, 1, 4))
    last = topics.put(P, value(epoch, 2, 5))
    topics.cut(epoch, 4, 5, p0=(last, 2))
    assembly = cuts(Progress(9, 0, 0, position(4), 0))
    assembly.feed(topics.messages)
    assert [f"base {epoch}", f"cut 4: {epoch} 2 c 0-1-5"] == everything(assembly)
    assert (1, position(5)) == (assembly.void["applied"], assembly.at.position)


def test_the_position_never_moves_back() -> None:
    """Cuts below what is stored leave it where it is."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 3, 3)
    last = topics.put(P, value(epoch, 1, 4))
    topics.cut(epoch, 4, 4, p0=(last, 1))
    assembly = cuts(Progress(9, 0, 0, position(8), 0))
    assembly.feed(topics.messages)
    assert [f"base {epoch}", "cut 4: "] == everything(assembly)
    assert position(8) == assembly.at.position


def test_what_was_counted_with_rows_that_the_target_holds_is_not_counted_again() -> None:
    """A cut below what is stored counts nothing; a piece that bears the stored position belongs to the transaction behind it."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 3, 3)
    for number, (at, partial) in enumerate(((4, False), (8, True), (9, False)), 4):
        topics.say(Cut(epoch, number, position(at), 0, False, partial, {}, (Anomaly("db", "t", "d", "zero_date", number),)))
    assembly = cuts(Progress(9, 0, 0, position(8), 0))
    assembly.feed(topics.messages)
    counted = []
    while (step := assembly.take(0)) is not None:
        if isinstance(step, Enter):
            assembly.enter(step.base)
        elif isinstance(step, Batch):
            counted += [anomaly.times for anomaly in step.anomalies]
    assert [5, 6] == counted


def test_a_table_skips_what_its_copy_holds_and_no_more() -> None:
    """A floor counts transaction by transaction, for its own table."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 1)
    topics.put(P, value(epoch, 1, 2))
    last = topics.put(P, value(epoch, 2, 3))
    topics.cut(epoch, 1, 3, p0=(last, 2))
    assembly = cuts(Progress(0, -1, 0, position(1), 0), {TOPIC: position(2)})
    assembly.feed(topics.messages)
    assert [f"base {epoch}", f"cut 1: {epoch} 2 c 0-1-3"] == everything(assembly)
    assert {} == assembly.floors


def test_a_row_that_was_read_is_never_skipped_by_position() -> None:
    """It belongs to no transaction."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 1)
    last = topics.put(P, value(epoch, 1, 0, "r"))
    topics.cut(epoch, 1, 3, p0=(last, 1))
    assembly = cuts(Progress(0, -1, 0, position(5), 0), {TOPIC: position(9)})
    assembly.feed(topics.messages)
    assert [f"base {epoch}", f"cut 1: {epoch} 1 r 0-1-0"] == everything(assembly)


def test_a_hole_in_the_numbers_stops() -> None:
    """A record that never came is never passed over."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 0)
    topics.put(P, value(epoch, 1, 1))
    last = topics.put(P, value(epoch, 3, 1))
    topics.cut(epoch, 1, 1, p0=(last, 3))
    assembly = cuts()
    assembly.feed(topics.messages)
    with pytest.raises(Halt) as caught:
        everything(assembly)
    assert "hole" == caught.value.code


def test_a_cut_that_names_a_record_which_is_not_there_stops() -> None:
    """The broker lost an acknowledged record and something else stands at its offset."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 0)
    last = topics.put(P, value(epoch, 1, 1))
    topics.cut(epoch, 1, 1, p0=(last, 2))
    assembly = cuts()
    assembly.feed(topics.messages)
    with pytest.raises(Halt) as caught:
        everything(assembly)
    assert "records_missing" == caught.value.code


def test_a_base_beyond_what_is_stored_is_refused() -> None:
    """What lies between would be lost."""
    topics = Topics()
    topics.base(topics.start(), 0, 5)
    assembly = cuts(Progress(0, -1, 0, position(4), 0))
    assembly.feed(topics.messages)
    with pytest.raises(Halt) as caught:
        everything(assembly)
    assert "base_beyond" == caught.value.code


def test_pieces_are_partial_until_the_whole_cut_and_never_mixed_with_it() -> None:
    """A whole cut before the pieces is given out first, so that it can be committed."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 0)
    topics.cut(epoch, 1, 1, p0=(topics.put(P, value(epoch, 1, 1)), 1))
    topics.cut(epoch, 2, 1, partial=True, p0=(topics.put(P, value(epoch, 2, 2)), 2))
    topics.cut(epoch, 3, 2, p0=(topics.put(P, value(epoch, 3, 2)), 3))
    assembly = cuts()
    assembly.feed(topics.messages)
    assert [f"base {epoch}", f"cut 1: {epoch} 1 c 0-1-1", f"partial 2: {epoch} 2 c 0-1-2", f"cut 3: {epoch} 3 c 0-1-2"] == everything(
        assembly
    )


def test_no_batch_crosses_a_base() -> None:
    """Numbers and offsets change there."""
    topics = Topics()
    first = topics.start()
    topics.base(first, 0, 0)
    last = topics.put(P, value(first, 1, 1))
    topics.cut(first, 1, 1, p0=(last, 1))
    second = topics.start()
    topics.base(second, 1, 1, named={P: Named(last, first, 1)})
    topics.cut(second, 2, 2, p0=(topics.put(P, value(second, 2, 2)), 2))
    assembly = cuts()
    assembly.feed(topics.messages)
    assert [f"base {first}", f"cut 1: {first} 1 c 0-1-1", f"base {second}", f"cut 2: {second} 2 c 0-1-2"] == everything(assembly)


def test_a_cut_that_a_later_base_went_below_is_void() -> None:
    """Capture lost its tail and says so before the sink got there."""
    topics = Topics()
    first = topics.start()
    topics.base(first, 0, 0)
    topics.cut(first, 1, 1, p0=(topics.put(P, value(first, 1, 1)), 1))
    second = topics.start()
    topics.base(second, 0, 0)
    topics.cut(second, 1, 1, p0=(topics.put(P, value(second, 1, 1)), 1))
    assembly = cuts()
    assembly.feed(topics.messages)
    assert [f"base {first}", f"base {second}", f"cut 1: {second} 1 c 0-1-1"] == everything(assembly)
    assert 1 == assembly.void["control"]


def test_a_batch_ends_at_a_cut_once_it_is_large_enough() -> None:
    """Bounded by rows, never inside a cut."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 0)
    for n in range(1, 5):
        topics.cut(epoch, n, n, p0=(topics.put(P, value(epoch, n, n)), n))
    assembly = cuts()
    assembly.feed(topics.messages)
    assert [f"base {epoch}", "cut 2", "cut 4"] == [word.split(":")[0] for word in everything(assembly, limit=2)]


def test_a_restart_of_the_sink_goes_on_at_its_stored_offsets() -> None:
    """Numbers below the stored one are repeats; reading goes on behind them."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 0)
    topics.cut(epoch, 1, 1, p0=(topics.put(P, value(epoch, 1, 1)), 1))
    topics.cut(epoch, 2, 2, p0=(topics.put(P, value(epoch, 2, 2)), 2))
    assembly = cuts(Progress(1, epoch, 3, position(1), 0, {P: (1, 1)}))
    assert ({P: 1}, 3) == (assembly.next_offsets(), assembly.next_control())
    assembly.feed([m for m in topics.messages if m.offset >= (3 if m.topic == CONTROL else 1)])
    assert [f"cut 2: {epoch} 2 c 0-1-2"] == everything(assembly)


def test_a_sink_that_restarts_while_the_cuts_are_behind_it_still_skips_what_it_has() -> None:
    """The base that went back was committed in an earlier life; the position was ahead of it, and still is."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 3, 3)
    first = topics.put(P, value(epoch, 1, 4))
    topics.cut(epoch, 4, 4, p0=(first, 1))
    last = topics.put(P, value(epoch, 2, 5))
    topics.cut(epoch, 5, 5, p0=(last, 2))
    assembly = cuts(Progress(3, epoch, 2, position(4), 0, {P: (0, 0), Q: (0, 0)}))
    assembly.feed([m for m in topics.messages if m.topic == TOPIC or m.offset >= 2])
    assert [f"cut 5: {epoch} 2 c 0-1-5"] == everything(assembly)


def test_a_sink_that_restarts_knows_which_epochs_are_over() -> None:
    """A zombie's late cut comes right after the sink's new life began."""
    topics = Topics()
    first = topics.start()
    second = topics.start()
    topics.cut(first, 1, 1, p0=(topics.put(P, value(first, 1, 1)), 1))
    assembly = cuts(Progress(0, second, 2, position(0), 0, {P: (0, 0)}))
    assembly.feed([m for m in topics.messages if m.topic == TOPIC or m.offset >= 2])
    assert ([], 1) == (everything(assembly), assembly.void["control"])


def test_the_start_of_an_epoch_is_remembered_with_the_place_behind_it() -> None:
    """Whoever goes on behind a start record must know that it was there."""
    topics = Topics()
    first = topics.start()
    topics.base(first, 0, 0)
    topics.cut(first, 1, 1, p0=(topics.put(P, value(first, 1, 1)), 1))
    second = topics.start()
    assembly = cuts()
    assembly.feed(topics.messages)
    everything(assembly)
    assert (second, second + 1) == (assembly.at.epoch, assembly.at.control_next)


def test_a_copy_is_given_out_before_its_rows() -> None:
    """The table is emptied first, whatever came before it in the window."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 1, copying=True)
    topics.cut(epoch, 1, 1, partial=True, p0=(topics.put(P, value(epoch, 1, 0, "r")), 1))
    topics.say(Copy(epoch, 2, "db", "t", position(2), "id"))
    topics.cut(epoch, 2, 3, p0=(topics.put(P, value(epoch, 2, 0, "r")), 2))
    assembly = cuts()
    assembly.feed(topics.messages)
    said = everything(assembly)
    assert [f"base {epoch}", f"partial 1: {epoch} 1 r 0-1-0", "copy id", f"cut 2: {epoch} 2 r 0-1-0"] == said


def test_a_copy_begins_only_when_the_cut_with_which_it_is_committed_is_there() -> None:
    """Its table may be locked from then on, and capture, which has written a piece of it, may be away; pieces arrive as they are taken."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 1)
    topics.cut(epoch, 1, 1)
    topics.say(Copy(epoch, 2, "db", "t", position(1), "id"))
    topics.cut(epoch, 2, 1, partial=True, p0=(topics.put(P, value(epoch, 1, 0, "r")), 1))
    waits, bounded = cuts(), Delivered(None, {}, CONTROL, opened, bounded=True)
    for assembly in (waits, bounded):
        assembly.feed(topics.messages)
    assert [f"base {epoch}", "cut 1: "] == everything(waits)
    assert [f"base {epoch}", "cut 1: ", "copy id", f"partial 2: {epoch} 1 r 0-1-0"] == everything(bounded), "capture waits for room"
    topics.messages.clear()
    row = topics.put(P, value(epoch, 2, 0, "r"))
    topics.cut(epoch, 3, 2, p0=(row, 2))
    control = [message for message in topics.messages if message[0] == CONTROL]
    waits.feed(control)
    assert ["copy id", f"partial 2: {epoch} 1 r 0-1-0"] == everything(waits), "the rest of the rows is on its way"
    waits.feed(message for message in topics.messages if message not in control)
    assert [f"cut 3: {epoch} 2 r 0-1-0"] == everything(waits)


def test_a_void_cut_behind_a_copy_does_not_begin_it() -> None:
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 1)
    topics.cut(epoch, 1, 1)
    topics.say(Copy(epoch, 2, "db", "t", position(1), "id"))
    topics.cut(epoch, 2, 1)
    later = topics.start()
    topics.base(later, 1, 1)
    assembly = cuts()
    assembly.feed(topics.messages)
    assert [f"base {epoch}", "cut 1: ", f"base {later}"] == everything(assembly)


def test_a_batch_is_what_take_says_it_is() -> None:
    """The rows are counted without what is void."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 0)
    topics.cut(epoch, 1, 1, p0=(topics.put(P, value(epoch, 1, 1)), 1))
    assembly = cuts()
    assembly.feed(topics.messages)
    entered = assembly.take(10)
    assert isinstance(entered, Enter)
    assembly.enter(entered.base)
    batch = assembly.take(10)
    assert isinstance(batch, Batch)
    assert (1, False, 1) == (batch.rows, batch.partial, batch.cut.cut_no)


def _far(size: int) -> Topics:
    """Four records in partition 0, this many bytes together, and no cut yet."""
    topics = Topics()
    topics.start()
    topics.base(0, 0, 0)
    for seq in range(1, 5):
        topics.put(P, value(0, seq, 1).rjust(size // 4 + 1))
    return topics


def _fed(assembly: CutAssembler, topics: Topics) -> list[str]:
    """Feeds what is new; the first words of each step."""
    assembly.feed(topics.messages)
    topics.messages.clear()
    return [said.partition(":")[0] for said in everything(assembly)]


def test_a_partition_far_ahead_of_the_cuts_is_held_until_a_cut_needs_it() -> None:
    """Else a table that was changed much later than the one being applied would lie in memory whole."""
    topics, assembly = _far(AHEAD_BYTES), cuts()
    assert _fed(assembly, topics) == ["base 0"]
    assert assembly.buffered > AHEAD_BYTES
    assert assembly.ahead() == {P}
    topics.cut(0, 1, 1, p0=(4, 5))
    assert _fed(assembly, topics) == []
    assert assembly.ahead() == frozenset(), "the cut needs a record that has not come"
    topics.put(P, value(0, 5, 1))
    assert _fed(assembly, topics) == ["cut 1"]
    assert (assembly.buffered, assembly.ahead()) == (0, frozenset())


def test_a_held_partition_is_let_go_at_half_the_limit() -> None:
    """A pause throws away what librdkafka has fetched: it must not come and go with every batch."""
    topics, assembly = _far(AHEAD_BYTES), cuts()
    assert _fed(assembly, topics) == ["base 0"]
    assert assembly.ahead() == {P}
    topics.cut(0, 1, 1, p0=(0, 1))
    assert _fed(assembly, topics) == ["cut 1"]
    assert assembly.ahead() == {P}, "three quarters are left"
    topics.cut(0, 2, 1, p0=(2, 3))
    assert _fed(assembly, topics) == ["cut 2"]
    assert assembly.ahead() == frozenset()


def test_cuts_far_ahead_hold_the_control_topic_but_never_when_nothing_comes() -> None:
    """The first cut may name a record that is lost; the base that makes it void stands behind all of them."""
    topics, assembly = Topics(), cuts()
    topics.start()
    topics.base(0, 0, 0)
    for number in range(1, AHEAD_CUTS + 2):
        topics.cut(0, number, number, p0=(0, 1))
    assert _fed(assembly, topics) == ["base 0"]
    assert assembly.ahead() == {(CONTROL, 0)}
    assert assembly.ahead(stuck=True) == frozenset()


def test_a_batch_of_large_rows_ends_although_its_rows_are_few() -> None:
    """Memory goes by bytes."""
    topics, assembly = _far(2 * BATCH_BYTES), cuts()
    for number in (1, 2, 3):
        topics.cut(0, number, number, p0=(number, number + 1))
    assert _fed(assembly, topics) == ["base 0", "cut 1", "cut 3"]


def test_what_was_read_ahead_is_asked_for_again_at_a_base() -> None:
    """A broker may have lost it since, and other records lie at its offsets."""
    topics = Topics()
    old = topics.start()
    topics.base(old, 0, 0)
    first = topics.put(P, value(old, 1, 1))
    topics.cut(old, 1, 1, p0=(first, 1))
    for seq in (2, 3):
        topics.put(P, value(old, seq, seq))
    assembly = CutAssembler(None, {}, CONTROL, opened)
    assembly.feed(topics.messages[:2])
    assert ["base 0"] == everything(assembly)
    assembly.feed(topics.messages[2:])
    assert ["cut 1: 0 1 c 0-1-1"] == everything(assembly)
    topics.messages.clear()
    topics.offsets[P] = 1  # the two others are gone
    new = topics.start()
    topics.base(new, 1, 1, named={P: Named(first, old, 1)})
    assembly.feed(topics.messages)
    assert [f"base {new}"] == everything(assembly)
    assert 1 == assembly.next_offsets()[P]
    topics.messages.clear()
    second = topics.put(P, value(new, 2, 2))
    topics.cut(new, 2, 2, p0=(second, 2))
    assembly.feed(topics.messages)
    assert [f"cut 2: {new} 2 c 0-1-2"] == everything(assembly)


def test_a_cut_whose_epoch_was_never_seen_to_start_stops() -> None:
    """The broker lost the start, and what is applied here with it."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 0)
    topics.cut(epoch + 7, 1, 1)
    with pytest.raises(Halt) as stopped:
        cuts().feed(topics.messages)
    assert "control_lost" == stopped.value.code


def test_positions_of_two_servers_that_log_domains_in_another_order_are_joined() -> None:
    """Neither covers the other: to keep one of them would apply what the other has a second time."""
    topics = Topics()
    one = topics.start()
    topics.base(one, 0, 0)
    topics.say(
        Cut(one, 1, Position("mariadb", "a", "0-1-1"), 0, False, False, {(TOPIC, 0): Named(topics.put(P, value(one, 1, 1)), one, 1)})
    )
    two = topics.start()
    topics.say(Base(two, 0, Position("mariadb", "b"), 0, False, {p: topics.offsets[p] for p in (P, Q)}, {}, ()))
    assembly = cuts(stored=None)
    assembly.feed(topics.messages[:3])
    assembly.feed(topics.messages[3:4])
    said = everything(assembly)
    assert "cut 1: 0 1 c 0-1-1" == said[-1]
    topics.messages = topics.messages[4:]
    row = topics.put(P, f"{two} 1 c 5-1-1".encode())
    topics.say(Cut(two, 1, Position("mariadb", "b", "5-1-1"), 0, False, False, {P: Named(row, two, 1)}))
    row = topics.put(P, value(two, 2, 1))
    topics.say(Cut(two, 2, Position("mariadb", "b", "0-1-1,5-1-1"), 0, False, False, {P: Named(row, two, 2)}))
    assembly.feed(topics.messages)
    taken = []
    while (step := assembly.take(1)) is not None:
        if isinstance(step, Enter):
            assembly.enter(step.base)
        elif isinstance(step, Batch):
            taken.append((assembly.at.position.gtids if assembly.at.position else "", [len(c.values) for c in step.topics.values()]))
    assert [("0-1-1,5-1-1", [1]), ("0-1-1,5-1-1", [0])] == taken


class Held:
    """The end of a topic that holds one control record."""

    control_topic = CONTROL

    def __init__(self, record: bytes | None) -> None:
        self.record = record

    def control_before(self, offset: int) -> bytes | None:
        return self.record


def test_a_control_record_that_is_not_the_one_that_was_applied_stops_a_start() -> None:
    stored = Progress(1, 0, 5, position(1), 0, {}, mark(b"the cut"))
    check_mark(Held(b"the cut"), stored)  # type: ignore[arg-type]
    check_mark(Held(None), stored)  # type: ignore[arg-type]  # compacted
    check_mark(Held(b"another"), None)  # type: ignore[arg-type]
    with pytest.raises(Halt) as stopped:
        check_mark(Held(b"another"), stored)  # type: ignore[arg-type]
    assert "control_lost" == stopped.value.code


def test_all_that_moved_since_the_last_commit_is_known_with_the_place_it_had_then() -> None:
    """Whatever the batch's last cut names: a cut names what changed since the last full one."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 0)
    topics.cut(epoch, 1, 1, p0=(topics.put(P, value(epoch, 1, 1)), 1))
    topics.cut(epoch, 2, 2, p0=(topics.put(P, value(epoch, 2, 2)), 2))
    topics.cut(epoch, 3, 3, p1=(topics.put(Q, value(epoch, 1, 3)), 1))
    assembly = cuts(Progress(0, epoch, 2, position(0), 0, {P: (0, 0), Q: (0, 0)}))
    assembly.feed([m for m in topics.messages if m.topic == TOPIC or m.offset >= 2])
    assert 1 == len(everything(assembly))
    assert {P: (0, 0), Q: (0, 0)} == assembly.at.moved
    assembly = cuts()
    assembly.feed(topics.messages[:2])
    assert [f"base {epoch}"] == everything(assembly)
    assert {P: None, Q: None} == assembly.at.moved, "what a base says follows from nothing"


def test_numbers_behind_the_stored_position_are_skipped_whenever_they_come() -> None:
    """As stored by a version that forgot some partitions of a commit: the first cuts after a start need not name them."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 0)
    old = topics.put(P, value(epoch, 1, 1))
    topics.cut(epoch, 3, 3, p1=(topics.put(Q, value(epoch, 1, 3)), 1))
    topics.cut(epoch, 4, 4, p1=(topics.put(Q, value(epoch, 2, 4)), 2))
    new = topics.put(P, value(epoch, 2, 5))
    topics.cut(epoch, 5, 5, p0=(new, 2))
    topics.cut(epoch, 6, 6, p0=(topics.put(P, value(epoch, 3, 6)), 3))
    assembly = cuts(Progress(2, epoch, 2, position(2), 0, {P: (old, 0), Q: (0, 0)}))
    assembly.feed([m for m in topics.messages if m.topic == TOPIC or m.offset >= 2])
    said = everything(assembly, 1)
    assert [f"cut 3: {epoch} 1 c 0-1-3", f"cut 4: {epoch} 2 c 0-1-4", f"cut 5: {epoch} 2 c 0-1-5", f"cut 6: {epoch} 3 c 0-1-6"] == said
    assert 1 == assembly.void["applied"]


def test_the_newest_cut_says_up_to_when_the_target_is_consistent_and_one_below_what_is_stored_does_not() -> None:
    """A mark that was wrong is taken back; one that is unknown leaves what was known."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 3, 3)
    for number, (at, moment) in enumerate(((4, 70), (8, 50), (9, 0), (10, 60)), 4):
        topics.say(Cut(epoch, number, position(at), moment, False, False, {}, clock_offset_us=moment))
    assembly = cuts(Progress(9, 0, 0, position(8), 99, clock_offset_us=9))
    assembly.feed(topics.messages)
    seen = []
    while (step := assembly.take(0)) is not None:
        if isinstance(step, Enter):
            assembly.enter(step.base)
        seen.append((assembly.at.source_ts_us, assembly.at.clock_offset_us))
    assert [(99, 9), (99, 9), (50, 50), (50, 0), (60, 60)] == seen


def _expired(below: int, *, named: int, held: int = 0) -> CutAssembler:
    """A sink that has applied number 1 of P, where nothing below an offset is held, and one record may be; the cut names a number."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 0)
    for seq in range(1, 6):
        topics.put(P, value(epoch, seq, seq))
    topics.cut(epoch, 9, 9, p0=(named - 1, named))
    assembly = cuts(Progress(1, epoch, 2, position(1), 0, {P: (1, 1)}))
    assembly.feed([nothing_below(P, below)])
    assembly.feed([m for m in topics.messages if m.topic == TOPIC and m.offset + 1 == held])
    assembly.feed([m for m in topics.messages if m.topic == CONTROL and m.offset >= 2])
    return assembly


def test_a_place_that_expired_is_no_loss_where_the_cut_asks_for_no_more_than_is_applied() -> None:
    """As of a table whose last records, a tombstone at their end, are gone."""
    assembly = _expired(below=5, named=1)
    assert ["cut 9: "] == everything(assembly)
    assert 5 == assembly.next_offsets()[P]


@pytest.mark.parametrize(
    ("below", "named", "held", "rule"),
    [
        (5, 4, 0, "records behind number 1 expired before they were applied, up to 4 at least"),
        (4, 5, 5, "records behind number 1 expired before they were applied, up to 4"),
    ],
    ids=["the table is silent", "a later number comes"],
)
def test_numbers_that_expired_before_they_were_applied_stop(below: int, named: int, held: int, rule: str) -> None:
    with pytest.raises(Halt) as stopped:
        everything(_expired(below, named=named, held=held))
    assert ("offset_gone", rule) == (stopped.value.code, stopped.value.rule)


UNKNOWN = b"\0\0\0\0\x63 what a capture wrote whose schema no base names"


def test_a_record_of_unknown_schema_among_whole_numbers_is_void() -> None:
    """A late write of a capture whose base never counted; before, between and behind those that do."""
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 0)
    for content in (UNKNOWN, value(epoch, 1, 1), UNKNOWN, UNKNOWN):
        topics.put(P, content)
    last = topics.put(P, value(epoch, 2, 1))
    topics.put(P, UNKNOWN)
    topics.cut(epoch, 1, 1, p0=(last, 2))
    assembly = cuts()
    assembly.feed(topics.messages)
    assert [f"base {epoch}", f"cut 1: {epoch} 1 c 0-1-1, {epoch} 2 c 0-1-1"] == everything(assembly)
    assert {"schema": 3} == dict(assembly.void)


@pytest.mark.parametrize("numbers", [(1, None), (None, 2)])
def test_a_record_of_unknown_schema_in_place_of_a_number_stops(numbers: tuple[int | None, int | None]) -> None:
    topics = Topics()
    epoch = topics.start()
    topics.base(epoch, 0, 0)
    offsets = [topics.put(P, UNKNOWN if number is None else value(epoch, number, 1)) for number in numbers]
    topics.cut(epoch, 1, 1, p0=(offsets[-1], 2))
    assembly = cuts()
    assembly.feed(topics.messages)
    with pytest.raises(Halt) as caught:
        everything(assembly)
    assert ("schema_unknown", True) == (caught.value.code, "schema id 99" in caught.value.rule)


def test_what_has_no_end_is_never_over() -> None:
    assert CutAssembler(None, {}, CONTROL, opened).is_over() is False
