"""What a test gets of a server: a database or a prefix of its own, and the few verbs it needs."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg
import pymysql
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from pymysql.connections import Connection

from cdc.stack import Kafka, MysqlFamily, Postgres
from tests.helpers.certificates import Certificates

PASSWORD = "s3cret/#%40:word"  # every character that a URL could trip over


def fresh_name() -> str:
    """A name that no other test has."""
    return f"t_{secrets.token_hex(5)}"


@dataclass
class SourceDatabase:
    """A database of its own on a MariaDB or MySQL server, read by the account `cdc`, written by `root`."""

    server: MysqlFamily
    name: str = field(default_factory=fresh_name)
    user: str = "cdc"
    password: str = PASSWORD
    _admin: Connection[Any] | None = None

    @property
    def flavour(self) -> str:
        """ "mariadb" or "mysql"."""
        return self.server.flavour

    @property
    def host(self) -> str:
        return self.server.host

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def url(self) -> str:
        """For the configuration; the password is in the environment of `pipeline`."""
        return f"mysql://{self.user}:${{CDC_SOURCE_PASSWORD}}@{self.host}:{self.port}/"

    def connect(self, user: str = "root", **options: Any) -> Connection[Any]:
        """A new connection, by default as root, in this database, committing each statement."""
        options = {"database": self.name, "autocommit": True, "charset": "utf8mb4", **options}
        return pymysql.connect(host=self.host, port=self.port, user=user, password=PASSWORD, **options)

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Runs statements as root on one kept connection; returns the rows of the last."""
        rows: list[tuple[Any, ...]] = []
        with self._kept().cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = list(cursor.fetchall())
        return rows

    def create(self) -> None:
        with contextlib.closing(self.connect(database=None)) as line, line.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{self.name}` CHARACTER SET utf8mb4")

    def drop(self) -> None:
        self.close()
        with contextlib.closing(self.connect(database=None)) as line, line.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS `{self.name}`")

    def close(self) -> None:
        if self._admin is not None and self._admin.open:
            self._admin.close()
        self._admin = None

    def _kept(self) -> Connection[Any]:
        if self._admin is None:
            self._admin = self.connect()
        return self._admin


@dataclass
class TargetDatabase:
    """A PostgreSQL database of its own, owned by the account `cdc`."""

    server: Postgres
    name: str = field(default_factory=fresh_name)
    user: str = "cdc"
    password: str = PASSWORD

    @property
    def host(self) -> str:
        return self.server.host

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def url(self) -> str:
        """For the configuration; the password is in the environment of `pipeline`."""
        return f"postgresql://{self.user}:${{CDC_TARGET_PASSWORD}}@{self.host}:{self.port}/{self.name}"

    def connect(self, user: str = "cdc", **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """A new connection, by default as cdc, committing each statement."""
        options = {"dbname": self.name, "autocommit": True, **options}
        return psycopg.connect(host=self.host, port=self.port, user=user, password=PASSWORD, **options)

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Runs statements as cdc on a connection of their own; returns the rows of the last."""
        rows: list[tuple[Any, ...]] = []
        with self.connect() as line:
            for statement in statements:
                cursor = line.execute(statement.encode())
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def create(self) -> None:
        with self.connect("postgres", dbname="postgres") as line:
            line.execute(f'CREATE DATABASE "{self.name}" OWNER cdc'.encode())

    def drop(self) -> None:
        with self.connect("postgres", dbname="postgres") as line:
            line.execute(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)'.encode())


@dataclass
class Broker:
    """A Kafka broker and a topic prefix of its own."""

    server: Kafka
    prefix: str = field(default_factory=fresh_name)

    @property
    def bootstrap(self) -> str:
        return self.server.bootstrap

    def secure(self, certificates: Certificates, mechanism: str = "SCRAM-SHA-512") -> dict[str, str]:
        """The librdkafka settings for the broker's other door: TLS, and the account cdc by PLAIN or SCRAM-SHA-512."""
        return {
            "bootstrap.servers": f"{self.server.host}:{self.server.secure_port}",
            "security.protocol": "SASL_SSL",
            "sasl.mechanisms": mechanism,
            "sasl.username": "cdc",
            "sasl.password": PASSWORD,
            "ssl.ca.location": str(certificates.ca),
        }

    def topics(self) -> list[str]:
        """The topics under the prefix."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        return sorted(name for name in admin.list_topics(timeout=10).topics if name.startswith(self.prefix))

    def configure(self, topic: str, values: dict[str, str]) -> None:
        """Change settings of a topic."""
        entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in values.items()]
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for done in admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)]).values():
            done.result(30)

    def watermarks(self, topic: str) -> tuple[int, int]:
        """The first offset that partition 0 holds, and the one that comes next."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": f"{self.prefix}-looks"})
        try:
            low, end = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
        finally:
            consumer.close()
        return int(low), int(end)

    def delete(self, topic: str) -> None:
        """Take a topic away."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for done in admin.delete_topics([topic]).values():
            done.result(30)

    def drop(self) -> None:
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        topics = [name for name in admin.list_topics(timeout=10).topics if name.startswith(self.prefix)]
        for deleted in admin.delete_topics(topics).values() if topics else []:
            deleted.result(30)


AnyDatabase = TypeVar("AnyDatabase", SourceDatabase, TargetDatabase)


@contextlib.contextmanager
def lent(database: AnyDatabase) -> Iterator[AnyDatabase]:
    """The database exists for the length of a block."""
    database.create()
    try:
        yield database
    finally:
        database.drop()
