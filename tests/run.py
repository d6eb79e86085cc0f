"""The servers of one test run: started by whichever worker asks first, shared by all, ended with the run, however it ends.

`python -m tests.run` keeps a run's servers for many short runs of pytest: it prints the variable to set, and ends them with itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from cdc.stack import SOURCES, Kafka, MariaDb114, MysqlFamily, Postgres, Server, Settings, guard, processes
from tests.helpers.certificates import Certificates, make
from tests.helpers.servers import PASSWORD, fresh_name

FOLDER = "CDC_TEST_RUN"
MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 6 << 30
KINDS: dict[str, type[Server]] = {**SOURCES, "mariadb114": MariaDb114, "postgres": Postgres, "kafka": Kafka}


def open_run() -> None:
    """Makes the run's folder, in memory if there is room (servers then commit durably at no cost), and posts its guard."""
    if os.environ.get("CDC_REQUIRE_SERVERS") != "1":
        os.environ.setdefault("CDC_INSTALL", "0")  # a plain `pytest` installs nothing
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_NEEDED
    folder = Path(tempfile.mkdtemp(prefix="cdc-tests-", dir=MEMORY if roomy else None))
    folder.chmod(0o711)  # PostgreSQL runs as another user
    os.environ[FOLDER] = str(folder)
    guard.post(mark(), processes.this(), folder, removes=True)


def close_run() -> None:
    """Ends every server of the run and removes what they kept."""
    folder = Path(os.environ.pop(FOLDER))
    guard.dismiss(folder)
    processes.sweep(str(folder), signal.SIGQUIT, 5.0)
    shutil.rmtree(folder, ignore_errors=True)


def folder() -> Path:
    return Path(os.environ[FOLDER])


def mark() -> str:
    return str(folder())


def certificates() -> Certificates:
    with _locked("certificates"):
        return make(folder() / "tls")


def shared(kind: str) -> Server:
    """The run's server of this kind: TLS beside plain connections, fast, and as durable as the memory it lives in."""
    place = folder() / kind
    settings = _settings()
    with _locked(kind):
        return started(kind, place, settings)


def private(kind: str, **changes: object) -> Server:
    """A server for one test, with settings of its own."""
    return private_in(folder() / fresh_name(), kind, changes)


def private_in(place: Path, kind: str, changes: Mapping[str, object]) -> Server:
    """The same, with its files in this folder."""
    values = {name: getattr(_settings(), name) for name in Settings.__slots__}
    return started(kind, place, Settings(**{**values, **changes}))


def started(kind: str, place: Path, settings: Settings) -> Server:
    server = KINDS[kind](place, settings)
    server.install()
    if issubclass(KINDS[kind], MysqlFamily) and not (place / "prepared").exists():
        shutil.copytree(_template(kind), server.data)
        (place / "prepared").touch()
    server.start()
    return server


def _template(kind: str) -> Path:
    """A source's data folder as its first preparation leaves it: made once for the run, because that takes MySQL seconds."""
    place = folder() / f"template-{kind}"
    with _locked(f"template-{kind}"):
        template = KINDS[kind](place, _settings())
        if not (place / "prepared").exists():
            template.prepare()
            (template.data / "auto.cnf").unlink(missing_ok=True)  # MySQL's uuid: every server shall have its own
            (place / "prepared").touch()
    return template.data


def _settings() -> Settings:
    return Settings(
        mark=mark(),
        admin_password=PASSWORD,
        cdc_password=PASSWORD,
        databases=("*",),
        target_database="cdc",
        durable=False,
        tls=certificates().server,
    )


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    with (folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    open_run()
    sys.stdout.write(f"export {FOLDER}={folder()}\n")
    sys.stdout.flush()
    try:
        signal.pause()
    finally:
        close_run()
