"""PostgreSQL as the target: one database, one account that owns it."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from cdc.errors import Refused
from cdc.stack import docker, install, probe
from cdc.stack.files import hidden
from cdc.stack.server import Server

ACCESS = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"


class Postgres(Server):
    """PostgreSQL, any supported version, from the system. It refuses to run as root,
    so it runs as a user of its own then."""

    name = "postgres"
    clean_signal = signal.SIGINT  # "fast": ends sessions, then writes a checkpoint
    crash_signal = (
        signal.SIGQUIT
    )  # "immediate": no checkpoint, recovery at the next start; SIGKILL would leave shared memory behind

    def ready(self) -> bool:
        return probe.postgres(self.port)

    def lacks(self) -> tuple[str, ...]:
        return () if _bin("initdb") else ("postgresql",)

    def install(self) -> None:
        if _bin("initdb") is None:
            with install.alone():
                if _bin("initdb") is None:
                    install.apt("PostgreSQL", "postgresql")

    def user(self) -> str:
        return _account() if os.geteuid() == 0 else ""

    @property
    def data(self) -> Path:
        """In the server's folder; where its user cannot get there (beneath /root),
        in the folder for temporary files."""
        return (
            self.folder / "data" if self._reachable() else Path(tempfile.gettempdir()) / f"cdc-postgres-{self._short()}"
        )

    def prepare(self) -> None:
        self.data.mkdir(mode=0o700, parents=True)
        if user := self.user():
            shutil.chown(self.data, user, user)
        options = ["-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--auth=trust"]
        self.run(_needed("initdb"), "-D", self.data, *options, *([] if self.settings.durable else ["--no-sync"]))
        (self.data / "pg_hba.conf").write_text(ACCESS)
        with (self.data / "postgresql.conf").open("a") as file:
            file.write("\n".join(self.options()) + "\n")
        self.run(_needed("postgres"), "--single", "-D", self.data, "postgres", text="\n".join(self.statements()) + "\n")

    def statements(self) -> list[str]:
        """What is run before anybody can connect: one statement a line."""
        name = self.settings.target_database
        return [
            f"ALTER ROLE postgres PASSWORD '{self.settings.admin_password}'",
            f"CREATE ROLE cdc LOGIN PASSWORD '{self.settings.cdc_password}'",
            f'CREATE DATABASE "{name}" OWNER cdc',
        ]

    def options(self) -> list[str]:
        """The lines of postgresql.conf."""
        lines = [
            "listen_addresses = '127.0.0.1'",
            "unix_socket_directories = ''",
            "max_connections = 200",
            "timezone = 'UTC'",
        ]
        lines += ["max_wal_size = '2GB'", "shared_buffers = '256MB'", "log_line_prefix = '%m [%p] '"]
        lines += [
            "dynamic_shared_memory_type = mmap"
        ]  # in the data folder: a server that is dropped leaves nothing elsewhere
        if not self.settings.durable:
            lines += [
                "fsync = off",
                "full_page_writes = off",
                "synchronous_commit = off",
                "wal_level = minimal",
                "max_wal_senders = 0",
            ]
        if self.settings.tls:
            lines += ["ssl = on", *(f"ssl_{name}_file = '{self._own(name)}'" for name in ("cert", "key", "ca"))]
        return [*lines, *self.settings.options]

    def command(self) -> list[str | Path]:
        return [_needed("postgres"), "-D", self.data, "-p", str(self.port)]

    def image(self) -> docker.Image:
        first = hidden(self.folder / "docker", "first.sql", ";\n".join(self.statements()) + ";\n")
        return docker.Image(
            name="postgres:17",
            port=5432,
            data="/var/lib/postgresql/data",
            environ={"POSTGRES_PASSWORD": self.settings.admin_password},
            files={first: "/docker-entrypoint-initdb.d/first.sql"},
            arguments=("-c", "max_connections=200", "-c", "timezone=UTC"),
        )

    def _own(self, name: str) -> Path:
        """A certificate file as the server wants it: owned by its user, the key readable by nobody else."""
        place = self.data / f"tls-{name}.pem"
        place.touch(mode=0o600)
        if self.settings.tls is not None:
            place.write_bytes(Path(getattr(self.settings.tls, name)).read_bytes())
        if user := self.user():
            shutil.chown(place, user, user)
        return place

    def _reachable(self) -> bool:
        return os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in [self.folder, *self.folder.parents])

    def _short(self) -> str:
        return hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]


def _bin(name: str) -> Path | None:
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda place: float(place.parent.name), reverse=True
    )
    return install.find(name, *map(str, versions))


def _needed(name: str) -> Path:
    found = _bin(name)
    if found is None:
        raise Refused("stack_missing", name, "it is not on this machine", "apt-get install postgresql")
    return found


def _account() -> str:
    """The OS user for the server: PostgreSQL's usual one, made when it is missing."""
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        subprocess.run(
            ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", "postgres"],
            check=True,
        )
        return "postgres"
