"""A whole stack: brought up together, written down in its folder, taken down by what was written."""

from __future__ import annotations

import contextlib
import fcntl
import json
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from cdc.errors import Refused
from cdc.stack import docker, guard, install, processes
from cdc.stack.files import read_env, write_private
from cdc.stack.kafka import Kafka
from cdc.stack.mysql import MariaDb, MySql, MysqlFamily
from cdc.stack.pipeline import pipeline_toml
from cdc.stack.postgres import Postgres
from cdc.stack.server import Server, Settings, Tls

SOURCES: dict[str, type[MysqlFamily]] = {"mariadb": MariaDb, "mysql": MySql}
PASSWORDS = ("CDC_SOURCE_PASSWORD", "CDC_TARGET_PASSWORD", "CDC_SOURCE_ADMIN_PASSWORD", "CDC_TARGET_ADMIN_PASSWORD")


@dataclass(frozen=True, slots=True)
class Stack:
    """Running servers and the files that tell a pipeline how to reach them."""

    folder: Path
    source: MysqlFamily
    target: Postgres
    kafka: Kafka | None
    environ: dict[str, str] = field(repr=False)
    """The content of `env`: passwords, for `${NAME}` in the configuration and for whoever plays the practice."""

    @property
    def config(self) -> Path:
        return self.folder / "pipeline.toml"

    @property
    def env(self) -> Path:
        return self.folder / "env"

    @property
    def servers(self) -> list[Server]:
        return [server for server in (self.source, self.target, self.kafka) if server is not None]

    @property
    def source_admin_url(self) -> str:
        """The source's root account: it may write."""
        return f"mysql://root:{self.environ['CDC_SOURCE_ADMIN_PASSWORD']}@{self.source.host}:{self.source.port}/"

    @property
    def target_admin_url(self) -> str:
        """The target's superuser."""
        place = f"{self.target.host}:{self.target.port}/{self.target.settings.target_database}"
        return f"postgresql://postgres:{self.environ['CDC_TARGET_ADMIN_PASSWORD']}@{place}"


def up(
    folder: Path,
    source: str = "mariadb",
    kafka: bool = False,
    *,
    databases: Sequence[str] = ("opendental",),
    owner: processes.Process | None = None,
    durable: bool = True,
    tls: Tls | None = None,
) -> Stack:
    """Starts what does not run yet and returns when all of it is ready; nothing is left running if that fails.

    The stack outlives the caller, unless `owner` is given: then it ends with that process, however that process ends.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        notes = _notes(folder, source, kafka, tuple(databases), durable)
        stack = _stack(folder, notes, tls)
        if owner is not None or not all(server.process for server in stack.servers):
            _start(stack, notes["mark"], owner)
        write_private(stack.config, pipeline_toml(stack.source, stack.target, stack.kafka, databases))
        return stack


def down(folder: Path, purge: bool = False) -> list[str]:
    """Ends every process of the stack in `folder`, cleanly, and with `purge` removes all it kept;
    returns what was running."""
    folder = folder.resolve()
    if not (folder / "stack.json").exists():
        return []
    with _alone(folder):
        notes = json.loads((folder / "stack.json").read_text())
        stack = _stack(folder, notes, None)
        running = [server.name for server in stack.servers if server.process]
        guard.dismiss(folder)
        with ThreadPoolExecutor() as threads:
            list(threads.map(lambda server: server.purge() if purge else server.stop(), stack.servers))
        processes.sweep(notes["mark"], signal.SIGTERM, 15.0)
    if purge:
        _forget(folder)
    return running


@contextlib.contextmanager
def lent(
    folder: Path,
    source: str = "mariadb",
    kafka: bool = False,
    *,
    databases: Sequence[str] = ("opendental",),
    keep: bool = False,
) -> Iterator[Stack]:
    """A stack for the length of a block; gone afterwards, with its data unless `keep`,
    even if this process is killed within."""
    stack = up(folder, source, kafka, databases=databases, owner=processes.this())
    try:
        yield stack
    finally:
        down(folder, purge=not keep)


def _start(stack: Stack, mark: str, owner: processes.Process | None) -> None:
    """All servers at once: each spends most of its start waiting."""
    ours = [server for server in stack.servers if not server.settings.docker]
    install.demand({server.name: server.lacks() for server in ours})
    guard.dismiss(stack.folder)
    guard.post(mark, owner or processes.this(), stack.folder)
    called_off = threading.Event()
    with ThreadPoolExecutor() as threads:
        try:
            for server in ours:
                server.install()
            for begun in [threads.submit(server.start, lambda: not called_off.is_set()) for server in stack.servers]:
                begun.result()
        except BaseException:
            called_off.set()
            processes.sweep(mark, signal.SIGTERM, 15.0)
            guard.dismiss(stack.folder)
            raise
    if owner is None:
        guard.dismiss(stack.folder)


def _stack(folder: Path, notes: dict[str, str], tls: Tls | None) -> Stack:
    environ = read_env(folder / "env")
    common = {
        "mark": notes["mark"],
        "durable": bool(notes["durable"]),
        "docker": bool(notes["docker"]) and tls is None,
        "tls": tls,
    }
    source = Settings(
        **common,  # type: ignore[arg-type]
        admin_password=environ["CDC_SOURCE_ADMIN_PASSWORD"],
        cdc_password=environ["CDC_SOURCE_PASSWORD"],
        databases=tuple(notes["databases"].split(",")),
    )
    target = Settings(
        **common,  # type: ignore[arg-type]
        admin_password=environ["CDC_TARGET_ADMIN_PASSWORD"],
        cdc_password=environ["CDC_TARGET_PASSWORD"],
    )
    return Stack(
        folder,
        SOURCES[notes["source"]](folder / notes["source"], source),
        Postgres(folder / "postgres", target),
        Kafka(folder / "kafka", source) if notes["kafka"] else None,
        environ,
    )


def _notes(folder: Path, source: str, kafka: bool, databases: tuple[str, ...], durable: bool) -> dict[str, str]:
    """What this stack is, settled by its first start."""
    place = folder / "stack.json"
    if source not in SOURCES:
        raise Refused("stack_source", source, "a source is one of " + ", ".join(SOURCES), "choose one with --source")
    if place.exists():
        notes: dict[str, str] = json.loads(place.read_text())
        if notes["source"] != source or (kafka and not notes["kafka"]):
            made = notes["source"] + (" with Kafka" if notes["kafka"] else "")
            raise Refused(
                "stack_other",
                str(folder),
                f"this folder holds a stack of another kind: {made}",
                "cdc down --purge first, or choose another --dir",
            )
        return notes
    write_private(folder / "env", "".join(f"{name}={secrets.token_hex(16)}\n" for name in PASSWORDS))
    notes = {"mark": f"{folder} {secrets.token_hex(8)}", "source": source, "kafka": "yes" if kafka else ""}
    notes |= {
        "databases": ",".join(databases),
        "durable": "yes" if durable else "",
        "docker": "yes" if docker.engine() else "",
    }
    write_private(place, json.dumps(notes))
    return notes


def _forget(folder: Path) -> None:
    """Removes what `up` wrote, and the folder itself if nothing else is in it."""
    for name in ("stack.json", "env", "pipeline.toml", "guard.json", "guard.log", "lock"):
        (folder / name).unlink(missing_ok=True)
    for name in (*SOURCES, "postgres", "kafka"):
        shutil.rmtree(folder / name, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One up or down at a time in a folder."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
