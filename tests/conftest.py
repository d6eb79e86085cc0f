"""Real servers for tests. One set per run, shared by all workers; a database or a topic prefix of its own for each test.

    mariadb, mysql     a SourceDatabase: .name .url .flavour .host .port, .execute(*sql) and .connect() as root, .connect("cdc")
    source             the same, the test runs once on each
    mariadb114         the same on MariaDB 11.4, which starts when a test asks for it; `every_source`: once on each of the three
    postgres           a TargetDatabase: .name .url, .execute(*sql) and .connect() as cdc (its owner), .connect("postgres")
    kafka              a Broker: .bootstrap .prefix .topics() .secure(certificates, mechanism) for its TLS and SASL door
    certificates       files of the authority that signed what all these servers show: .ca .client_cert .client_key .stranger_ca
    pipeline           pipeline(source, postgres, [kafka], section={key: value}, ...) writes pipeline.toml and returns
                       .path .environ, .run("status", "--json"), .json("status"), .start("run") -> .output() .stop() .kill()
    private            private("mysql", options=("--gtid-mode=OFF",), durable=True, tls=None): a server of the test's own (a
                       `cdc.stack.Server`: .port .stop() .kill() .start()), for a test that needs other settings or breaks it
    own                a SourceDatabase on such a server, of the kind that the test is parametrized with (indirect=True)

A module whose statements would stop the pipelines of other tests (statement format, DDL nobody can classify) takes its servers from
`tests.helpers.own_servers`.

A server that cannot be had is a failure, never a skip. `CDC_REQUIRE_SERVERS=1` lets the run install what is missing; without it
nothing is ever installed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cdc.stack import Kafka, MysqlFamily, Postgres, Server
from tests import run
from tests.decisions import counter
from tests.helpers import pipelines
from tests.helpers.certificates import Certificates
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase, lent

_ANY_SERVER = frozenset({"source", "every_source", "private", "own"})
"""Fixtures that ask for one by its name."""


def pytest_configure(config: pytest.Config) -> None:
    counter.count_here()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell that starts us in the background does that, and children inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if run.FOLDER not in os.environ:  # else it is a worker's run, or one that `python -m tests.run` keeps for many
        run.open_run()
        config.add_cleanup(run.close_run)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        names = getattr(item, "fixturenames", ())
        params = getattr(getattr(item, "callspec", None), "params", {})
        if any(name in _ANY_SERVER or name.endswith("_server") for name in names) or params.get("transport") in run.KINDS:
            item.add_marker("server")


@pytest.fixture(scope="session")
def certificates() -> Certificates:
    return run.certificates()


@pytest.fixture(scope="session")
def mariadb_server() -> Server:
    return run.shared("mariadb")


@pytest.fixture(scope="session")
def mariadb114_server() -> Server:
    return run.shared("mariadb114")


@pytest.fixture(scope="session")
def mysql_server() -> Server:
    return run.shared("mysql")


@pytest.fixture(scope="session")
def postgres_server() -> Server:
    return run.shared("postgres")


@pytest.fixture(scope="session")
def kafka_server() -> Server:
    return run.shared("kafka")


@pytest.fixture
def mariadb(mariadb_server: MysqlFamily) -> Iterator[SourceDatabase]:
    with lent(SourceDatabase(mariadb_server)) as database:
        yield database


@pytest.fixture
def mariadb114(mariadb114_server: MysqlFamily) -> Iterator[SourceDatabase]:
    with lent(SourceDatabase(mariadb114_server)) as database:
        yield database


@pytest.fixture
def mysql(mysql_server: MysqlFamily) -> Iterator[SourceDatabase]:
    with lent(SourceDatabase(mysql_server)) as database:
        yield database


@pytest.fixture(params=["mariadb", "mysql"])
def source(request: pytest.FixtureRequest) -> SourceDatabase:
    database: SourceDatabase = request.getfixturevalue(request.param)
    return database


@pytest.fixture(params=["mariadb", "mariadb114", "mysql"])
def every_source(request: pytest.FixtureRequest) -> SourceDatabase:
    database: SourceDatabase = request.getfixturevalue(request.param)
    return database


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[TargetDatabase]:
    with lent(TargetDatabase(postgres_server)) as database:
        yield database


@pytest.fixture
def kafka(kafka_server: Kafka) -> Iterator[Broker]:
    broker = Broker(kafka_server)
    yield broker
    broker.drop()


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Callable[..., pipelines.Pipeline]]:
    made: list[pipelines.Pipeline] = []

    def write(*places: Any, **sections: Any) -> pipelines.Pipeline:
        made.append(pipelines.write(tmp_path / f"pipeline{len(made)}", *places, **sections))
        return made[-1]

    yield write
    for each in made:
        each.end()


@pytest.fixture
def private() -> Iterator[Callable[..., Server]]:
    made: list[Server] = []

    def start(kind: str, **changes: object) -> Server:
        made.append(run.private(kind, **changes))
        return made[-1]

    yield start
    for each in made:
        each.purge()


@pytest.fixture
def own(request: pytest.FixtureRequest) -> Iterator[SourceDatabase]:
    """On a server of the test's own, of the kind that the test is parametrized with."""
    server: Any = run.private(request.param)
    database = SourceDatabase(server)
    try:
        database.create()
        yield database
    finally:
        database.close()
        server.purge()  # what a failed test has left prepared would hold up a DROP DATABASE for a day
