"""The lane's own judges can say no: a target that is tampered with is found out, and a proxy does what it is told."""

from __future__ import annotations

import io
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import fastavro
import pytest

from cdc import codec
from cdc.stack.probe import HOST
from cdc.state.shards import shard_of
from tests.crash import lane, oracle, planted
from tests.crash.__main__ import case_of, entry_of
from tests.crash.arena import Arena
from tests.crash.lane import Case, Run
from tests.crash.patience import Patience
from tests.crash.places import advanced
from tests.crash.plan import plan
from tests.crash.poller_of_shards import Shards, partition
from tests.crash.proxy import DOWN, UP, Proxy
from tests.crash.record import HELD, LEDGER, ROOT, Record
from tests.crash.workload import TABLES
from tests.crash.works import GROUP, PARTITIONS, SHARDS, Violation, until
from tests.helpers.preloaded import shared
from tests.protocol_model.wrong import Wrong

_MARIADB = {"flavour": "mariadb", "server": "1", "gtids": "0-1-9,2-1-3", "file": "b.000009", "offset": 90}
_MYSQL = {"flavour": "mysql", "server": "u", "gtids": "u:1-5:7,u:tag:1-3", "file": "b.000009", "offset": 90}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (_MARIADB, {**_MARIADB, "gtids": "0-2-10,2-1-3"}, True),
        (_MARIADB, {**_MARIADB, "gtids": "0-1-8,2-1-3"}, False),
        (_MARIADB, {**_MARIADB, "gtids": "0-1-9"}, False),
        (_MARIADB, {**_MARIADB, "file": "b.000010", "offset": 4}, True),
        (_MARIADB, {**_MARIADB, "offset": 89}, False),
        (_MYSQL, {**_MYSQL, "gtids": "u:1-7,u:tag:1-4"}, True),
        (_MYSQL, {**_MYSQL, "gtids": "u:1-6,u:tag:1-3"}, False),
        (_MYSQL, {**_MYSQL, "gtids": "u:1-9"}, False),
    ],
)
def test_a_position_advances_only_when_it_keeps_every_transaction(before: dict, after: dict, expected: bool) -> None:
    assert expected == advanced(before, after)


def test_a_seed_is_one_plan_and_another_seed_another() -> None:
    assert plan(7, "kafka") == plan(7, "kafka")
    assert 20 == len({plan(seed, "kafka") for seed in range(20)})
    assert plan(7, "kafka", GROUP) == plan(7, "kafka", GROUP) != plan(7, "kafka")
    assert {"apply 2", "apply"} < {fault.victim for seed in range(20) for fault in plan(seed, "kafka", GROUP).faults}


@pytest.mark.parametrize("key", [0, 1, -1, 63, 64, 9_000_000_000, -(1 << 63), (1 << 63) - 1])
def test_the_reader_of_shards_knows_as_the_product_does_where_a_row_belongs(key: int) -> None:
    """It counts by itself: were it wrong, it would see torn transactions where none are."""
    wanted = codec.placed(b"\0\0\0\0\7" + _zigzag(key), PARTITIONS)
    assert wanted == partition(7, key)
    shards = Shards("p.db", {"t": 7})
    assert shard_of(("p.db.t", wanted), SHARDS) == shards.of("t", key)
    assert shard_of(("p.db.t", 0), SHARDS) == shards.of_keyless("t")


def _zigzag(number: int) -> bytes:
    """A long as fastavro, which is none of ours, writes it."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema("long"), number)
    return out.getvalue()


def test_time_in_which_a_process_waits_for_a_processor_is_not_counted() -> None:
    """Several threads of one process want one processor all the time, against one that sleeps: only the sleeper's deadline comes."""
    burner = "import os, threading, time\nos.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\nprint(flush=True)\n"
    burn = "def burn():\n while True: sum(range(10000))\n[os.fork() for _ in range(2)]\nburn()"
    with subprocess.Popen([sys.executable, "-c", burner + burn], stdout=subprocess.PIPE, start_new_session=True) as busy:
        with subprocess.Popen(["sleep", "60"]) as asleep:
            assert busy.stdout is not None
            busy.stdout.readline()
            until = {busy: Patience(2, lambda: [busy.pid]), asleep: Patience(2, lambda: [asleep.pid])}
            while not until[asleep].over():
                until[busy].over()
                select.select([], [], [], 0.05)
            assert not until[busy].over()
            assert until[busy].starved_seconds > until[asleep].starved_seconds
            asleep.kill()
        os.killpg(busy.pid, signal.SIGKILL)


def test_what_is_born_is_a_child_that_can_be_waited_for_signalled_and_read(tmp_path: Path) -> None:
    nursery = shared({})
    for arguments, code in ((["--version"], 0), (["nonsense"], 2)):
        born = nursery.start(arguments, dict(os.environ), tmp_path / "log")
        assert code == born.wait(60)
        assert (tmp_path / "log").read_text()
    died = nursery.start(["--version"], {**os.environ, "CRASH_AT": "nowhere:1"}, tmp_path / "log")
    assert 1 == died.wait(60)
    assert "CRASH_AT" in (tmp_path / "log").read_text()


def test_a_run_is_a_short_line_that_says_how_to_do_it_again(tmp_path: Path) -> None:
    """And every line of the ledger that is kept is such a line."""
    cases = [
        Case(7, "mysql", "kafka"),
        Case(7, "mariadb", "direct", (("capture.cut", 2), ("apply.taken", 3))),
        Case(1, "mysql", "kafka", victim="target", times=10),
        Case(2, "mysql", "kafka", chosen=GROUP),
    ]
    record = Record(tmp_path / "ledger.jsonl")
    for case in cases:
        record.add({**entry_of(case), "result": HELD, "seconds": 1.0, "revision": "here"})
    record.add({**entry_of(cases[0]), "result": "violated", "why": "I1", "seconds": 1.0, "revision": "here"})
    assert cases == [case_of(entry) for entry in record.held("here")]
    assert [] == record.held("elsewhere")
    for entry in Record(LEDGER).entries():
        assert {"result", "seconds", "revision"} <= entry.keys()
        assert len(str(entry)) < 1000
        assert str(entry["seed"]) in str(case_of(entry))


@pytest.fixture
def echo() -> Iterator[Proxy]:
    """A proxy before a server that answers with what it hears."""
    door = socket.create_server((HOST, 0))

    def answer(line: socket.socket) -> None:
        with line, suppress(OSError):  # it may be reset
            while data := line.recv(1 << 16):
                line.sendall(data)

    def serve() -> None:
        while True:
            try:
                line, _ = door.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(line,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    proxy = Proxy(lambda: int(door.getsockname()[1]))
    yield proxy
    proxy.close()
    door.close()


def _line(proxy: Proxy) -> socket.socket:
    return socket.create_connection((HOST, proxy.port), 5)


def test_a_proxy_passes_stalls_cuts_and_heals(echo: Proxy) -> None:
    with closing(_line(echo)) as line:
        line.sendall(b"one")
        assert b"one" == line.recv(10)
        for way in (UP, DOWN):
            echo.stall(way)
            line.sendall(b"two")
            line.settimeout(0.3)
            with pytest.raises(TimeoutError):
                line.recv(10)
            echo.heal()
            line.settimeout(5)
            assert b"two" == line.recv(10)
        echo.cut()
        assert b"" == line.recv(10)
    with closing(_line(echo)) as line:
        assert b"" == line.recv(10)
    echo.heal()
    with closing(_line(echo)) as line:
        line.sendall(b"three")
        assert b"three" == line.recv(10)


def test_a_proxy_swallows_what_was_open_and_passes_what_is_new_until_it_swallows_all(echo: Proxy) -> None:
    with closing(_line(echo)) as old:
        old.sendall(b"one")
        assert b"one" == old.recv(10)
        echo.hush()
        old.sendall(b"two")
        with closing(_line(echo)) as new:
            new.sendall(b"three")
            assert b"three" == new.recv(10)
            echo.swallow()
            echo.heal()
            for line in (old, new):
                line.sendall(b"four")
                line.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    line.recv(10)


def test_a_proxy_resets(echo: Proxy) -> None:
    with closing(_line(echo)) as line:
        line.sendall(b"one")
        assert b"one" == line.recv(10)
        echo.reset()
        with pytest.raises(ConnectionResetError):
            line.recv(10)


@pytest.mark.parametrize(
    ("head", "everywhere", "expected"), [(b"\x0b\0\0\0\x12", False, 1), (b"\x0b\0\0\0\x03", False, 0), (b"x", True, 1)]
)
def test_a_proxy_turns_one_bit_over_only_where_a_checksum_covers_it(head: bytes, everywhere: bool, expected: int, echo: Proxy) -> None:
    echo.everywhere = everywhere
    echo.flip(1, 1)
    sent = head + b"\0" * 100
    with closing(_line(echo)) as line:
        line.sendall(sent)
        back = b""
        while len(back) < len(sent):
            back += line.recv(1000)
    assert expected == echo.flipped
    assert expected == sum((a ^ b).bit_count() for a, b in zip(sent, back, strict=True))


_TAMPERED = {
    "I1 account": "UPDATE account SET balance = balance + 1 WHERE id = 1",
    "I1 heap": "DELETE FROM heap WHERE ctid = (SELECT min(ctid) FROM heap)",
    "I2": "DELETE FROM ledger WHERE op = (SELECT min(op) FROM ledger)",
    "are there twice": "INSERT INTO audit SELECT * FROM audit LIMIT 1",
    "lack": "DELETE FROM audit WHERE ctid = (SELECT min(ctid) FROM audit)",
    "I8": "INSERT INTO cdc.anomaly (pipeline, db, \"table\", \"column\", reason, count) SELECT name, '', '', '', '', 1 FROM cdc.pipeline",
}
_SEEN = {
    "the money": "UPDATE account SET balance = balance + 1 WHERE id = 1",
    "in the audit": "INSERT INTO audit SELECT * FROM audit LIMIT 1",
    "stepped back": "UPDATE counter SET n = n - 1 WHERE k = 1",
    "large transactions": "UPDATE bulk SET op = -1 WHERE id = 1",
    "of statements that write three": "DELETE FROM trail WHERE ctid = (SELECT min(ctid) FROM trail)",
    "position went back": "UPDATE cdc.progress SET position = jsonb_set(position, '{offset}', '1')",
}


def _worked(run: lane.Run, transactions: int) -> None:
    """So many and a large one are done and applied, and the judgement is good."""
    run.works.start_all()
    run.work.grow()
    grown = "SELECT count(*) > 0 FROM bulk"
    until(lambda: run.work.done > transactions and run.works.place.source.execute(grown) == [(1,)], run.works.patience(60), "work")
    run.work.close()
    oracle.arrived(run.works, run.work.last())
    oracle.judge(run.works, run.work)


@pytest.mark.soak
def test_a_target_that_is_tampered_with_is_found_out(tmp_path: Path) -> None:
    """The oracle by what is there at rest, the reader by what was there for a moment."""
    with Arena(private=False).place("mariadb", "direct") as place:
        with lane.beginning(place, Case(11, "mariadb", "direct", (("capture.cut", 1),)), tmp_path / "pipeline") as run:
            _worked(run, 30)
            run.works.kill("run")
            for expected, sql in _SEEN.items():
                _seen(run, expected, sql)
            run.poller.close()
            for expected, sql in _TAMPERED.items():
                _undone(run, sql, lambda wanted=expected: _judged(run, wanted))  # type: ignore[misc]
            assert run.poller.whole
            run.works.start_all()
            run.works.await_cut(run.works.cut_no())
            with pytest.raises(Violation, match="I7"):  # although an idle log is cut all the time
                oracle.arrived(run.works, -1, seconds=3)


_SEEN_OF_SHARDS = {
    "shard 0 went back": "UPDATE cdc.shard SET fence = fence - 1",
    "shard 1 went back": "UPDATE cdc.shard SET position = jsonb_set(position, '{offset}', '1')",
    "is shown, and shard": "UPDATE cdc.progress SET position = jsonb_set(position, '{offset}', '1000000000')",
    "position went back": "UPDATE cdc.progress SET position = jsonb_set(position, '{offset}', '1')",
    "counter 1 stepped back": "UPDATE counter SET n = n - 1 WHERE k = 1",
    "rows of wound are gone": "DELETE FROM wound WHERE id = 3",
    "of the audit are there twice": "INSERT INTO audit SELECT * FROM audit LIMIT 1",
    "of statements that write three": "DELETE FROM trail WHERE ctid = (SELECT min(ctid) FROM trail)",
    "in the audit of the same shard": "DELETE FROM audit WHERE ctid IN (SELECT min(ctid) FROM audit GROUP BY k)",
    "in one of ledger and audit": "DELETE FROM ledger WHERE op % 1000000000 < 20",
    "large transactions in shard": "UPDATE bulk SET op = -1 WHERE id < 20",
    "are not in ledger": "DELETE FROM ledger WHERE op = (SELECT max(op) FROM ledger WHERE kind = 'transfer')",
}


@pytest.mark.soak
def test_a_target_of_several_sinks_that_is_tampered_with_is_found_out(tmp_path: Path) -> None:
    """Their reader lets pass what is torn between shards, and nothing else."""
    case = Case(12, "mariadb", "kafka", chosen=GROUP)
    with Arena(private=False).place("mariadb", "kafka") as place, lane.beginning(place, case, tmp_path / "pipeline") as run:
        run.works.load()
        _worked(run, 60)
        assert [] == run.poller.faults
        for command in run.works.commands:
            run.works.kill(command)
        for expected, sql in _SEEN_OF_SHARDS.items():
            _seen(run, expected, sql)
        run.poller.faults.clear()
        looks, torn = run.poller.whole, "UPDATE account SET balance = balance - 1 WHERE id = 1"
        _undone(run, torn, lambda: until(lambda: run.poller.whole > looks + 2, run.works.patience(30), "looks at a torn transaction"))
        assert [] == run.poller.faults


def _seen(run: Run, expected: str, sql: str) -> None:
    looks, faults = run.poller.whole, run.poller.faults
    until(lambda: run.poller.whole > looks + 1, run.works.patience(30), "a look at the whole state")
    patience, known = run.works.patience(30), len(faults)
    _undone(run, sql, lambda: until(lambda: any(expected in fault for fault in faults[known:]), patience, f"a fault that says {expected}"))


def _judged(run: Run, expected: str) -> None:
    with pytest.raises(Violation, match=expected):
        oracle.judge(run.works, run.work)


def _undone(run: Run, sql: str, while_so: Callable[[], object]) -> None:
    """Change the target, look, and put it back: from a copy of what is changed."""
    target = run.works.place.target
    schema = run.works.name
    table = next(word for word in sql.split() if word in (*TABLES, "cdc.progress", "cdc.anomaly", "cdc.shard"))
    with target.connect(options=f"-c search_path={schema}") as line:
        line.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM {table}".encode())
        line.execute(sql.encode())
        while_so()
        with line.transaction():
            line.execute(f"DELETE FROM {table}".encode())
            line.execute(f"INSERT INTO {table} SELECT * FROM pg_temp.kept".encode())


def test_each_wrong_variant_of_the_model_is_planted_once_where_it_says_or_says_why_not() -> None:
    assert set(Wrong) == set(planted.MUTANTS) | set(planted.NOT_PLANTED)
    assert not set(planted.MUTANTS) & set(planted.NOT_PLANTED)
    for wrong, mutant in planted.MUTANTS.items():
        assert mutant.cases, wrong
        for change in mutant.changes:
            assert 1 == (ROOT / change.path).read_text().count(change.old), (wrong, change)
