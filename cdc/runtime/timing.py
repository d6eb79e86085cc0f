"""Every duration that steers what is done when: one value each, in one place.

What a user may choose is in the configuration (`cdc/config/settings.py`); these are the rest, and nothing in a user's
hands should need them changed. `CDC_TIMING`, a JSON object of fields of `Timing`, replaces some of them in a process.
It is for tests, which make a week pass within seconds by it: it is read once, when this module is, and a key that is no
field, or a value that is no such number, is an error.

Ask for `timing.TIMES.<field>` where the value is needed, so that a test may put another `TIMES` in its place.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, fields, replace
from typing import Any

from cdc.errors import Refused

ENVIRONMENT = "CDC_TIMING"


@dataclass(frozen=True)
class Timing:
    """The durations; a field's unit is the end of its name."""

    # Capture.
    cut_seconds: float = 0.05
    """Under load a cut is written this often; an idle log is cut at once."""
    full_cut_seconds: float = 60.0
    """A cut this long after the last full one names all partitions,
    because an idle partition's last record may have expired."""
    near_us: int = 2_000_000
    """A transaction this young stands near the end of the log,
    also while the next ones have arrived (commit times are whole seconds)."""
    direct_wait_seconds: float = 0.2
    """In process: how often a writer that waits for room looks whether it shall stop."""
    heartbeat_seconds: float = 0.5
    """The source tells this often that it is there, unless `source.heartbeat_seconds` says another."""
    log_silence_seconds: float = 5.0
    """A source that sends nothing this long (and for three heartbeats) is lost."""
    log_write_seconds: int = 600
    """How long the source waits for a reader of its log that takes nothing (`net_write_timeout`)."""

    waited_seconds: float = 0.001
    """A read of the log's socket that took longer than this has waited: nothing was on its way."""
    quiet_seconds: float = 0.1
    """More than packets of the log take on their way."""
    clock_again_seconds: float = 10.0
    """A source's clock that is doubted is measured this often at most."""

    # Questions to the source.
    invisible_seconds: float = 15.0
    """A transaction is invisible for a few milliseconds after it is in the log;
    with a slow semi-synchronous replica, for its timeout."""
    decision_seconds: float = 5.0
    """How long a prepared XA transaction of which the log knows the outcome may stay in the source's list."""
    xa_shown_seconds: float = 0.2
    """How long a window waits for XA transactions that are decided in the log and still listed as prepared."""
    exact_seconds: float = 30.0
    """How long an exact read of a table waits for a moment without an XA transaction half-way."""
    exact_on_the_way_seconds: float = 1.0
    """The same beside the stream, where the log is followed on and the read is tried again."""
    decision_poll_seconds: float = 0.02
    """How often that list is read meanwhile."""

    # Copies while the log is followed.
    piece_seconds: float = 0.05
    """How long one statement of such a copy may read; the log waits meanwhile."""
    hear_seconds: float = 0.25
    """Requests and pauses are looked for this often."""
    shown_seconds: float = 1.0
    """So long a window waits for the server to show what its log holds; then the log is followed on for a while."""
    shown_poll_seconds: float = 0.001
    """How often it looks meanwhile."""
    window_poll_seconds: float = 0.05
    """The same for the first copy through the topics."""

    # Reading tables.
    locking_read_seconds: float = 0.006
    """Engines whose readers hold up writers: how long one statement may read, our own part included."""
    read_seconds: float = 0.5
    """How long one statement may read from the other engines."""
    scout_seconds: float = 0.003
    """A span's bound is looked up by stepping through the key's index alone, which locks as a read does:
    half as long as one."""
    chunk_seconds: float = 1.0
    """What a load has read is committed at least this often."""
    load_look_seconds: float = 1.0
    """How often a load looks at the source's load, and whether it is paused."""
    load_nap_seconds: float = 0.1
    """How often a load that rests looks whether it shall stop."""
    longest_rest_seconds: float = 4.0
    """The longest rest between two reads, a ration of rows aside."""
    tell_seconds: float = 10.0
    """A load's progress is logged this often."""
    rate_seconds: float = 30.0
    """A load's rate, as a person sees it, is that of the last so many seconds."""
    recent_seconds: int = 60
    """Rates in `cdc status` are those of the last so many seconds."""
    verify_locking_seconds: float = 0.015
    """The proof: how long one statement may read where readers hold up writers."""
    verify_seconds: float = 0.5
    """The proof: how long one statement may read from the other engines."""

    # The broker.
    retention_ms: int = 7 * 24 * 3600 * 1000
    """How long a data topic keeps a record; a control record is not compacted before."""
    away_seconds: float = 3.0
    """So long librdkafka may look for its brokers by itself before the work is undone and the outage shown."""
    call_seconds: float = 10.0
    """The longest wait for an answer of the broker."""
    ask_seconds: float = 1.0
    """One try of the question whether a broker answers."""
    settle_poll_seconds: float = 0.05
    """A topic that was just made is asked for its leader this often."""
    first_wait_seconds: float = 0.2
    """Reading what a partition holds: the wait for the next record until the owner is asked whether to stop."""
    flush_poll_seconds: float = 0.05
    """The same, while deliveries are awaited."""
    poll_silence_seconds: float = 5.0
    """An answer that long overdue (heartbeat cuts come twice a second) is a reason to ask whether the broker is there
    at all."""
    close_seconds: float = 2.0
    """How long a consumer may take to close before it is left behind."""
    group_close_seconds: float = 3.0
    """The same for a member of a group, which says goodbye."""
    reconnect_longest_ms: int = 1_000
    """librdkafka's pause between tries to connect; by default ten seconds:
    so long would a broker that is back go unnoticed."""
    answer_seconds: float = 30.0
    """How long an answer of a broker or registry may take, unless `transport.answer_timeout_seconds` says another."""
    answer_longest_ms: int = 300_000
    """librdkafka's own bound of that."""
    delivery_ms: int = 0
    """librdkafka's `message.timeout.ms`: 0 is for ever."""
    linger_ms: int = 0
    """How long a batch waits for company in the producer."""
    fetch_queue_backoff_ms: int = 5
    """How long a full queue of fetched records rests."""
    fetch_error_backoff_ms: int = 50
    """How long a partition rests after an error."""
    fetch_wait_ms: int = 100
    """How long the broker may keep a fetch open for want of records."""
    fetch_held_ms: int = 1
    """The same where what is asked for is there already."""
    session_ms: int = 6_000
    """The least that brokers allow by default: so long a dead member of a group is not missed."""
    group_heartbeat_ms: int = 1_000
    """How often a member tells that it lives."""

    # The sink.
    idle_seconds: float = 0.2
    """The longest wait for records until the sink looks around."""
    retry_first_seconds: float = 0.02
    """The first pause before a batch that met a conflict is tried again; then up to twice as long each time."""
    retry_longest_seconds: float = 1.0
    """The longest such pause."""
    quarantine_window_seconds: float = 600.0
    """Refused and written keys are compared over this long, to tell a systemic fault from odd rows."""
    release_seconds: float = 30.0
    """How long the release of a key is tried while the target is away."""
    release_first_seconds: float = 0.05
    """The first pause between such tries."""
    release_longest_seconds: float = 2.0
    """The longest pause between them."""
    shards_look_seconds: float = 1.0
    """How often one of several sinks looks whether others have finished a table."""

    # The target.
    target_connect_seconds: int = 10
    """The longest wait for a connection to the target."""
    target_probe_seconds: float = 5.0
    """The same, where only the reason of a refusal is asked for."""
    target_lock_ms: int = 10_000
    """The longest wait for a lock (`lock_timeout`)."""
    target_truncate_ms: int = 1_000
    """So long readers of a table keep it from being emptied at once, and others wait behind."""
    target_idle_ms: int = 120_000
    """How long a transaction may idle: between two pieces of an oversized one
    (`idle_in_transaction_session_timeout`)."""
    answer_grace_seconds: float = 1.0
    """What a server has sent may be on its way so long after the server said that it waits for us; the source too."""

    # Processes and commands.
    presence_seconds: float = 5.0
    """A process tells the target this often that it runs."""
    presence_look_seconds: float = 0.5
    """It looks this often whether it does something else by now, or shall end."""
    presence_write_seconds: float = 60.0
    """So often it leaves a time there that outlives it."""
    last_words_seconds: float = 2.0
    """How long a process that ends tries to leave there why."""
    successor_seconds: float = 0.5
    """How long one whose connection was ended looks whether another process takes its place."""
    pause_first_seconds: float = 0.125
    """Half of the first pause after work that a server's absence ended; twice as long each time."""
    pause_longest_seconds: float = 15.0
    """The longest such pause."""
    healthy_seconds: float = 60.0
    """Work that lasted this long begins with the first pause again."""
    start_seconds: float = 30.0
    """How long a server may be away at the start, unless `pipeline.start_timeout_seconds` says another."""
    linger_seconds: float = 5.0
    """How long the half that takes what the other one made goes on after that one's end."""
    grace_seconds: float = 8.0
    """How long a process that shall stop may wait for a server before it ends regardless."""
    member_poll_seconds: float = 0.1
    """How often one of several sinks looks at its group."""
    handover_seconds: float = 5.0
    """So long a shard that was taken may finish what it does; then the one who gets it ends it."""
    loaded_poll_seconds: float = 0.5
    """How often a process that waits for the first copy looks whether it is done."""
    command_poll_seconds: float = 0.1
    """How often a command that waits for a copy looks."""
    repair_seconds: float = 600.0
    """How long a repair waits for a table's rows to be read again."""
    position_poll_seconds: float = 0.05
    """How often a command that waits for a position looks."""
    position_seconds: float = 60.0
    """How long the proof waits until the target has what the source has."""
    still_seconds: float = 5.0
    """A target that has not moved for so long, and is behind, is said to stand still."""
    flow_seconds: float = 60.0
    """What flows, and how late it is, is logged this often."""


def read(text: str | None) -> Timing:
    """The durations with those of a JSON object in place of the usual ones;
    Refused for what is no field or no such number."""
    try:
        given = json.loads(text) if text else {}
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise Refused("timing_malformed", ENVIRONMENT, "it is no JSON object", "it is for tests; unset it")
    return replace(Timing(), **{name: _checked(name, value) for name, value in given.items()})


def _checked(name: str, value: object) -> Any:
    usual = {field.name: field.default for field in fields(Timing)}.get(name)
    if usual is None:
        raise Refused(
            "timing_unknown", f"{ENVIRONMENT}: {name}", "there is no such duration", "cdc/runtime/timing.py lists them"
        )
    whole = isinstance(usual, int)
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not 0 <= value < math.inf:
        raise Refused(
            "timing_malformed", f"{ENVIRONMENT}: {name}", f"it is no {'whole ' if whole else ''}number from 0 on"
        )
    return value if whole else float(value)


TIMES = read(os.environ.get(ENVIRONMENT))
"""This process's durations."""
