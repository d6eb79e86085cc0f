"""`cdc topics read`: the records of a pipeline's topics, masked unless asked, on a real broker."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tests.helpers.documents import faults
from tests.helpers.pipelines import Pipeline
from tests.helpers.refusals import discreet, streaming, until
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase

KEY, VALUE, NUMBER = "patient-Zaphod", "diagnosis-Beeblebrox", 4711471147
PLANTED = ("Zaphod", "Beeblebrox", str(NUMBER))


@pytest.fixture
def written(mariadb: SourceDatabase, postgres: TargetDatabase, kafka: Broker, pipeline: Any) -> tuple[Pipeline, str]:
    """A pipeline that has streamed a few changes, and its database."""
    mariadb.execute("CREATE TABLE t (id varchar(40) PRIMARY KEY, v varchar(60), n bigint)", "CREATE TABLE bare (v varchar(60))")
    made = pipeline(mariadb, postgres, kafka, transport={"partitions_of": {f"{mariadb.name}.t": 2}})
    (running,) = streaming(made)
    mariadb.execute(
        *(f"INSERT INTO t VALUES ('{KEY}-{i}', '{VALUE}', {NUMBER})" for i in range(6)),
        f"UPDATE t SET id = '{KEY}-7', v = NULL WHERE id = '{KEY}-0'",
        f"DELETE FROM t WHERE id = '{KEY}-1'",
        f"INSERT INTO bare VALUES ('{VALUE}')",
    )
    assert made.json("wait")["reached"]
    assert 0 == running.stop()
    return made, mariadb.name


def lines(made: Pipeline, *arguments: str) -> list[dict[str, Any]]:
    """What `cdc topics read` prints, each line held to its schema."""
    done = made.run("topics", "read", *arguments)
    assert 0 == done.returncode, done.stderr
    discreet(done.stdout + done.stderr)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [] == [fault for record in found for fault in faults("topic_record", record)]
    shown = [value for value in PLANTED if value in done.stdout]
    assert ([], False) == (shown, "values_shown" in done.stderr) or "--values" in arguments
    return found


def places(records: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(record["partition"], record["offset"]) for record in records]


def refusal(made: Pipeline, *arguments: str) -> tuple[str, str]:
    """Code and place of the error with which the command ends, before a line."""
    done = made.run("--json", "topics", "read", *arguments)
    assert 2 == done.returncode, done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert [] == faults("error", document)
    return document["error"]["code"], document["error"]["place"]


def test_a_table_s_records_are_shown_without_a_value_and_whole_when_asked(written: tuple[Pipeline, str]) -> None:
    made, db = written
    records = lines(made, f"{db}.t")
    rows = [record["value"] for record in records if record["value"] is not None]
    assert sorted("cccccc" + "dc" + "d") == sorted(value["op"] for value in rows)
    assert 2 == sum(record["value"] is None for record in records), "a tombstone behind each delete"
    assert {("string", 16)} == {(record["key"]["id"]["type"], record["key"]["id"]["length"]) for record in records}
    moved = [record for record in records if record["headers"]]
    assert {"__debezium.newkey", "__debezium.oldkey"} == {name for record in moved for name in record["headers"]}
    keys = [value for record in moved for value in record["headers"].values()]
    assert [{"id": {"type": "string", "length": 16}}] * 3 == keys, "of the delete, its tombstone, and the create"
    created = next(value for value in rows if value["op"] == "c")
    assert ({"type": "string", "length": 20}, {"type": "integer"}) == (created["after"]["v"], created["after"]["n"])
    assert (db, "t") == (created["source"]["db"], created["source"]["table"])

    whole = made.run("topics", "read", f"{db}.t", "--values")
    asked = [json.loads(line) for line in whole.stdout.splitlines()]
    assert places(records) == places(asked)
    assert {f"{KEY}-{i}" for i in (0, 1, 2, 3, 4, 5, 7)} == {record["key"]["id"] for record in asked}
    assert {VALUE, None} == {record["value"]["after"]["v"] for record in asked if (record["value"] or {}).get("after")}
    assert 1 == whole.stderr.count('"values_shown"')
    assert f'"topic": "{made.json("topics", "read", f"{db}.bare")["topic"][: -len("bare")]}t"' in whole.stderr


def test_partition_offset_and_limit_choose_records(written: tuple[Pipeline, str], kafka: Broker) -> None:
    made, db = written
    whole = places(lines(made, f"{db}.t"))
    assert sorted(whole) == whole
    assert {0, 1} == {partition for partition, _ in whole}, "keys went to both partitions"
    second = [place for place in whole if place[0] == 1]
    assert second == places(lines(made, f"{kafka.prefix}.{db}.t", "--partition", "1"))
    assert second[1:2] == places(lines(made, f"{db}.t", "--partition", "1", "--from", str(second[1][1]), "--limit", "1"))
    assert whole[:3] == places(lines(made, f"{db}.t", "--limit", "3"))
    assert [] == lines(made, f"{db}.t", "--from", "end")
    document = made.json("topics", "read", f"{db}.t", "--limit", "3")
    assert [] == faults("topics_read", document)
    assert (f"{kafka.prefix}.{db}.t", whole[:3]) == (document["topic"], places(document["records"]))


def test_control_and_schemas_topics_are_read_too(written: tuple[Pipeline, str]) -> None:
    made, db = written
    kinds = {record["value"]["type"] for record in lines(made, "control")}
    assert {"start", "base", "cut"} <= kinds
    schemas = [record["value"] for record in lines(made, "schemas")]
    table = made.json("topics", "read", f"{db}.bare")["topic"]
    assert f"{table}-value" in {schema["subject"] for schema in schemas}
    assert {"record"} == {schema["schema"]["type"] for schema in schemas}


def test_what_is_not_there_is_refused_by_name_and_nothing_is_made(
    written: tuple[Pipeline, str], kafka: Broker, mariadb: SourceDatabase, postgres: TargetDatabase, pipeline: Any
) -> None:
    made, db = written
    before = kafka.topics()
    topic = f"{kafka.prefix}.{db}.t"
    assert ("topic_unknown", f"{db}.nothing") == refusal(made, f"{db}.nothing")
    assert ("topic_unknown", "__consumer_offsets") == refusal(made, "__consumer_offsets")
    assert ("usage", "--partition") == refusal(made, f"{db}.t", "--partition", "2")
    assert ("usage", "--from") == refusal(made, f"{db}.t", "--from", "0")
    assert ("usage", "--from") == refusal(made, f"{db}.t", "--partition", "0", "--from", "-1")
    assert ("offset_not_held", f"topic {topic} partition 0") == refusal(made, f"{db}.t", "--partition", "0", "--from", "4711")
    assert ("usage", "cdc topics read") == refusal(made, f"{db}.t", "--follow")
    assert ("transport", "transport.kind") == refusal(pipeline(mariadb, postgres), f"{db}.t")
    assert before == kafka.topics()


def test_a_reader_that_follows_sees_what_comes_and_ends_cleanly(written: tuple[Pipeline, str], mariadb: SourceDatabase) -> None:
    made, db = written
    following = made.start("topics", "read", f"{db}.t", "--from", "end", "--follow")
    capture = made.start("capture")

    def seen() -> bool:
        """A change is written until one is seen: where the end was when it was asked for is not known here."""
        mariadb.execute(f"UPDATE t SET n = n + 1 WHERE id = '{KEY}-3'")
        return '"op": "u"' in following.output()

    until(seen, "a change that came while the topic was read")
    assert (0, 0) == (following.stop(), capture.stop())
    assert [] == [value for value in PLANTED if value in following.output()]


def test_a_reader_of_the_lines_may_leave(written: tuple[Pipeline, str]) -> None:
    """As `head -1` does."""
    made, db = written
    script = f"{made._command(('topics', 'read', f'{db}.t'))[0]} -m cdc --config {made.path} topics read {db}.t | head -1"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {script}"], env=made._environ(), capture_output=True, text=True, timeout=60, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)
    assert 1 == len(done.stdout.splitlines())
