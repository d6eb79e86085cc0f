"""The stack's servers as processes: ready when it says so, heard when they fail, and never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pymysql
import pytest

from cdc import stack
from cdc.errors import Halt, Refused
from cdc.stack import Kafka, MariaDb, MariaDb114, MySql, Postgres, Settings, aptroot, docker, install, processes, server
from tests.helpers.servers import SourceDatabase, TargetDatabase

ROOT = Path(__file__).resolve().parents[2]
UP = "import sys, pathlib; from cdc import stack; stack.up(pathlib.Path(sys.argv[1]), sys.argv[2], kafka=sys.argv[3] == 'kafka')"
LENT = """
import sys, pathlib, time
from cdc import stack
with stack.lent(pathlib.Path(sys.argv[1]), sys.argv[2]):
    print("up", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "stack"
    yield place
    stack.down(place, purge=True)


def begin(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environ, start_new_session=True)


def mark(folder: Path) -> str:
    found: str = json.loads((folder / "stack.json").read_text())["mark"]
    return found


def ours(folder: Path) -> list[processes.Process]:
    return list(processes.marked(mark(folder))) if (folder / "stack.json").exists() else []


def becomes_true(condition: Callable[[], bool], timeout_seconds: float = 60.0) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mariadb", "mysql"])
def test_up_outlives_its_caller_and_down_leaves_nothing(folder, kind):
    starter = begin(UP, folder, kind, "kafka")
    _, errors = starter.communicate(timeout=200)
    assert (0, "") == (starter.returncode, errors)
    running = ours(folder)
    assert 3 <= len(running)
    assert 0o600 == stat.S_IMODE((folder / "env").stat().st_mode)
    assert sorted([kind, "postgres", "kafka"]) == sorted(stack.down(folder))
    assert [] == [process for process in running if process.alive()]
    assert [] == ours(folder)
    stack.down(folder, purge=True)
    assert not folder.exists()


@pytest.mark.slow
def test_up_again_keeps_ports_passwords_and_data_and_starts_what_crashed(folder):
    first = stack.up(folder, "mariadb")
    database = pymysql.connect(host="127.0.0.1", port=first.source.port, user="root", password=first.environ["CDC_SOURCE_ADMIN_PASSWORD"])
    with database, database.cursor() as cursor:
        cursor.execute("CREATE TABLE opendental.kept (id INT PRIMARY KEY)")
        cursor.execute("INSERT INTO opendental.kept VALUES (7)")
        database.commit()
    first.source.kill()
    assert first.source.process is None
    again = stack.up(folder, "mariadb")
    assert (first.source.port, first.target.port, first.environ) == (again.source.port, again.target.port, again.environ)
    reader = pymysql.connect(host="127.0.0.1", port=again.source.port, user="cdc", password=again.environ["CDC_SOURCE_PASSWORD"])
    with reader, reader.cursor() as cursor:
        cursor.execute("SELECT id FROM opendental.kept")
        assert ((7,),) == cursor.fetchall()
    target = f"postgresql://cdc:{again.environ['CDC_TARGET_PASSWORD']}@127.0.0.1:{again.target.port}/analytics"
    with psycopg.connect(target) as line:
        assert ("cdc",) == line.execute("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'analytics'").fetchone()
    with pytest.raises(Refused, match="another kind"):
        stack.up(folder, "mysql")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("when", ["preparing", "serving"])
def test_no_orphan_is_left_when_the_starter_is_ended_while_it_starts(folder, how, when):
    # MySQL prepares for seconds after PostgreSQL serves: the moment between is what a careless clean-up misses
    served = folder / "postgres" / "process.json"
    starter = begin(UP, folder, "mysql", "kafka")
    try:
        assert becomes_true(lambda: bool(ours(folder)) if when == "preparing" else served.exists())
        os.killpg(starter.pid, how)
        starter.wait(60)
    finally:
        starter.kill()
        starter.communicate()
    assert 0 != starter.returncode
    assert becomes_true(lambda: not ours(folder))
    guard = processes.recorded(folder / "guard.json")
    assert guard is None or processes.gone(guard, 30)


@pytest.mark.slow
def test_a_lent_stack_ends_with_its_owner_even_when_that_is_killed(folder):
    owner = begin(LENT, folder, "mariadb")
    try:
        assert owner.stdout is not None
        assert owner.stderr is not None
        assert "up\n" == owner.stdout.readline(), owner.stderr.read()
        assert 2 <= len(ours(folder))
    finally:
        owner.kill()
        owner.communicate()
    assert becomes_true(lambda: not ours(folder))


BROKEN = {
    "mariadb": ("--no-such-option=1", "unknown variable"),
    "mysql": ("--no-such-option=1", "unknown variable"),
    "postgres": ("no_such_option = 1", "unrecognized configuration parameter"),
    "kafka": ("num.network.threads=none", "num.network.threads"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_server_that_fails_to_start_shows_what_it_said(private, kind):
    option, words = BROKEN[kind]
    with pytest.raises(Halt, match=words) as failed:
        private(kind, options=(option,))
    assert "stack_start" == failed.value.code
    assert kind in failed.value.place


def test_a_server_that_is_not_ready_in_time_is_ended(private, monkeypatch):
    monkeypatch.setattr(server.Server, "start_seconds", 0.0)
    monkeypatch.setattr(Postgres, "ready", lambda self: False)
    with pytest.raises(Halt, match="not ready within 0 s"):
        private("postgres")


def test_a_process_that_took_over_an_old_id_is_not_ours(tmp_path):
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        processes.record(tmp_path / "process.json", processes.Process(stranger.pid, 1))
        found = MariaDb(tmp_path, Settings(mark="none"))
        assert found.process is None
        found.kill()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_stubborn_process_is_ended_by_force(tmp_path):
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    deaf = processes.spawn([sys.executable, "-c", code], log=tmp_path / "log", mark=f"deaf {tmp_path}")
    assert becomes_true(lambda: "deaf" in (tmp_path / "log").read_text())
    assert not processes.end(deaf, signal.SIGTERM, 0.2)
    assert not deaf.alive()


def test_the_account_cdc_has_only_the_privileges_it_needs(private):
    source = private("mysql", databases=("opendental",))
    with contextlib.closing(SourceDatabase(source, "opendental")) as database:
        granted = {row[0] for row in database.execute("SHOW GRANTS FOR cdc")}
    assert {
        "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO `cdc`@`%`",
        "GRANT XA_RECOVER_ADMIN ON *.* TO `cdc`@`%`",
        "GRANT SELECT, LOCK TABLES ON `opendental`.* TO `cdc`@`%`",
    } == granted


def test_servers_listen_on_the_loopback_only(mariadb_server, mysql_server, postgres_server, kafka_server):
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, and the same as an IPv6 address
    for each in (mariadb_server, mysql_server, postgres_server, kafka_server):
        addresses = listening(each.process.pid)
        assert addresses, each.name
        assert loopback >= addresses, each.name


def listening(pid: int) -> set[str]:
    """The addresses, as /proc writes them, at which a process listens."""
    links = [str(place.readlink()) for place in Path(f"/proc/{pid}/fd").iterdir()]
    sockets = {link[8:-1] for link in links if link.startswith("socket:[")}
    lines = [line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]]
    return {fields[1].partition(":")[0] for fields in lines if fields[3] == "0A" and fields[9] in sockets}


def test_nothing_is_installed_where_that_is_forbidden(tmp_path, monkeypatch):
    monkeypatch.setenv("CDC_CACHE", str(tmp_path))
    monkeypatch.setenv("CDC_INSTALL", "0")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Refused, match="CDC_INSTALL=0"):
        aptroot.unpacked("MySQL", "mysql-server-core", tmp_path / "mysql")
    assert not (tmp_path / "mysql").exists()
    with pytest.raises(Refused, match="CDC_INSTALL=0"):
        MariaDb114(tmp_path / "server", Settings(mark="m")).install()
    assert not (tmp_path / f"mariadb-{MariaDb114.version}").exists()


def test_who_may_not_install_learns_all_packages_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("CDC_CACHE", str(tmp_path))
    monkeypatch.setattr("cdc.stack.install.shutil.which", lambda name, path=None: "/usr/bin/apt-get" if name == "apt-get" else None)
    monkeypatch.setattr("cdc.stack.postgres._bin", lambda name: None)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.delenv("CDC_INSTALL", raising=False)
    servers = [kind(tmp_path / kind.name, Settings(mark="m")) for kind in (MariaDb, MariaDb114, Postgres, Kafka)]
    with pytest.raises(Refused) as refused:
        install.demand({one.name: one.lacks() for one in servers})
    assert "apt-get install mariadb-server maven default-jre-headless postgresql" == refused.value.hint
    assert "mariadb, mariadb114, postgres, kafka" == refused.value.place
    with pytest.raises(Refused, match="only root may install them"):
        stack.up(tmp_path / "stack", kafka=True)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    install.demand({one.name: one.lacks() for one in servers})
    install.demand({"mariadb": ()})


def test_an_ordinary_user_s_make_names_everything_that_is_missing_in_one_line(tmp_path):
    """A machine with Python, but without venv, compiler and servers, and a user who is not root."""
    lacks = "*ensurepip*|*Python.h*) exit 1;; *--missing*) echo mariadb-server postgresql;;"
    programs = {"id": "echo 1000", "python3": f'case "$*" in {lacks} *) exec {sys.executable} "$@";; esac'}
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/bash", ROOT / "tools" / "prepare", "python3", tmp_path / "venv"],
        check=False, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    packages = "python3-venv gcc libc6-dev python3-dev mariadb-server postgresql"
    assert f"cdc: missing here, for root to install: apt-get install {packages}" == done.stderr.splitlines()[0]
    assert (1, False) == (done.returncode, (tmp_path / "venv").exists())


def test_package_sources_are_read_in_both_of_their_formats(tmp_path):
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "a.sources").write_text(
        "Types: deb\nURIs: http://one.example/debian\nSuites: stable stable-updates\nComponents: main\nSigned-By: /keys/a.gpg\n"
        "\nTypes: deb-src\nURIs: http://src.example/debian\nSuites: stable\n"
    )
    lines = "# deb http://no.example/ x main\ndeb [signed-by=/keys/b.gpg] http://two.example/ubuntu noble main\n"
    (tmp_path / "sources.list").write_text(lines)
    (tmp_path / "sources.list.d" / "c.list").write_text("deb http://three.example/ubuntu noble main universe\n")
    assert [
        ("http://one.example/debian", ["stable", "stable-updates"], "/keys/a.gpg"),
        ("http://two.example/ubuntu", ["noble"], "/keys/b.gpg"),
        ("http://three.example/ubuntu", ["noble"], ""),
    ] == aptroot.sources(tmp_path)


@pytest.mark.parametrize("kind", [MariaDb, MariaDb114, MySql, Postgres, Kafka])
def test_a_container_is_published_on_the_loopback_and_shows_no_password(tmp_path, kind):
    made = kind(tmp_path / kind.name, Settings(mark="m", admin_password="admin-pw", cdc_password="cdc-pw", docker=True))
    command = [str(part) for part in docker.command("cdc-x", made.port, made.image(), tmp_path / "secrets.env")]
    published = command[command.index("-p") + 1]
    assert f"127.0.0.1:{made.port}:{made.image().port}" == published
    assert "-pw" not in " ".join(command)
    assert 0o600 == stat.S_IMODE((tmp_path / "secrets.env").stat().st_mode)
    for place in made.image().files:
        assert 0o700 == stat.S_IMODE(place.parent.stat().st_mode)


def test_a_source_has_a_folder_for_temporary_tables_of_its_own(source):
    assert [(f"{source.server.folder}/tmp",)] == source.execute("SELECT @@tmpdir")


def test_the_identity_of_a_broker_may_begin_with_a_dash(private, monkeypatch):
    monkeypatch.setattr(uuid, "uuid4", lambda: uuid.UUID(int=0xFB << 120))
    assert private("kafka").ready()


def test_a_target_keeps_its_shared_memory_where_purge_finds_it(private):
    server = private("postgres", durable=True)
    with TargetDatabase(server, "cdc").connect() as line:
        assert ("mmap",) == line.execute("SHOW dynamic_shared_memory_type").fetchone()
    assert [] != list((server.data / "pg_dynshmem").iterdir())
