"""What the sink says, and stops with, where records that it needs are gone or are not those it applied; pure."""

from __future__ import annotations

from cdc.errors import Halt
from cdc.model.record import Message, Partition
from cdc.protocol.applied import Progress
from cdc.protocol.control import Base, Named, mark
from cdc.transport.contract import Reader

_FRESH = "the broker lost control records after it had acknowledged them: cdc reset --all, and start again"


def missing(partition: Partition, named: Named, number: int) -> Halt:
    """A cut names a record that is not there; `number`: the last one that is."""
    return Halt(
        "records_missing",
        f"{partition[0]}:{partition[1]} offset {named.offset}",
        f"the cut names number {named.seq}, the partition has {number}",
        "the broker lost acknowledged records: restart capture, it goes back to what the broker still holds",
    )


def expired(partition: Partition, named: Named, number: int) -> Halt:
    """The same, where the topic keeps nothing any more from the time when it was written."""
    return _gone(
        partition,
        named.offset,
        f"records behind number {number} expired before they were applied, up to {named.seq} at least",
    )


def hole(partition: Partition, offset: int, number: int, last: int, begins_here: bool) -> Halt:
    """A number does not follow the last one; `begins_here`: what was before has expired."""
    if begins_here:
        return _gone(
            partition, offset, f"records behind number {last} expired before they were applied, up to {number - 1}"
        )
    return Halt(
        "hole",
        f"{partition[0]}:{partition[1]} offset {offset}",
        f"number {number} follows {last}",
        "records were lost in the topic: start capture again; if this stops here again, cdc reset --all",
    )


def _gone(partition: Partition, offset: int, rule: str) -> Halt:
    return Halt(
        "offset_gone",
        f"{partition[0]}:{partition[1]} offset {offset}",
        rule,
        "the sink was away for longer than the topic keeps records: cdc reset --all, and start again, "
        "and raise retention.ms",
    )


def start_lost(topic: str, offset: int, epoch: int) -> Halt:
    """A control record of an epoch that was not seen to begin."""
    return Halt(
        "control_lost", f"{topic} offset {offset}", f"a record of epoch {epoch}, whose start was never seen", _FRESH
    )


def base_beyond(base: Base) -> Halt:
    """What is said of a base that would lose something."""
    return Halt(
        "base_beyond",
        f"base of epoch {base.epoch}",
        "capture begins beyond what the target has applied",
        "changes between the two would be lost: cdc reset --all, and start again",
    )


def check_mark(reader: Reader, stored: Progress | None) -> None:
    """Stop unless the control topic still holds the record that was applied last: what comes after it is then what
    follows it.

    A record that is gone by compaction or retention is none that a broker lost: others stand behind it.
    """
    if stored is None or not stored.mark:
        return
    record = reader.control_before(stored.control_next)
    if record is not None and mark(record) != stored.mark:
        raise Halt(
            "control_lost",
            f"{reader.control_topic} offset {stored.control_next - 1}",
            "holds another record than the one that was applied",
            _FRESH,
        )


def or_unread(unread: Message | None, lost: Halt) -> Halt:
    """Numbers are missing: `lost`, or those of a record that cannot be read."""
    if unread is None:
        return lost
    place = f"{unread.topic}:{unread.partition} offset {unread.offset}"
    rule = f"bears schema id {int.from_bytes((unread.value or b'')[1:5], 'big')}, which no base names, and {lost.rule}"
    return Halt("schema_unknown", place, rule, "is transport.prefix right, and nobody else writes there?")
