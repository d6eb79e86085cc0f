"""Several pipelines share a target without touching one another; two processes of one pipeline cannot both write."""

from __future__ import annotations

import json
import re
from contextlib import closing, suppress
from typing import Any

import pytest

from cdc.errors import Halt
from cdc.model.position import Position
from cdc.model.record import Record
from cdc.protocol import control
from cdc.protocol.control import Base, Followed, Start
from cdc.transport.kafka.broker import KafkaBroker
from cdc.transport.kafka.schemas_topic import topic_registry
from cdc.transport.kafka.writer import KafkaWriter
from tests.e2e import oracle
from tests.e2e.bank import TABLES, Auditor, Bank, create
from tests.e2e.streaming import cut_no, name_of, streaming
from tests.e2e.watch import caught_up, equal, until
from tests.helpers.pipelines import said
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase


def test_two_pipelines_in_one_target_are_independent(
    mariadb: SourceDatabase, mysql: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Own fences, own positions: killing and starting one leaves the other where it is, and each goes on at its own server's log."""
    for source in (mariadb, mysql):
        create(source)
    one = streaming(pipeline, mariadb, postgres, None, "direct", pipeline={"name": "one"}, target={"schema": "first_{db}"})
    two = streaming(pipeline, mysql, postgres, kafka, "kafka", pipeline={"name": "two"}, target={"schema": "second"})
    with Bank(mariadb, 1) as left, Bank(mysql, 2) as right, one as first, two as second:
        with Auditor(postgres, "one", f"first_{mariadb.name}"), Auditor(postgres, "two", "second"):
            fence = postgres.execute("SELECT fence, backend_pid FROM cdc.pipeline WHERE name = 'two'")
            first.kill()
            first.start()
            first.await_cut(postgres, cut_no(postgres, "one"))
            second.await_cut(postgres, cut_no(postgres, "two"))
            assert fence == postgres.execute("SELECT fence, backend_pid FROM cdc.pipeline WHERE name = 'two'")
            left.close()
            right.close()
            for works, source, schema in ((first, mariadb, f"first_{mariadb.name}"), (second, mysql, "second")):
                caught_up(works.pipeline)
                assert {} == oracle.differences(source, postgres, TABLES, schema)
                equal(works.pipeline)
    stored = dict(postgres.execute("SELECT pipeline, position FROM cdc.progress"))
    assert {"one": "mariadb", "two": "mysql"} == {name: Position.from_json(position).flavour for name, position in stored.items()}


@pytest.mark.parametrize(("source", "way"), [("mysql", "direct"), ("mariadb", "kafka")], indirect=["source"])
def test_of_two_processes_of_one_pipeline_one_works(
    way: str, source: SourceDatabase, request: pytest.FixtureRequest, pipeline: Any, postgres: TargetDatabase
) -> None:
    """The other ends with a reason; a reader of the target sees nothing of it."""
    kafka = None if way == "direct" else request.getfixturevalue("kafka")
    create(source)
    with Bank(source, 9) as bank, streaming(pipeline, source, postgres, kafka, way) as works:
        first = works.processes["run"]
        with Auditor(postgres, name_of(works.pipeline), source.name):
            second = works.pipeline.start("run")
            until(lambda: not (first.alive and second.alive), 60, "the end of one of them")
            loser, works.processes["run"] = (second, first) if first.alive else (first, second)
            assert 1 == loser.process.returncode, said(loser)
            last = json.loads(loser.output().strip().splitlines()[-1]) if loser.output().strip().endswith("}") else loser.output()
            assert any(reason in str(last) for reason in ("fenced", "server_id_taken", "superseded")), said(loser)
            works.await_cut(postgres, cut_no(postgres, name_of(works.pipeline)))
            bank.close()
            caught_up(works.pipeline)
        works.check()
        assert {} == oracle.differences(source, postgres, TABLES)
        equal(works.pipeline)


@pytest.mark.parametrize(("source", "way"), [("mariadb", "direct"), ("mysql", "split")], indirect=["source"])
def test_of_processes_that_are_started_at_once_one_of_each_kind_works(
    way: str, source: SourceDatabase, request: pytest.FixtureRequest, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Twice `cdc run` before its copy; twice `cdc capture` and `cdc apply` before the first record. The others say why not."""
    create(source)
    made = pipeline(source, postgres, *([] if way == "direct" else [request.getfixturevalue("kafka")]))
    if way == "split":
        made.json("snapshot")
    with Bank(source, 17) as bank, Auditor(postgres, name_of(made), source.name):
        pairs = {command: [made.start(command), made.start(command)] for command in (("run",) if way == "direct" else ("capture", "apply"))}
        for command, pair in pairs.items():
            until(lambda pair=pair: not all(one.alive for one in pair), 90, f"the end of one cdc {command}", *pair)  # type: ignore[misc]
            for loser in (one for one in pair if not one.alive):
                assert 1 == loser.process.returncode, said(loser)
                assert any(reason in loser.output() for reason in ("fenced", "server_id_taken", "superseded")), said(loser)
            if not any(one.alive for one in pair):  # they ended one another: who supervises them starts one
                pair.append(made.start(command))
        before = cut_no(postgres, name_of(made))
        everyone = [one for pair in pairs.values() for one in pair if one.alive]
        until(lambda: cut_no(postgres, name_of(made)) > before, 90, "a cut by those that work", *everyone)
        bank.close()
        caught_up(made)
    assert {} == oracle.differences(source, postgres, TABLES)
    equal(made)


@pytest.mark.parametrize("based", [True, False])
def test_records_of_two_captures_that_started_at_once_are_void_and_records_of_nobody_stop(
    based: bool, mariadb: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase
) -> None:
    """The first one's base stands behind the second one's start; without any base the control topic may have been lost."""
    mariadb.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    made = pipeline(mariadb, postgres, kafka)
    made.json("snapshot")
    at = Position.from_json(postgres.execute("SELECT position FROM cdc.progress")[0][0])
    broker = KafkaBroker(kafka.bootstrap, kafka.prefix, {})
    with closing(KafkaWriter(broker, topic_registry(broker))) as writer:
        topic = f"{kafka.prefix}.{mariadb.name}.t"
        writer.prepare(topic)
        first, second = (Start(name, 0, name_of(made)) for name in ("first", "second"))
        epoch = writer.append_control(control.key(first), control.to_document(first))
        writer.append_control(control.key(second), control.to_document(second))
        base = Base(epoch, 0, at, 0, False, {(topic, 0): 0}, {}, (Followed(mariadb.name, "t", topic, 1, 1, 2),))
        if based:
            writer.append_control(control.key(base), control.to_document(base))
        writer.send(topic, [Record(0, b"key", b"value")])
        with suppress(Halt):
            writer.flush()
    works = [made.start("capture"), made.start("apply")]
    if not based:
        until(lambda: not works[0].alive, 60, "the end of cdc capture")
        assert "no_cut" in works[0].output()
        return
    mariadb.execute("INSERT INTO t VALUES (1)")
    caught_up(made)
    assert [(1,)] == postgres.execute(f'SELECT id FROM "{mariadb.name}".t')
    assert all(one.alive for one in works), said(*works)


def test_the_halves_of_a_pipeline_share_a_machine_by_default(
    mysql: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Without a [metrics] section each has a port of its own, and says it."""
    create(mysql)
    made = pipeline(mysql, postgres, kafka)
    made.path.write_text(made.path.read_text().replace('[metrics]\nlisten = "127.0.0.1:0"\n', ""))
    halves = [made.start("capture"), made.start("apply")]
    made.json("snapshot")
    caught_up(made)
    assert all(half.alive for half in halves), said(*halves)
    addresses = [re.search(r'"address": "([^"]*)"', half.output()) for half in halves]
    assert 2 == len({address.group(1) for address in addresses if address})
