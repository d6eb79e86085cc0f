"""The table: what is enumerated, which wrong variants there are, and how each must be caught."""

from __future__ import annotations

from tests.protocol_model.scenario import ALTER, COMMIT_XA, MAKE, ROLLBACK_XA, TRUNCATE, Kind, Scenario, Start, Transaction, a, b, prepare
from tests.protocol_model.world import NO_FAULTS, Faults, TableA
from tests.protocol_model.wrong import Wrong

ONE = ((a(0, 1), a(1, None), b()),)
MINI = ((a(0, 1), b()),)
TWO = ((a(0, 1), b()), (a(1, 1), a(0, None)))
THREE = (*TWO, (b(-1),))
KEYLESS = ((b(),), (a(0, 1),), (b(),))
BARRIER = ((a(0, 1),), TRUNCATE, (a(1, 3), b()))
PAIR = ((a(0, 1), b()), (a(0, 2),))

ONE_KEY: tuple[TableA, int] = ((0, None), 1)
A_AND_B = (("A", "B"),)
KEY_AND_B = (("A0", "B"),)
TWO_CHUNKS = (("A0",), ("A1",))
ONLY_B = (("B",),)

STREAM = (
    Scenario("stream, capture crash", TWO, faults=Faults(crash=1)),
    Scenario("stream, two capture crashes", TWO, faults=Faults(crash=2), late=False),
    Scenario("stream, capture zombie", ONE, faults=Faults(zombie=1)),
    Scenario("stream, sink crash, sink zombie", TWO, faults=Faults(sink_crash=1, sink_zombie=1)),
    Scenario("stream, PostgreSQL loses two commits", THREE, faults=Faults(rewind=2)),
    Scenario("stream, broker loses a record", TWO, faults=Faults(loss=1)),
    Scenario("stream, broker loses two records", MINI, faults=Faults(loss=2)),
    Scenario("stream, table leaves the selection at a restart", TWO, faults=Faults(crash=1), unfollow=True),
    Scenario("stream, barrier, capture crash, sink crash", BARRIER, faults=Faults(crash=1, sink_crash=1)),
    Scenario("stream, barrier, broker loses a record", BARRIER, faults=Faults(loss=1)),
    Scenario("stream, pieces of a transaction, capture crash", ONE, faults=Faults(crash=1), pieces=True),
    Scenario("stream, pieces, broker loses a record", MINI, faults=Faults(loss=1), pieces=True),
    Scenario("stream, pieces, sink crash, PostgreSQL loses a commit", TWO, faults=Faults(sink_crash=1, rewind=1), pieces=True),
)  # fmt: skip
LOST_CONTROL = (
    Scenario(
        "stream, broker loses a control record and a data record", MINI, faults=Faults(control_loss=1, loss=1), late=False, may_stop=True
    ),
    Scenario("stream, broker loses two control records", PAIR, faults=Faults(control_loss=2), late=False, unfollow=True, may_stop=True),
    Scenario("copy, broker loses a control record", MINI, Start.COPY, Faults(control_loss=1), late=False, windows=ONLY_B, may_stop=True),
)  # fmt: skip
LOAD = (
    Scenario("load, replaced loader", TWO, Start.LOAD, Faults(loader_zombie=1)),
    Scenario("load, capture crash", MINI, Start.LOAD, Faults(crash=1)),
)
TOPICS = (
    Scenario("snapshot through topics", TWO, Start.TOPICS, windows=A_AND_B),
    Scenario("snapshot, capture crash", MINI, Start.TOPICS, Faults(crash=1), late=False, windows=KEY_AND_B, before=ONE_KEY),
    Scenario("snapshot, broker loses a record", MINI, Start.TOPICS, Faults(loss=1), late=False, windows=KEY_AND_B, before=ONE_KEY),
    Scenario("snapshot, sink crash, PostgreSQL loses a commit", ONE, Start.TOPICS, Faults(sink_crash=1, rewind=1), windows=A_AND_B),
)
COPY = (
    Scenario("copy of two chunks", TWO, Start.COPY, windows=TWO_CHUNKS),
    Scenario("copy, capture crash", MINI, Start.COPY, Faults(crash=1), late=False, windows=(("A",),)),
    Scenario("copy of two chunks, broker loses a record", MINI, Start.COPY, Faults(loss=1), late=False, windows=TWO_CHUNKS),
    Scenario("copy, broker loses a record", MINI, Start.COPY, Faults(loss=1), late=False, windows=(("A",),)),
    Scenario("copy over a barrier", BARRIER, Start.COPY, windows=TWO_CHUNKS),
    Scenario("copy of a table without a key, capture crash", MINI, Start.COPY, Faults(crash=1), late=False, windows=ONLY_B),
    Scenario("the same, late messages", MINI, Start.COPY, Faults(crash=1), windows=ONLY_B, slow=True),
    Scenario("copy of a table without a key, broker loses a record", MINI, Start.COPY, Faults(loss=1), windows=ONLY_B),
    Scenario("repair of a key, capture zombie", ((a(1, 1),),), Start.COPY, Faults(zombie=1), windows=(("A1",),), repair=True, slow=True),
    Scenario("repair of a key, broker loses a record", MINI, Start.COPY, Faults(loss=1), windows=(("A1",),), repair=True),
)


XA = (prepare(a(0, 1), b()), (a(1, 1),), COMMIT_XA)
XA_SHORT = (prepare(b()), (b(),), COMMIT_XA)
XA_TWO = (prepare(b()), prepare(a(0, 1)), COMMIT_XA, COMMIT_XA)
XA_UNDONE = (prepare(a(0, 1), b()), (b(),), ROLLBACK_XA)
ALTERED = ((a(0, 1),), ALTER, (a(1, 13), b()))
MADE = ((b(),), (MAKE, b(2)), (a(0, 1),))
XA_RUNS = (
    Scenario("XA, capture crash", XA, faults=Faults(crash=1)),
    Scenario("XA, two capture crashes", XA_SHORT, faults=Faults(crash=2), late=False),
    Scenario("XA rolled back, capture crash", XA_UNDONE, faults=Faults(crash=1), late=False),
    Scenario("XA, broker loses a record", XA, faults=Faults(loss=1), late=False),
    Scenario("two XA transactions, capture crash", XA_TWO, faults=Faults(crash=1), late=False),
    Scenario("XA, initial load", XA, Start.LOAD),
    Scenario("XA, copy of a table", XA, Start.COPY, windows=(("A",),)),
    Scenario("XA, copy of a table without a key", (prepare(b(2)), (b(),), COMMIT_XA), Start.COPY, windows=ONLY_B),
)
SCHEMA = (
    Scenario("schema change, capture crash, sink crash", ALTERED, faults=Faults(crash=1, sink_crash=1), late=False),
    Scenario("schema change, broker loses a record", ALTERED, faults=Faults(loss=1)),
    Scenario("schema change, sink zombie, PostgreSQL loses a commit", ALTERED, faults=Faults(sink_zombie=1, rewind=1)),
    Scenario("schema change with rows in its transaction, capture crash", MADE, faults=Faults(crash=1)),
    Scenario("schema change with rows in its transaction, sink crash", MADE, faults=Faults(sink_crash=1, rewind=1)),
    Scenario("copy across a schema change", ALTERED, Start.COPY, windows=TWO_CHUNKS),
)
SWAP = (
    Scenario("copy into a second table", TWO, Start.COPY, windows=TWO_CHUNKS, swap=True),
    Scenario("copy into a second table, capture crash", MINI, Start.COPY, Faults(crash=1), late=False, windows=(("A",),), swap=True),
    Scenario("copy into a second table, broker loses a record", MINI, Start.COPY, Faults(loss=1), late=False, windows=(("A",),), swap=True),
)


CRASH, LOSS, LOSSES = Faults(crash=1), Faults(loss=1), Faults(loss=2)
SINK_ZOMBIE, REWIND = Faults(sink_zombie=1), Faults(rewind=1)


def wrong(
    variant: Wrong,
    expected: Kind,
    transactions: tuple[Transaction, ...],
    start: Start = Start.STREAMING,
    faults: Faults = NO_FAULTS,
    windows: tuple[tuple[str, ...], ...] = (),
    pieces: bool = False,
    before: tuple[TableA, int] = ((0, 0), 1),
    repair: bool = False,
    late: bool = False,
    swap: bool = False,
) -> Scenario:
    """One wrong variant in the smallest scope that catches it, and how it must be caught."""
    return Scenario(
        variant.value, transactions, start, faults, late, windows, swap, repair, pieces, before=before, wrong=variant, expected=expected
    )  # fmt: skip


INCONSISTENT, DIFFERENT, STUCK, REFUSED, HOLE = Kind.INCONSISTENT, Kind.DIFFERENT, Kind.STUCK, Kind.REFUSED, Kind.HOLE
W, S = Wrong, Start

WRONG = (
    wrong(W.XA_NO_FLOOR, STUCK, XA, faults=CRASH),
    wrong(W.XA_AT_PREPARE, INCONSISTENT, XA),
    wrong(W.XA_UNKNOWN_PASSED, INCONSISTENT, XA, faults=CRASH),
    wrong(W.XA_FLOOR_OF_NEWEST, STUCK, XA_TWO, faults=CRASH),
    wrong(W.XA_P_WHILE_PREPARED, INCONSISTENT, XA, S.LOAD),
    wrong(W.MAKE_WHOLE_BARRIER, INCONSISTENT, MADE),
    wrong(W.BARRIER_WITHOUT_CUT, INCONSISTENT, ALTERED),
    wrong(W.BARRIER_TWICE, INCONSISTENT, ALTERED, faults=LOSSES),
    wrong(W.CHUNK_SHAPE_UNCHECKED, INCONSISTENT, ALTERED, S.COPY, windows=(("A",),)),
    wrong(W.SWAP_CHANGES_ONCE, INCONSISTENT, MINI, S.COPY, windows=(("A",),), swap=True),
    wrong(W.POSITION_BEFORE_ACK, REFUSED, TWO, faults=CRASH),
    wrong(W.CUT_BEFORE_ACK, STUCK, TWO, faults=CRASH),
    wrong(W.BARRIER_WITHOUT_CUT, INCONSISTENT, (*MINI, TRUNCATE)),
    wrong(W.RECORDS_WITHOUT_EPOCH, INCONSISTENT, MINI, S.COPY, CRASH, windows=ONLY_B, late=True),
    wrong(W.COVERED_BY_LAST_NUMBER, STUCK, KEYLESS, faults=Faults(crash=1, loss=1)),
    wrong(W.LOSS_UNNOTICED, STUCK, MINI, faults=LOSS),
    wrong(W.ENDS_UNCHECKED, HOLE, MINI, faults=Faults(crash=1, loss=1)),
    wrong(W.NEWEST_CUT_VOID_OR_NOT, REFUSED, MINI, faults=Faults(crash=2), late=True),
    wrong(W.START_AT_NOW, REFUSED, MINI, S.LOAD),
    wrong(W.START_AT_NOW_UNREFUSED, INCONSISTENT, MINI, S.LOAD),
    wrong(W.PARTIAL_COMMITTED, INCONSISTENT, ONE, pieces=True),
    wrong(W.PARTIAL_RESTART, REFUSED, ((b(),), (b(),)), S.TOPICS, CRASH, windows=(("B",),), before=((None, None), 1)),
    wrong(W.PIECES_KEPT, INCONSISTENT, ONE, faults=CRASH, pieces=True),
    wrong(W.VOID_BY_POSITION, STUCK, MINI, S.COPY, LOSS, windows=(("A",),)),
    wrong(W.NO_VOID_BY_BASE, STUCK, MINI, faults=LOSS),
    wrong(W.SKIP_BY_CUT, INCONSISTENT, TWO, faults=LOSS),
    wrong(W.NO_SKIP, INCONSISTENT, TWO, faults=LOSS),
    wrong(W.SKIP_FORGOTTEN, INCONSISTENT, MINI, faults=Faults(loss=1, sink_crash=1)),
    wrong(W.EPOCH_FORGOTTEN, STUCK, MINI, faults=CRASH, late=True),
    wrong(W.BARRIER_TWICE, INCONSISTENT, ((a(0, 1),), TRUNCATE, (a(0, 3),)), faults=LOSSES),
    wrong(W.NO_FENCE, INCONSISTENT, MINI, faults=SINK_ZOMBIE),
    wrong(W.FENCE_WITHOUT_LOCK, INCONSISTENT, MINI, faults=SINK_ZOMBIE),
    wrong(W.ROWS_FIRST, INCONSISTENT, MINI, faults=Faults(sink_crash=1)),
    wrong(W.POSITIONS_FIRST, INCONSISTENT, MINI, faults=Faults(sink_crash=1)),
    wrong(W.POSITIONS_IN_MEMORY, STUCK, TWO, faults=REWIND),
    wrong(W.BLIND_REPLAY, INCONSISTENT, MINI, faults=Faults(lost_reply=1)),
    wrong(W.CARELESS_P, INCONSISTENT, MINI, S.LOAD),
    wrong(W.Q_FROM_EXECUTED, INCONSISTENT, MINI, S.COPY, windows=(("A",),)),
    wrong(W.APPLY_WHILE_LOADING, INCONSISTENT, MINI, S.LOAD),
    wrong(W.LOADER_WITHOUT_FENCE, INCONSISTENT, MINI, S.LOAD, Faults(loader_zombie=1)),
    wrong(W.FLOOR_BY_CUT, INCONSISTENT, KEYLESS, S.LOAD),
    wrong(W.INEXACT_KEYLESS, INCONSISTENT, MINI, S.LOAD),
    wrong(W.INEXACT_KEYLESS, INCONSISTENT, MINI, S.COPY, windows=ONLY_B),
    wrong(W.NO_WAIT_FOR_S, INCONSISTENT, MINI, S.COPY, windows=(("A",),)),
    wrong(W.NO_WAIT_FOR_CUTS, INCONSISTENT, ((a(1, 1), b()),), S.COPY, LOSS, windows=(("A1",),), repair=True),
    wrong(W.CHUNK_OUTSIDE_CUT, INCONSISTENT, MINI, S.COPY, CRASH, windows=(("A",),)),
    wrong(W.NO_BARRIER, INCONSISTENT, MINI, S.COPY, windows=(("A",),), before=ONE_KEY),
    wrong(W.WHOLE_BEFORE_Q, INCONSISTENT, MINI, S.COPY, windows=(("A",),)),
    wrong(W.WHOLE_BEFORE_Q, INCONSISTENT, MINI, S.TOPICS, windows=KEY_AND_B, before=ONE_KEY),
    wrong(W.KEYLESS_NO_FLOOR, INCONSISTENT, MINI, S.TOPICS, windows=KEY_AND_B, before=ONE_KEY),
    wrong(W.KEYLESS_NOT_EMPTIED, INCONSISTENT, MINI, S.TOPICS, LOSS, windows=KEY_AND_B, before=ONE_KEY),
    wrong(W.COPY_WITHOUT_EPOCH, INCONSISTENT, MINI, S.COPY, CRASH, windows=ONLY_B, late=True),
    wrong(W.NEW_P_EACH_ATTEMPT, REFUSED, MINI, S.TOPICS, CRASH, windows=KEY_AND_B, before=ONE_KEY),
    wrong(W.NEW_P_UNSTORED, REFUSED, MINI, S.TOPICS, LOSS, windows=KEY_AND_B, before=ONE_KEY),
    wrong(W.NEW_P_UNREFUSED, INCONSISTENT, PAIR, S.TOPICS, LOSS, windows=KEY_AND_B, before=ONE_KEY),
)


def direct(name: str, faults: Faults, variant: Wrong | None = None, expected: Kind | None = None) -> Scenario:
    """A run over the direct transport, where every transaction goes through memory in pieces."""
    transactions = (*ONE, (a(0, 2), b()))
    return Scenario(name, transactions, faults=faults, wrong=variant, expected=expected, part="direct")


DISCONNECT = Faults(disconnect=1)
DIRECT = (
    direct("direct, two crashes, a zombie", Faults(crash=2, zombie=1)),
    direct("direct, lost connections, a commit lost, a reply lost", Faults(crash=1, disconnect=2, rewind=1, lost_reply=1)),
)
DIRECT_WRONG = (
    direct(W.DIRECT_READS_ON.value, DISCONNECT, W.DIRECT_READS_ON, INCONSISTENT),
    direct(W.DIRECT_MEMORY_KEPT.value, DISCONNECT, W.DIRECT_MEMORY_KEPT, INCONSISTENT),
    direct(W.DIRECT_COMMIT_MID_TRANSACTION.value, NO_FAULTS, W.DIRECT_COMMIT_MID_TRANSACTION, INCONSISTENT),
    direct(W.DIRECT_COMMIT_REPEATED.value, Faults(lost_reply=1), W.DIRECT_COMMIT_REPEATED, INCONSISTENT),
    direct(W.DIRECT_NO_FENCE.value, Faults(zombie=1), W.DIRECT_NO_FENCE, INCONSISTENT),
    direct(W.DIRECT_START_AT_NOW.value, Faults(crash=1), W.DIRECT_START_AT_NOW, STUCK),
)


def domains(name: str, variant: Wrong | None = None) -> Scenario:
    """Three transactions of two domains, on servers that log them in three orders; capture starts three times, the sink twice."""
    expected = None if variant is None else INCONSISTENT
    return Scenario(name, (), faults=Faults(crash=2, sink_crash=1), wrong=variant, expected=expected, part="domains")


DOMAINS = (domains("several domains, another server, a broker that lost cuts, sink crash"),)
DOMAINS_WRONG = tuple(domains(variant.value, variant) for variant in (W.DOMAINS_KEPT, W.DOMAINS_TAKEN, W.DOMAINS_BY_NUMBER))


def quarantine(name: str, variant: Wrong | None = None, expected: Kind | None = None) -> Scenario:
    """A key with five changes, two of which do not fit until a mend; replays before and after it; two crashes of the sink."""
    return Scenario(name, (), faults=Faults(sink_crash=2), wrong=variant, expected=expected, part="quarantine")


QUARANTINE = (quarantine("quarantine of a key, replays, two sink crashes"),)
QUARANTINE_WRONG = (
    quarantine(W.QUARANTINE_STALE.value, W.QUARANTINE_STALE, STUCK),
    *(
        quarantine(v.value, v, INCONSISTENT)
        for v in (W.QUARANTINE_PASSED, W.QUARANTINE_FORGOTTEN, W.QUARANTINE_UNLOCKED, W.QUARANTINE_APART)
    ),
)


def scaled(name: str, variant: Wrong | None = None, expected: Kind | None = None) -> Scenario:
    """A member for each partition, a barrier over both, a capture that goes back, a partition that changes its member."""
    transactions = ((a(0, 1), a(1, 1)), TRUNCATE, (a(1, 2),), (a(0, 3), a(1, 4)))
    return Scenario(name, transactions, faults=Faults(crash=2, sink_zombie=1), wrong=variant, expected=expected, part="scaled")


SCALED = (
    scaled("several sinks, two capture crashes, a partition changes its member"),
    scaled("harmless: each member enters a base by itself", W.SCALED_BASE_ALONE),
)
SCALED_WRONG = tuple(
    scaled(v.value, v, INCONSISTENT) for v in (W.SCALED_NO_FENCE, W.SCALED_SHARED_POSITION, W.SCALED_BARRIER_ALONE, W.SCALED_BARRIER_EACH)
)

MARK_UNCHECKED = Scenario(
    W.MARK_UNCHECKED.value, PAIR, faults=Faults(control_loss=2), late=False, unfollow=True, may_stop=True,
    wrong=W.MARK_UNCHECKED, expected=INCONSISTENT,
)  # fmt: skip
HARMLESS = (
    Scenario("harmless: careless P, as long as chunks wait for s", MINI, S.TOPICS, windows=KEY_AND_B, before=ONE_KEY, wrong=W.CARELESS_P),
    Scenario("harmless: a copy under way goes on below a base", MINI, S.COPY, LOSS, late=False, windows=TWO_CHUNKS, wrong=W.COPY_GOES_ON),
    Scenario("harmless: the floor follows the reader", XA_SHORT, faults=CRASH, late=False, wrong=W.XA_FLOOR_MOVES_EARLY),
    Scenario("harmless: the ceiling kept", MINI, S.COPY, LOSS, late=False, windows=(("A",),), wrong=W.CEILING_KEPT),
    Scenario(
        "harmless without a loss: P new, nothing stored", MINI, S.TOPICS, CRASH, late=False, windows=KEY_AND_B, before=ONE_KEY,
        wrong=W.NEW_P_UNSTORED,
    ),
)  # fmt: skip
"""Careless sentences that break nothing here: the rules they leave out are belts beside braces."""

RIGHT = (*STREAM, *LOST_CONTROL, *LOAD, *TOPICS, *COPY, *XA_RUNS, *SCHEMA, *SWAP, *DIRECT, *DOMAINS, *SCALED, *QUARANTINE, *HARMLESS)
ALL = (*RIGHT, *WRONG, MARK_UNCHECKED, *DIRECT_WRONG, *DOMAINS_WRONG, *SCALED_WRONG, *QUARANTINE_WRONG)
DEEP = (
    Scenario("XA, capture zombie", XA_SHORT, faults=Faults(zombie=1), late=False),
    Scenario("XA, copy of a table without a key, capture crash", XA_SHORT, Start.COPY, Faults(crash=1), late=False, windows=ONLY_B),
    Scenario("XA, capture crash, sink crash, late messages", XA, faults=Faults(crash=1, sink_crash=1)),
    Scenario("stream, capture crash, late messages, sink crash", THREE, faults=Faults(crash=1, sink_crash=1), in_flight=2),
    Scenario("stream, capture zombie, sink crash", TWO, faults=Faults(zombie=1, sink_crash=1)),
    Scenario("snapshot, capture crash, late messages", MINI, Start.TOPICS, CRASH, windows=KEY_AND_B, before=ONE_KEY),
    Scenario("snapshot, capture zombie", ((b(),),), Start.TOPICS, Faults(zombie=1), windows=ONLY_B, before=((None, None), 1)),
    Scenario("copy, capture crash, late messages", MINI, Start.COPY, CRASH, windows=(("A",),)),
    Scenario("copy of a table without a key, capture zombie", ((b(),),), Start.COPY, Faults(zombie=1), windows=ONLY_B),
    Scenario("copy of two chunks, capture crash", ONE, Start.COPY, CRASH, late=False, windows=TWO_CHUNKS),
    Scenario("copy over a barrier, capture crash", BARRIER, Start.COPY, CRASH, late=False, windows=(("A",),)),
)
"""Larger scopes: `python -m tests.protocol_model --deep` only."""
