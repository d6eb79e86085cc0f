"""Places that cannot be reached, and topics that belong to somebody else."""

from __future__ import annotations

import http.server
import threading
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from tests.helpers.refusals import WRONG, error, found, refused, streaming, untouched
from tests.helpers.servers import PASSWORD

NOWHERE = "127.0.0.1:1"
SOON = {"start_timeout_seconds": 1.0}


@pytest.fixture
def table(mariadb):
    mariadb.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    return mariadb


@pytest.mark.parametrize(
    ("changes", "code", "place"),
    [
        ({"source": {"url": f"mysql://cdc@{NOWHERE}/"}}, "source_unreachable", NOWHERE),
        ({"target": {"url": f"postgresql://cdc@{NOWHERE}/d"}}, "target_unreachable", NOWHERE),
        ({"transport": {"kind": "kafka", "bootstrap": NOWHERE}}, "broker_unreachable", NOWHERE),
        ({"transport": {"kind": "kafka", "registry": f"http://cdc:{WRONG}@{NOWHERE}"}}, "registry_unreachable", NOWHERE),
    ],
)
def test_a_server_that_is_not_there_ends_the_start_when_its_patience_is_over(table, postgres, kafka, pipeline, changes, code, place):
    broker = kafka if "transport" in changes else None
    made = pipeline(table, postgres, *([broker] if broker else []), **{"pipeline": {"name": "p", **SOON}, **changes})
    said = refused(made, "run", exit_code=1)
    assert code == said["code"]
    assert place in said["place"]
    assert "Connection refused" in said["rule"]
    assert said["hint"]
    assert code in [one["code"] for one in found(made)]
    untouched(postgres, broker)


def test_the_first_connection_is_tried_again_until_the_patience_is_over(table, postgres, pipeline):
    made = pipeline(table, postgres, pipeline={"name": "p", "start_timeout_seconds": 2.0}, source={"url": f"mysql://cdc@{NOWHERE}/"})
    done = made.run("run")
    tries = done.stderr.count('"event": "source_unreachable"')
    assert (1, True) == (done.returncode, tries >= 3), done.stderr


def test_questions_about_servers_that_are_away_fail_at_once(table, postgres, pipeline):
    made = pipeline(table, postgres, target={"url": f"postgresql://cdc@{NOWHERE}/d"})
    assert "target_unreachable" == error(made, "status", exit_code=1)["code"]
    assert "target_unreachable" == error(made, "wait", exit_code=1)["code"]


class _Registry(http.server.BaseHTTPRequestHandler):
    """A registry that knows one account."""

    def do_GET(self) -> None:
        given = self.headers.get("Authorization", "")
        self.send_response(200 if given == "Basic Y2RjOnJpZ2h0" else 401)  # cdc:right
        self.end_headers()
        self.wfile.write(b"[]")

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def registry():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Registry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_registry_that_does_not_know_the_account_is_refused_without_showing_it(table, postgres, kafka, pipeline, registry):
    made = pipeline(table, postgres, kafka, transport={"registry": f"http://cdc:{WRONG}@{registry}"})
    said = refused(made, "capture")
    assert "registry_refused" == said["code"]
    assert registry in said["place"]
    assert [] == kafka.topics()
    made = pipeline(table, postgres, kafka, transport={"registry": f"http://cdc:right@{registry}"})
    assert [] == found(made)


def test_the_topics_of_another_pipeline_are_not_written(table, postgres, kafka, pipeline):
    first = pipeline(table, postgres, kafka, pipeline={"name": "first"})
    streaming(first)
    second = pipeline(table, postgres, kafka, pipeline={"name": "second"}, target={"schema": "second"})
    for command in ("run", "capture"):
        said = refused(second, command)
        assert ("prefix_taken", f"transport.prefix {kafka.prefix}") == (said["code"], said["place"])
        assert "first" in said["rule"]
    assert ["prefix_taken"] == [one["code"] for one in found(second)]
    table.execute("INSERT INTO t VALUES (2)")
    assert 0 == first.run("wait", "--timeout", "60").returncode
    assert 0 == first.running[0].stop()
    assert [("first",)] == postgres.execute("SELECT name FROM cdc.pipeline")


@pytest.mark.parametrize("topic", ["control", "{db}.t"])
def test_topics_that_something_else_wrote_are_not_written(table, postgres, kafka, pipeline, topic):
    name = f"{kafka.prefix}.{topic.format(db=table.name)}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(name, 1)])[name].result(30)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})
    producer.produce(name, b"theirs")
    assert 0 == producer.flush(30)
    said = error(pipeline(table, postgres, kafka), "run")
    assert ("prefix_taken", f"transport.prefix {kafka.prefix}") == (said["code"], said["place"])
    assert [name] == kafka.topics()
    untouched(postgres)


def test_an_account_that_the_broker_does_not_know_is_refused(table, postgres, kafka, pipeline, certificates):
    secure = {**kafka.secure(certificates), "sasl.password": WRONG}
    bootstrap = secure.pop("bootstrap.servers")
    made = pipeline(table, postgres, kafka, transport={"bootstrap": bootstrap, "kafka": secure})
    said = refused(made, "run")
    assert ("broker_auth", f"kafka {bootstrap}") == (said["code"], said["place"])
    assert "sasl" in said["hint"]
    assert PASSWORD not in said["rule"]
    assert ["broker_auth"] == [one["code"] for one in found(made)]
    untouched(postgres, kafka)
