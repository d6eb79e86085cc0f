"""How each fault of a plan is done to a pipeline."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import psycopg
import pymysql

from tests.crash.arena import SOURCE, TARGET
from tests.crash.lane import Run
from tests.crash.plan import Fault
from tests.crash.points import SHARD, WAYS, grow
from tests.crash.proxy import DOWN, UP, Proxy
from tests.crash.works import GROUP, Violation, until
from tests.helpers.pipelines import Running

_WAKING_SECONDS = 120.0
_LOSERS = ("fenced", "server_id_taken", "superseded")
"""What one of two may say that were there at once."""


def do(run: Run, fault: Fault) -> None:
    """Do it, undo it where it lasts, and see to it that everything runs again."""
    time.sleep(fault.after_seconds)
    if run.works.way == GROUP:
        run.works.bury()
    run.works.start_all()
    _KINDS[fault.kind](run, fault)
    run.works.start_all()
    run.faults.append(str(fault))


def _crash(run: Run, fault: Fault) -> None:
    command = run.works.of(fault.victim)
    run.works.kill(command)
    run.works.start(command, f"{fault.point}:{fault.ordinal}")
    if WAYS[fault.point].provoke is grow or WAYS[fault.point].group == SHARD:
        with contextlib.suppress(Violation):  # it may not be given a shard
            WAYS[fault.point].provoke(run.works, run.work)
    with contextlib.suppress(Violation):  # it may have to stop first, for a fault that came before
        run.works.dies(command, 15, cuts=2 * fault.ordinal + 5)


def _kill(run: Run, fault: Fault) -> None:
    run.works.kill(run.works.of(fault.victim))
    time.sleep(fault.seconds)


def _stop(run: Run, fault: Fault) -> None:
    """An orderly end."""
    run.works.stop(run.works.of(fault.victim))


def _pause(run: Run, fault: Fault) -> None:
    process = run.works.processes[run.works.of(fault.victim)]
    _stopped_for(process.process.pid, fault.seconds)


def _zombie(run: Run, fault: Fault) -> None:
    """It is stopped, replaced, and woken: one of the two ends, and says why."""
    command = run.works.of(fault.victim)
    if not run.works.processes[command].alive:
        return
    sleeper = run.works.put_to_sleep(command)
    run.works.start(command)
    if _is_member(run, command):
        until(lambda: not run.works.works_on_a_shard(sleeper), run.works.patience(60), "others that have the shards of one who sleeps")
    before, deadline = run.works.cut_no(), time.monotonic() + 10
    while run.works.cut_no() <= before and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(fault.seconds)
    sleeper.process.send_signal(signal.SIGCONT)
    if _is_member(run, command):
        return  # it hears that its shard was taken, and is one member more, until the next fault
    other = run.works.processes[command]
    until(lambda: _ended(run, command, sleeper, other), run.works.patience(_WAKING_SECONDS), f"the end of one of two {command}")
    if sleeper.alive:
        run.works.note(command)
        run.works.processes[command] = sleeper
        run.works.sleepers.remove(sleeper)


def _twice(run: Run, fault: Fault) -> None:
    """A second one is started beside the first."""
    command = run.works.of(fault.victim)
    first = run.works.processes[command]
    second = run.works.start(command)
    if _is_member(run, command):
        run.works.sleepers.append(first)  # a third one, until the next fault
        return
    until(lambda: _ended(run, command, first, second), run.works.patience(_WAKING_SECONDS), f"the end of one of two {command}")
    loser, winner = (first, second) if not first.alive else (second, first)
    run.works.processes[command] = loser
    run.works.note(command)
    run.works.processes[command] = winner


def _ended(run: Run, command: str, one: Running, other: Running) -> bool:
    """Whether one of two has ended; a sink hears that it was replaced when it has something to write, so capture must work."""
    run.works.start_all(command)
    return not (one.alive and other.alive)


def _is_member(run: Run, command: str) -> bool:
    return run.works.way == GROUP and command in run.works.sinks


def _copy(run: Run, fault: Fault) -> None:
    """A table is to be copied anew while all goes on, in place or beside."""
    run.works.copy(fault.victim, *(["--swap"] if fault.detail else []))


def _session(run: Run, fault: Fault) -> None:
    """The server ends the sessions of our account."""
    place = run.works.place
    if fault.victim == TARGET:
        with contextlib.suppress(psycopg.Error), place.target.connect("postgres") as line:
            line.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name LIKE 'cdc %'"
            )
        return
    with contextlib.suppress(pymysql.err.MySQLError):
        for number, user in place.source.execute("SELECT id, user FROM information_schema.processlist"):
            if user == "cdc":
                with contextlib.suppress(pymysql.err.MySQLError):
                    place.source.execute(f"KILL {number}")


def _server(run: Run, fault: Fault) -> None:
    """A server is killed and comes back on its port."""
    server = run.works.place.servers[fault.victim]
    server.kill()
    if fault.victim == SOURCE:
        run.works.place.source.close()
    time.sleep(fault.seconds)
    server.start()


def _freeze(run: Run, fault: Fault) -> None:
    process = run.works.place.servers[fault.victim].process
    if process is not None:
        _stopped_for(process.pid, fault.seconds)


def _stopped_for(pid: int, seconds: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _weather(do: Callable[[Proxy, Fault], None], run: Run, fault: Fault) -> None:
    proxy = run.works.place.proxies[fault.victim]
    do(proxy, fault)
    time.sleep(fault.seconds)
    proxy.heal()


def _stall(proxy: Proxy, fault: Fault) -> None:
    proxy.stall(*((UP,), (DOWN,), ())[fault.detail - 1])


def _slow(proxy: Proxy, fault: Fault) -> None:
    proxy.slow(fault.detail / 1000, 1500)


def _flip(run: Run, fault: Fault) -> None:
    """Bits of what the server sends are turned over, where TLS or the log's own checksums must notice."""
    proxy = run.works.place.proxies[fault.victim]
    if not run.works.place.tls and fault.victim == TARGET:
        return  # nothing covers those bytes, and nothing is claimed of them
    proxy.everywhere = run.works.place.tls
    before = proxy.flipped
    proxy.flip(3, fault.detail)
    time.sleep(fault.seconds)
    proxy.heal()
    run.faults.append(f"{proxy.flipped - before} bits flipped")


_KINDS: Mapping[str, Callable[[Run, Fault], None]] = {
    "crash": _crash, "kill": _kill, "stop": _stop, "pause": _pause, "zombie": _zombie, "twice": _twice, "session": _session,
    "server": _server, "freeze": _freeze, "cut": partial(_weather, lambda proxy, _: proxy.cut()),
    "reset": partial(_weather, lambda proxy, _: proxy.reset()), "stall": partial(_weather, _stall), "slow": partial(_weather, _slow),
    "flip": _flip, "copy": _copy,
}  # fmt: skip


def skewed(seconds: int) -> dict[str, str]:
    """The environment in which a process's clock is off by so much; empty where libfaketime is not installed."""
    library = next((path for path in FAKETIME if Path(path).exists()), None)
    if not seconds or library is None:
        return {}
    return {"LD_PRELOAD": library, "FAKETIME": f"{seconds:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}


FAKETIME = ("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1")
