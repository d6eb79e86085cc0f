"""Named points of the protocol at which a process can be made to die, for the proof that it may die anywhere.

`CRASH_AT=name:ordinal` in the environment ends the process by SIGKILL when it reaches that point for the ordinal-th
time, so that nothing is cleaned up; `CRASH_AT=name:ordinal:stop` stops it there (SIGSTOP), as a zombie that somebody
may wake later. Without the variable a point is a call of an empty function. Points stand where an order matters, never
in a loop over rows.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from itertools import count

VARIABLE = "CRASH_AT"

POINTS: Mapping[str, str] = {
    "migration.step": "a version of schema `cdc` is made, not committed",
    "migration.done": "schema `cdc` is committed, the pipeline is not known there yet",
    "fence.cleared": "the writers before us are ended, the fence is not raised",
    "fence.raised": "the fence is ours, the positions are not read",
    "fence.kept": "after a lost connection the fence is still ours, the positions are not read again",
    "target.locked": "a transaction about tables or loads holds the fence's lock, nothing is written",
    "target.sent": "statements are on their way and no answer is read: with a COMMIT among them its outcome is unknown",
    "target.stored": "rows and positions are written, the commit is not sent",
    "target.committed": "the target has committed, nobody was told",
    "load.floor": "the position P from which the log will be applied is taken, nothing is stored",
    "load.created": "a target table is made, not committed",
    "load.begun": "the load of a table is committed with its floor, no chunk is read",
    "load.read": "a key range is read, nothing of it is written",
    "load.written": "a key range is written in the open transaction of its chunk",
    "load.ledger": "a chunk and its ledger row are written, not committed",
    "load.chunk": "a chunk is committed, the loader does not know it yet",
    "load.keyless_read": "a table without a key is read at an exact position, nothing is written",
    "load.keyless_copied": "a table without a key is committed, its load is not finished",
    "load.given_up": "the load of a table that changed meanwhile is given up and its target is gone, not committed",
    "load.ceiling": "every chunk is in, the position Q is taken, nothing is stored",
    "load.finished": "the load of one table is finished, others may not be",
    "load.ended": "every load is finished, the first position is not stored",
    "load.stored": "the first position is committed, nothing streams",
    "schemas.registering": "a schema is not in the schemas topic, its record is not sent",
    "schemas.appended": "a schema's record is acknowledged, its id is not used",
    "kafka.topic_created": "the broker made a topic, nothing is in it",
    "kafka.produced": "a run of records is in the producer's queue, others of the same transaction may not be",
    "capture.started": "the start record is acknowledged, there is no base",
    "capture.prepared": "topics and schemas are there, the restart point is chosen, there is no base",
    "capture.based": "the base is acknowledged, nothing follows it",
    "capture.sending": "records bear their numbers, the transport has not got them",
    "capture.sent": "the transport has the records of one table, perhaps not those of the next",
    "capture.sent_within": "a part of a transaction was handed over, the rest of it is not read",
    "capture.acknowledging": "everything below a cut was handed over, nothing is known to be acknowledged",
    "capture.acknowledged": "everything below a cut is acknowledged, the cut is not written",
    "capture.cut": "a whole cut was handed over, perhaps not acknowledged",
    "capture.partial_cut": "a partial cut was handed over, perhaps not acknowledged",
    "capture.copying": "a copy through the topics may begin, no row of it is read",
    "capture.copy_announced": "the barrier of a table's copy is written, no row follows",
    "capture.table_copied": "every row of one table was handed over, others may be missing",
    "capture.copied": "every row is published, the log is not followed to Q",
    "copying.opened": "a copy's window is open while the log is followed: its chunk is not read",
    "copying.read": "a window's chunk is read and Q is taken, nothing of it is sent",
    "apply.opened": "the sink is the writer and knows the positions, it reads nothing yet",
    "apply.taken": "a batch, a base or a copy is assembled, nothing of it is done",
    "apply.entered": "a base is entered and its tables are known, nothing of that is committed",
    "apply.rewinding": "pieces of a transaction were undone because capture began again below them",
    "apply.emptied": "a table is emptied for its copy, in the open transaction",
    "apply.swapped": "a table is made equal to the one that its copy filled, in the open transaction",
    "apply.piece_written": "a piece of a large transaction is written in the open transaction",
    "apply.written": "the rows of a cut are written in the open transaction, the position is not",
    "apply.committed": "a cut is committed, the transport still holds it",
    "apply.released": "a cut is committed and the transport may forget it",
    "shard.dealt": "what one process had applied is dealt out to shards, not committed",
    "shard.cleared": "who worked on the shard before is ended, its fence is not raised",
    "shard.raised": "the shard's fence is ours, its place is not read",
    "shard.waiting": "the shard waits for the others at a record of the control topic",
    "shard.meeting": "what the record asks for is done for all shards in the open transaction",
    "shard.met": "all shards are committed beyond the record, none knows it yet",
    "shard.gathered": "all shards are one again, not committed",
    "quarantine.queued": "changes of a key that the target refuses, or that waits, are on their way to the queue, "
    "in the open transaction",
    "quarantine.known": "a sink knows again which keys wait, it applies nothing yet",
    "quarantine.replayed": "what waits for a key is written in the open transaction, and is still in the queue",
    "quarantine.released": "a key is taken out of the queue, by a replay or a discard, not committed",
    "quarantine.freed": "a key is free, and the sink that runs beside does not know it yet",
    "xa.held": "the rows of a prepared transaction are held, the position is not beyond them",
    "xa.decided": "the outcome of a prepared transaction is read, none of its rows is passed on",
    "xa.again": "the log was read again from the floor of a position up to it, nothing beyond it is read",
}
"""Every point, in the order in which a pipeline comes by, and what is true there."""


def _nowhere(name: str) -> None:
    """No point was chosen."""


def _armed(text: str) -> Callable[[str], None]:
    chosen, _, rest = text.partition(":")
    ordinal, _, how = rest.partition(":")
    if chosen not in POINTS or not ordinal.isdecimal() or int(ordinal) < 1 or how not in ("", "stop"):
        raise SystemExit(
            f"{VARIABLE}={text}: must be name:ordinal or name:ordinal:stop, with a name of docs/crash-points.md"
        )
    last, passed, end = int(ordinal), count(1), signal.SIGSTOP if how else signal.SIGKILL

    def point(name: str) -> None:
        if name == chosen and next(passed) == last:
            os.kill(os.getpid(), end)

    return point


point = _armed(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else _nowhere
"""Say that the process is at this point."""


def document() -> str:
    """docs/crash-points.md, whole."""
    prose = (__doc__ or "").partition("\n\n")[2].strip("\n")
    rows = [f"| `{name}` | {meaning} |" for name, meaning in POINTS.items()]
    made = "Made by `python -m cdc.runtime.crash_points > docs/crash-points.md`; a test holds them equal."
    head = ["# Crash points", "", made, ""]
    lane = [
        "",
        "`tests/crash` makes a process die at each of them, beside work, "
        "and lets an oracle of its own judge what is in the target:",
        "`make test` does each point once on one pair of source and transport that changes by the day, "
        "those of `shard.` excepted, where",
        "a group misses each member for six seconds; `make soak MINUTES=n` does each at its first three passings on "
        "all pairs, then kills",
        "of the servers and faults that follow from seeds ([decision 015](decisions/015-crash-lane.md)).",
        "What does not occur on a transport is listed with its reason in `WAYS` of `tests/crash/points.py`.",
        "",
    ]
    return "\n".join([*head, prose, *lane, "| point | what is true there |", "| --- | --- |", *rows, ""])


if __name__ == "__main__":
    sys.stdout.write(document())
