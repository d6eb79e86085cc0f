"""Rows that the target refuses: their keys wait in order and are never lost, everything else flows, and nothing shows a value."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.e2e import oracle
from tests.e2e.quarantine import KEY, NUMBER, TABLES, VALUE, asked, create, ids, insert, said_by, settle, silent, tables
from tests.e2e.streaming import streaming
from tests.e2e.watch import caught_up, equal, listening, metrics, until
from tests.helpers.pipelines import Pipeline, said
from tests.helpers.servers import SourceDatabase, TargetDatabase

REFUSE = (
    "ALTER TABLE {db}.t ADD CONSTRAINT no_nine CHECK (v NOT LIKE '%-9')",
    "ALTER TABLE {db}.bare ADD CONSTRAINT no_nine CHECK (v NOT LIKE '%-9')",
    "CREATE INDEX narrow ON {db}.t ((n::int4))",
    "CREATE FUNCTION {db}.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF NEW.v LIKE '%-trigger' THEN RAISE 'not %', NEW.v USING DETAIL = NEW.v; END IF; RETURN NEW; END $$",
    "CREATE TRIGGER no BEFORE INSERT OR UPDATE ON {db}.t FOR EACH ROW EXECUTE FUNCTION {db}.no()",
)
MEND = (
    "ALTER TABLE {db}.t DROP CONSTRAINT IF EXISTS no_nine",
    "DROP INDEX IF EXISTS {db}.narrow",
    "DROP TRIGGER IF EXISTS no ON {db}.t",
)
_END_COMMAND = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE datname = current_database() AND application_name LIKE '% quarantine' AND wait_event_type = 'Lock'"""


def _target(target: TargetDatabase, source: SourceDatabase, statements: tuple[str, ...]) -> None:
    target.execute(*(statement.format(db=source.name) for statement in statements))


@pytest.mark.parametrize(("source", "way"), [("mariadb", "direct"), ("mysql", "split")], indirect=["source"])
def test_refused_keys_wait_in_order_while_everything_else_flows_until_they_are_replayed(
    way: str, source: SourceDatabase, request: pytest.FixtureRequest, pipeline: Any, postgres: TargetDatabase
) -> None:
    kafka = None if way == "direct" else request.getfixturevalue("kafka")
    create(source)
    with streaming(pipeline, source, postgres, kafka, way, metrics=listening() if way == "direct" else {}) as works:
        made = works.pipeline
        _target(postgres, source, REFUSE)
        source.execute(
            "BEGIN",
            insert("check", f"'{VALUE}-9'"), insert(3), insert("wide", n=NUMBER),
            f"INSERT INTO t VALUES (CONCAT('{KEY}nul', CHAR(0)), '{VALUE}', 1)",
            insert("trigger", f"'{VALUE}-trigger'"), insert(4), f"UPDATE t SET v = '{VALUE}-9' WHERE id = '{KEY}1'",
            f"INSERT INTO bare VALUES ('{VALUE}-9', 1), ('{VALUE}-9', 1), ('{VALUE}', 1)",
            "COMMIT",
        )  # fmt: skip
        settle(source, postgres, works)
        assert {"1": "", "2": "", "3": "", "4": ""} == ids(postgres, source.name)
        assert {"t": ("quarantined", 5), "bare": ("quarantined", 1), "mark": ("consistent", 0)} == tables(made)
        found = {one["key"]: one for one in asked(made, "list")["keys"]}
        reasons = sorted((one["table"].partition(".")[2], one["reason"], one["sqlstate"], one["changes"]) for one in found.values())
        assert [
            ("bare", "target_value", "23514", 2), ("t", "nul_in_text", "", 1), ("t", "target_value", "22003", 1),
            ("t", "target_value", "23514", 1), ("t", "target_value", "23514", 1), ("t", "target_value", "P0001", 1),
        ] == reasons  # fmt: skip
        source.execute(  # what follows on these keys waits behind them, whatever it is
            f"UPDATE t SET v = '{VALUE}' WHERE id = '{KEY}check'", f"DELETE FROM t WHERE id LIKE '{KEY}nul%'",
            f"UPDATE t SET id = '{KEY}moved', v = '{VALUE}' WHERE id = '{KEY}trigger'", f"DELETE FROM t WHERE id = '{KEY}1'",
            insert(1, f"'{VALUE}again'"), "DELETE FROM bare WHERE v LIKE '%-9' LIMIT 1",
            f"UPDATE bare SET v = '{VALUE}' WHERE v LIKE '%-9' LIMIT 1", insert(5), f"UPDATE t SET v = '{VALUE}2' WHERE id = '{KEY}2'",
        )  # fmt: skip
        settle(source, postgres, works)
        works.kill()
        source.execute(f"UPDATE t SET v = '{VALUE}last' WHERE id = '{KEY}check'", insert(6))
        works.start()
        settle(source, postgres, works)
        assert {"1": "", "2": "2", "3": "", "4": "", "5": "", "6": "", "moved": ""} == ids(postgres, source.name)
        assert 2 == len(oracle.target_rows(postgres, source.name, "bare")) + 1
        counts = {key: one["changes"] for key, one in ((one["key"], one) for one in asked(made, "list")["keys"])}
        assert [1, 2, 2, 3, 3, 4] == sorted(counts.values())
        queues = {_ops(made, key) for key in counts}
        assert {"cuu", "c", "cd", "udc", "ccdd"} == queues
        behind = {one["table"]: one["reason"] for one in said_by(made, "wait", "--timeout", "0", exit_code=1)["behind"]}
        assert "5 keys wait in quarantine: cdc quarantine list" == behind[f"{source.name}.t"]

        if way == "direct":
            _check_report(made, f"{source.name}.t")
        again = asked(made, "replay", f"{source.name}.t")
        assert ["refused"] == [one["outcome"] for one in again["keys"] if one["sqlstate"] == "22003"]
        assert (4, 1) == (again["replayed"], again["refused"])
        settle(source, postgres, works)
        assert (("quarantined", 1), ("quarantined", 1)) == (tables(made)["t"], tables(made)["bare"])
        _target(postgres, source, MEND)
        assert (2, 0) == tuple(asked(made, "replay")[name] for name in ("replayed", "refused"))
        caught_up(made)
        assert {} == oracle.differences(source, postgres, TABLES)
        equal(made)
        silent(said(*works.processes.values()))
        if way == "direct":
            _check_metrics(made, source)


def _check_report(pipeline: Pipeline, table: str) -> None:
    """Rows that wait are called so by the proof, under the names that the commands for them take."""
    (found,) = json.loads(pipeline.run("--json", "reconcile", "--tables", table).stdout)["tables"]
    waiting = {one["key"] for one in asked(pipeline, "list", table)["keys"]}
    assert len(waiting) == found["quarantined"]
    named = {one["quarantined"] for one in found["differences"]}
    assert named
    assert named <= waiting


def _ops(pipeline: Pipeline, key: str) -> str:
    document = asked(pipeline, "show", key=key)
    assert document["columns"] in (["id", "v", "n"], ["v", "n"])
    order = [(one["epoch"], one["number"]) for one in document["queue"]]
    assert order == sorted(order)
    return "".join(one["op"] for one in document["queue"])


def _check_metrics(pipeline: Pipeline, source: SourceDatabase) -> None:
    listen = next(line.partition("=")[2].strip().strip('"') for line in pipeline.path.read_text().splitlines() if "listen" in line)
    seen = metrics(listen)
    assert seen is not None
    assert seen.has("cdc_quarantined_keys")
    assert (0, 1) == (seen.value("cdc_quarantined_keys"), seen.value("cdc_quarantined_changes_total", table=f"{source.name}.t"))


def test_a_command_whose_connection_the_sink_ends_in_its_midst_does_its_work_on_another(
    mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    """A sink that takes over ends every other writer of the pipeline, the command among them: the administrator notices nothing."""
    create(mariadb)
    with streaming(pipeline, mariadb, postgres, None, "direct") as works, ThreadPoolExecutor() as beside:
        _target(postgres, mariadb, REFUSE)
        mariadb.execute(insert("check", f"'{VALUE}-9'"), insert(3, f"'{VALUE}-9'"))
        settle(mariadb, postgres, works)
        with postgres.connect() as held, held.transaction():
            held.execute("SELECT 1 FROM cdc.pipeline FOR UPDATE")
            answer = beside.submit(asked, works.pipeline, "discard", everything=True)
            until(lambda: postgres.execute(_END_COMMAND), 30, "the command waits for the lock")
        assert [1, 1] == [one["changes"] for one in answer.result(60)["keys"]]
        assert [] == asked(works.pipeline, "list")["keys"]
