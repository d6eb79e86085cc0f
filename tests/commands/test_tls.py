"""TLS to the source, the target and the broker, and SASL to the broker, through the real command with certificates made here."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from typing import Any

import pytest

from tests.helpers.pipelines import Pipeline
from tests.helpers.refusals import account, error, found, refused, rows, streaming, untouched
from tests.helpers.servers import SourceDatabase, lent

GRANTS = {
    "mysql": ("REPLICATION SLAVE, REPLICATION CLIENT, XA_RECOVER_ADMIN ON *.*",),
    "mariadb": ("REPLICATION SLAVE, BINLOG MONITOR ON *.*",),
}


@pytest.fixture
def table(source):
    source.execute("CREATE TABLE t (id int PRIMARY KEY, v varchar(50))", "INSERT INTO t VALUES (1, 'a')")
    return source


def only_encrypted(pipeline: Any, source: Any, postgres: Any, certificates: Any, broker: Any, mechanism: str, user: str) -> Pipeline:
    """A pipeline that verifies everybody."""
    settings = broker.secure(certificates, mechanism)
    made: Pipeline = pipeline(
        source, postgres, broker,
        source={"url": source.url.replace("cdc:", f"{user}:"), "ssl_mode": "verify_identity", "ssl_ca": certificates.ca},
        target={"url": f"{postgres.url}?sslmode=verify-full&sslrootcert={certificates.ca}"},
        transport={"bootstrap": settings.pop("bootstrap.servers"), "kafka": settings},
    )  # fmt: skip
    return made


@pytest.mark.parametrize(
    ("mechanism", "source"),
    [
        ("PLAIN", "mariadb"),
        ("SCRAM-SHA-512", "mysql"),
        pytest.param("SCRAM-SHA-512", "mariadb", marks=pytest.mark.soak),
        pytest.param("PLAIN", "mysql", marks=pytest.mark.soak),
    ],
    indirect=["source"],
)
def test_snapshot_stream_and_proof_with_everything_encrypted(table, postgres, kafka, pipeline, certificates, mechanism):
    with account(table, *GRANTS[table.flavour], f"SELECT ON `{table.name}`.*", require="SSL") as name:
        made = only_encrypted(pipeline, table, postgres, certificates, kafka, mechanism, user=name)
        assert [] == found(made)
        (running,) = streaming(made)
        table.execute("INSERT INTO t VALUES (2, 'b')", "UPDATE t SET v = 'c' WHERE id = 1")
        assert 0 == made.run("wait", "--timeout", "60").returncode
        assert [(1, "c"), (2, "b")] == rows(postgres, table.name)
        assert made.json("reconcile")["equal"]
        with postgres.connect("postgres") as line:
            lines = line.execute(_TARGET_LINES, [postgres.name]).fetchall()
        assert {True} == {ssl for (ssl,) in lines}
        assert 0 == running.stop()


_TARGET_LINES = """
SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.datname = %s AND a.application_name LIKE 'cdc %%'"""


@pytest.mark.parametrize("mode", ["required", "verify_ca", "verify_identity"])
def test_every_mode_that_demands_tls_reaches_the_source(table, postgres, pipeline, certificates, mode):
    made = pipeline(table, postgres, source={"ssl_mode": mode, "ssl_ca": certificates.ca})
    assert [] == found(made)


def test_a_source_signed_by_a_stranger_is_refused(table, postgres, pipeline, certificates):
    made = pipeline(table, postgres, source={"ssl_mode": "verify_ca", "ssl_ca": certificates.stranger_ca})
    said = refused(made, "run")
    assert ("source_tls", f"{table.host}:{table.port}") == (said["code"], said["place"])
    assert "source.ssl_ca" in said["hint"]
    untouched(postgres)


@pytest.fixture
def alias(table):
    """The source under an address that its certificate does not hold."""

    class Forward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((table.host, table.port)) as there:
                back = threading.Thread(target=_pour, args=(there, self.request), daemon=True)
                back.start()
                _pour(self.request, there)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.2", 0), Forward) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.2:{server.server_address[1]}"
        server.shutdown()


def _pour(source: socket.socket, into: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            into.sendall(data)
        into.shutdown(socket.SHUT_WR)


def test_a_source_of_another_name_is_refused_only_where_identity_is_demanded(table, alias, postgres, pipeline, certificates):
    url = table.url.replace(f"{table.host}:{table.port}", alias)
    tls = {"url": url, "ssl_ca": certificates.ca}
    identity, authority = (pipeline(table, postgres, source={**tls, "ssl_mode": mode}) for mode in ("verify_identity", "verify_ca"))
    assert ("source_tls", alias) == tuple(error(identity, "run")[part] for part in ("code", "place"))
    assert [] == found(authority)
    untouched(postgres)


def test_a_target_signed_by_a_stranger_is_refused(mariadb, postgres, pipeline, certificates):
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)")
    made = pipeline(mariadb, postgres, target={"url": f"{postgres.url}?sslmode=verify-full&sslrootcert={certificates.stranger_ca}"})
    said = refused(made, "run")
    assert "target_tls" == said["code"]
    assert postgres.name in said["place"]
    assert "sslrootcert" in said["hint"]
    untouched(postgres)


def test_a_broker_signed_by_a_stranger_is_refused(mariadb, postgres, kafka, pipeline, certificates):
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)")
    settings = {**kafka.secure(certificates), "ssl.ca.location": str(certificates.stranger_ca)}
    bootstrap = settings.pop("bootstrap.servers")
    made = pipeline(mariadb, postgres, kafka, transport={"bootstrap": bootstrap, "kafka": settings})
    for command in ("run", "capture", "apply"):
        said = error(made, command)
        assert ("broker_tls", f"kafka {bootstrap}") == (said["code"], said["place"])
    assert ["broker_tls"] == [one["code"] for one in found(made)]
    untouched(postgres, kafka)


def test_a_source_that_demands_tls_refuses_a_plain_connection(table, postgres, pipeline):
    with account(table, *GRANTS[table.flavour], f"SELECT ON `{table.name}`.*", require="SSL") as name:
        url = table.url.replace("cdc:", f"{name}:")
        said = error(pipeline(table, postgres, source={"url": url, "ssl_mode": "disabled"}), "run")
        assert "source_auth" == said["code"]
        assert [] == found(pipeline(table, postgres, source={"url": url, "ssl_mode": "required"}))
    untouched(postgres)


def test_a_source_without_tls_is_refused_where_it_is_demanded(private, postgres, pipeline, certificates):
    with lent(SourceDatabase(private("mariadb", tls=None))) as own:
        own.execute("CREATE TABLE t (id int PRIMARY KEY)")
        said = refused(pipeline(own, postgres, source={"ssl_mode": "verify_ca", "ssl_ca": certificates.ca}), "run")
        assert "source_tls" == said["code"]
    untouched(postgres)


def test_a_certificate_file_that_is_none_is_refused(mariadb, postgres, pipeline, tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    said = refused(pipeline(mariadb, postgres, source={"ssl_mode": "verify_ca", "ssl_ca": tmp_path / "ca.pem"}), "run")
    assert "source_tls" == said["code"]
    assert "ssl_ca" in said["place"]
    untouched(postgres)
