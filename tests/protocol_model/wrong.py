"""The wrong variants: each is one careless sentence that the protocol could have said, and the model must catch it."""

from __future__ import annotations

from enum import Enum


class Wrong(Enum):
    """The value says what the variant does."""

    # capture
    POSITION_BEFORE_ACK = "capture saves its position when it has read, not when the cut is acknowledged"
    CUT_BEFORE_ACK = "a cut is written while records below it are still in flight"
    BARRIER_WITHOUT_CUT = "a barrier is written without a cut before it"
    RECORDS_WITHOUT_EPOCH = "the sink takes records by number alone and a base does not reset its numbers"
    COVERED_BY_LAST_NUMBER = "a restart trusts the last number in a partition instead of the records the cut names"
    LOSS_UNNOTICED = "capture never checks that the partitions still hold what its last cut names"
    ENDS_UNCHECKED = "capture goes on when a record lands below the end that its base stated"
    NEWEST_CUT_VOID_OR_NOT = "a restart takes the newest held cut, void or not"
    START_AT_NOW = "after the load capture starts at the log's end"
    START_AT_NOW_UNREFUSED = "the same, and the sink accepts a base beyond its position"
    MARK_UNCHECKED = "the sink does not check that the control topic still holds the record it stands behind"
    # partial cuts
    PARTIAL_COMMITTED = "the sink commits at a partial cut"
    PARTIAL_RESTART = "a restart takes a partial cut"
    PIECES_KEPT = "the sink keeps the pieces of its open transaction across a base"
    # voidness by number
    VOID_BY_POSITION = "a base voids control records by position, not by number"
    NO_VOID_BY_BASE = "a base voids nothing"
    SKIP_BY_CUT = "what is applied already is skipped cut by cut"
    NO_SKIP = "what is applied already is not skipped"
    SKIP_FORGOTTEN = "a restarted sink does not skip what is applied already until it meets a base"
    EPOCH_FORGOTTEN = "a restarted sink takes any epoch until it meets a start"
    BARRIER_TWICE = "a barrier is not skipped by its position"
    # fence and commit
    NO_FENCE = "the sink does not check the fence"
    FENCE_WITHOUT_LOCK = "the sink reads the fence without a row lock"
    ROWS_FIRST = "rows are committed before the positions"
    POSITIONS_FIRST = "positions are committed before the rows"
    POSITIONS_IN_MEMORY = "the sink keeps its positions in memory"
    BLIND_REPLAY = "the sink repeats a commit whose outcome it does not know"
    # initial load and copies
    CARELESS_P = "P is read on the writing side"
    Q_FROM_EXECUTED = "Q is read from what the server says is executed"
    APPLY_WHILE_LOADING = "the sink applies while the initial load runs"
    LOADER_WITHOUT_FENCE = "a chunk is written without the fence and its ledger row may be repeated"
    FLOOR_BY_CUT = "the floor is compared with the cut's position, not the transaction's"
    INEXACT_KEYLESS = "a table without a key is read although a commit is on its way"
    NO_WAIT_FOR_S = "a chunk is read before what capture has published is visible"
    NO_WAIT_FOR_CUTS = "a chunk is read when s is visible, although a void cut went further"
    CHUNK_OUTSIDE_CUT = "a chunk counts as done when it was read"
    NO_BARRIER = "a whole table is copied without emptying it"
    WHOLE_BEFORE_Q = "cuts inside a copy window are whole"
    KEYLESS_NO_FLOOR = "the sink does not take E as the floor"
    KEYLESS_NOT_EMPTIED = "the sink does not empty a table without a key before its rows"
    COPY_WITHOUT_EPOCH = "a copy record is taken whatever its epoch"
    # initial snapshot through the topics
    NEW_P_EACH_ATTEMPT = "each attempt of the snapshot begins at a new P"
    NEW_P_UNSTORED = "each attempt begins at a new P, and the sink stores nothing before the first whole cut"
    NEW_P_UNREFUSED = "the same, and the sink accepts any first base"
    CEILING_KEPT = "a base does not withdraw the ceiling of a copy that it goes behind"
    # XA
    XA_NO_FLOOR = "a restart begins at the position, not at the floor of what is prepared there"
    XA_AT_PREPARE = "the rows of an XA transaction are published at its PREPARE"
    XA_UNKNOWN_PASSED = "an XA COMMIT whose PREPARE was not read is passed over, and a restart knows no floor"
    XA_FLOOR_OF_NEWEST = "the floor is before the newest transaction that is prepared, not the oldest"
    XA_FLOOR_MOVES_EARLY = "the floor follows the reader while it reads again what it knew"
    XA_P_WHILE_PREPARED = "a load begins while an XA transaction is prepared, and its COMMIT is passed over"
    # schema barriers
    MAKE_WHOLE_BARRIER = "a barrier moves the position although rows of its transaction follow"
    CHUNK_SHAPE_UNCHECKED = "a chunk is taken although its columns are not those at s"
    # copies that go on
    COPY_GOES_ON = "a copy under way goes on at a restart although the base went back"
    SWAP_CHANGES_ONCE = "while a second table is filled, changes go into the first only"
    # direct transport
    DIRECT_READS_ON = "after a lost connection capture reads on where it was"
    DIRECT_MEMORY_KEPT = "after a rollback the sink goes on with what the topic still holds"
    DIRECT_COMMIT_MID_TRANSACTION = "a full memory is emptied by a commit inside a transaction"
    DIRECT_COMMIT_REPEATED = "a commit whose reply was lost is repeated"
    DIRECT_NO_FENCE = "the sink of the direct transport does not check the fence"
    DIRECT_START_AT_NOW = "a restart begins at the log's end"
    # several sinks
    SCALED_NO_FENCE = "a member that lost its partition commits all the same"
    SCALED_SHARED_POSITION = "what is applied already is skipped by one position for all partitions"
    SCALED_BARRIER_ALONE = "a barrier is applied by the first member that meets it"
    SCALED_BARRIER_EACH = "each member applies a barrier for itself"
    SCALED_BASE_ALONE = "each member enters a base by itself"
    # quarantine
    QUARANTINE_PASSED = "a change that fits passes those of its key that wait"
    QUARANTINE_FORGOTTEN = "a restarted sink does not know which keys are held"
    QUARANTINE_STALE = "the sink does not hear that somebody else released a key"
    QUARANTINE_UNLOCKED = "a replay reads the queue without the writers' lock"
    QUARANTINE_APART = "a change is queued in a transaction of its own"
    # several domains
    DOMAINS_KEPT = "the sink keeps its position at a cut that does not cover it"
    DOMAINS_TAKEN = "the sink takes every cut's position"
    DOMAINS_BY_NUMBER = "what is applied already is skipped by its number, whatever its domain"
