"""Refusals at their worst: in the middle of a kill, in a copy, of whole tables, and beside other transactions."""

from __future__ import annotations

import random
import string
from typing import Any

import pytest

from tests.e2e import oracle
from tests.e2e.quarantine import KEY, TABLES, VALUE, asked, create, ids, insert, said_by, settle, silent, tables
from tests.e2e.streaming import Streaming, streaming
from tests.e2e.watch import caught_up, equal, listening, metrics, until
from tests.helpers.pipelines import said
from tests.helpers.refusals import ended
from tests.helpers.servers import SourceDatabase, TargetDatabase


def _queueing(target: TargetDatabase) -> bool:
    sql = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%cdc.quarantine%'"
    return bool(target.execute(sql))


def test_a_sink_that_is_killed_while_it_queues_neither_loses_nor_doubles_and_what_is_discarded_shows(
    mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    create(mariadb)
    with streaming(pipeline, mariadb, postgres, None, "direct") as works:
        made = works.pipeline
        postgres.execute(f"ALTER TABLE {mariadb.name}.t ADD CONSTRAINT no_nine CHECK (v NOT LIKE '%-9')")
        with postgres.connect() as line, line.transaction():
            line.execute("LOCK TABLE cdc.quarantine IN SHARE MODE")
            mariadb.execute("BEGIN", insert("bad", f"'{VALUE}-9'"), insert("good"), f"INSERT INTO bare VALUES ('{VALUE}', 1)", "COMMIT")
            until(lambda: _queueing(postgres), 30, "the sink at its queue", *works.processes.values())
            assert {"1", "2"} == set(ids(postgres, mariadb.name))
            works.kill()
        works.start()
        settle(mariadb, postgres, works)
        assert {"1", "2", "good"} == set(ids(postgres, mariadb.name))
        assert 1 == oracle.target_rows(postgres, mariadb.name, "bare").total()
        (key,) = asked(made, "list")["keys"]
        assert (1, "23514") == (key["changes"], key["sqlstate"])
        assert "quarantine_key" == said_by(made, "quarantine", "discard", exit_code=2)["error"]["code"]
        assert key["key"] in made.run("quarantine", "show", key["key"]).stdout
        assert "refused" == said_by(made, "quarantine", "replay", "--key", key["key"], exit_code=1)["keys"][0]["outcome"]
        assert 1 == said_by(made, "quarantine", "discard", "--key", key["key"])["discarded"]
        caught_up(made)
        different = said_by(made, "reconcile", exit_code=3)
        assert [f"{mariadb.name}.t"] == [one["source"] for one in different["tables"] if one["differences"]]
        mariadb.execute(f"UPDATE t SET v = '{VALUE}' WHERE id = '{KEY}bad'")
        caught_up(made)
        assert {} == oracle.differences(mariadb, postgres, TABLES)
        silent(said(*works.processes.values()))


def test_a_table_that_refuses_everything_stops_and_a_conflict_does_not(
    mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    create(mariadb)
    listen = listening()
    with streaming(pipeline, mariadb, postgres, None, "direct", metrics=listen) as works:
        postgres.execute(
            f"CREATE SEQUENCE {mariadb.name}.tries",
            f"CREATE FUNCTION {mariadb.name}.clash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF nextval('{mariadb.name}.tries') <= 2 THEN RAISE 'met' USING ERRCODE = '40001'; END IF; RETURN NEW; END $$",
            f"CREATE TRIGGER clash BEFORE INSERT ON {mariadb.name}.mark FOR EACH ROW EXECUTE FUNCTION {mariadb.name}.clash()",
        )
        settle(mariadb, postgres, works)
        seen = metrics(listen["listen"])
        assert seen is not None
        assert 2 == seen.value("cdc_retries_total", code="target_conflict", component="apply")
        assert "streaming" == seen.states()["apply"]
        postgres.execute(f"ALTER TABLE {mariadb.name}.t ADD CONSTRAINT nothing CHECK (v IS NULL) NOT VALID")
        mariadb.execute("BEGIN", *(insert(n) for n in range(10, 70)), "INSERT INTO mark VALUES (-1)", "COMMIT")
        running = works.processes["run"]
        assert "quarantine_limit" in ended(running)
        assert "constraint nothing" in running.output()
        assert {"1", "2"} == set(ids(postgres, mariadb.name))
        assert 0 == asked(works.pipeline, "list")["total_keys"]
        silent(running.output())
        postgres.execute(f"ALTER TABLE {mariadb.name}.t DROP CONSTRAINT nothing")
        works.start()
        caught_up(works.pipeline)
        assert {} == oracle.differences(mariadb, postgres, TABLES)


def test_a_try_that_is_undone_counts_none_of_the_keys_that_it_saw_refused(
    mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Fifteen of twenty-five rows are refused, and others' locks have the batch tried three times: that is fifteen, and not systemic."""
    create(mariadb)
    schema = mariadb.name
    with streaming(pipeline, mariadb, postgres, None, "direct") as works:
        postgres.execute(
            f"ALTER TABLE {schema}.t ADD CONSTRAINT no_nine CHECK (v NOT LIKE '%-9')",
            f"CREATE SEQUENCE {schema}.tries",
            f"CREATE FUNCTION {schema}.clash() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF nextval('{schema}.tries') <= 2 THEN RAISE 'met' USING ERRCODE = '40001'; END IF; RETURN NULL; END $$",
            f"CREATE CONSTRAINT TRIGGER clash AFTER INSERT ON {schema}.mark DEFERRABLE INITIALLY DEFERRED"
            f" FOR EACH ROW EXECUTE FUNCTION {schema}.clash()",
        )
        bad = [insert(f"bad {n}", f"'{VALUE}-9'") for n in range(15)]
        mariadb.execute("BEGIN", *bad, *(insert(n) for n in range(10, 20)), "INSERT INTO mark VALUES (-1)", "COMMIT")
        until(lambda: postgres.execute(f"SELECT 1 FROM {schema}.mark WHERE id = -1"), 60, "the batch", *works.processes.values())
        assert [(3,)] == postgres.execute(f"SELECT last_value FROM {schema}.tries")
        assert 15 == asked(works.pipeline, "list")["total_keys"]
        works.check()


@pytest.mark.parametrize("through", ["target", "topics"])
def test_a_row_that_is_refused_in_a_copy_waits(through: str, mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase) -> None:
    create(mariadb)
    mariadb.execute(*(insert(f"more {n}") for n in range(1200)))
    mariadb.execute(insert("bad", f"'{VALUE}-9'"), f"INSERT INTO t VALUES (CONCAT('{KEY}nul', CHAR(0)), '{VALUE}', 1)",
                    insert("own", f"'{VALUE}-own'"))  # fmt: skip
    mariadb.execute(f"INSERT INTO bare VALUES ('{VALUE}-9', 1), ('{VALUE}-9', 1), ('{VALUE}', 1)")
    postgres.execute(
        f"CREATE SCHEMA {mariadb.name}",
        f"CREATE TABLE {mariadb.name}.t (id varchar(40) COLLATE \"C\" PRIMARY KEY, v varchar(60) CHECK (v NOT LIKE '%-9'), n bigint)",
        f"CREATE TABLE {mariadb.name}.bare (v varchar(60) CHECK (v NOT LIKE '%-9'), n bigint)",
        f"CREATE FUNCTION {mariadb.name}.own() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF NEW.v LIKE '%-own' THEN RAISE 'not %', NEW.v USING ERRCODE = '45000'; END IF; RETURN NEW; END $$",
        f"CREATE TRIGGER own BEFORE INSERT ON {mariadb.name}.t FOR EACH ROW EXECUTE FUNCTION {mariadb.name}.own()",
    )
    made = pipeline(mariadb, postgres, snapshot={"through": through})
    works = Streaming(made, "direct")
    works.start()
    works.await_cut(postgres)
    mariadb.execute(
        f"UPDATE t SET n = 7 WHERE id = '{KEY}bad'", f"UPDATE t SET n = 7 WHERE id = '{KEY}1'", f"DELETE FROM t WHERE id LIKE '{KEY}nul%'"
    )
    settle(mariadb, postgres, works)
    assert {"t": ("quarantined", 3), "bare": ("quarantined", 1), "mark": ("consistent", 0)} == tables(made)
    assert [("bare", 2), ("t", 1), ("t", 2), ("t", 2)] == sorted(
        (one["table"].partition(".")[2], one["changes"]) for one in asked(made, "list")["keys"]
    )
    assert {"1", "2", *(f"more {n}" for n in range(1200))} == set(ids(postgres, mariadb.name))
    postgres.execute(*(f"ALTER TABLE {mariadb.name}.{one} DROP CONSTRAINT {one}_v_check" for one in ("t", "bare")))
    answer = asked(made, "replay")
    assert (3, ["45000"]) == (answer["replayed"], [one["sqlstate"] for one in answer["keys"] if one["outcome"] == "refused"])
    postgres.execute(f"DROP TRIGGER own ON {mariadb.name}.t")
    assert 1 == asked(made, "replay")["replayed"]
    caught_up(made)
    assert {} == oracle.differences(mariadb, postgres, TABLES)
    equal(made)
    silent(said(*works.processes.values()))
    works.stop()


def test_a_key_that_no_index_of_the_target_holds_waits_in_a_copy_and_behind_it(
    mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    """InnoDB's keys have up to 3,072 bytes, a B-tree's entries here 2,704 that do not compress: nothing of the target can be mended."""
    chance = random.Random(7)
    long = ["".join(chance.choices(string.ascii_letters, k=3_000)) for _ in range(3)]
    mariadb.execute("CREATE TABLE t (k VARCHAR(3000) CHARACTER SET latin1 PRIMARY KEY, v INT) ENGINE=InnoDB")
    mariadb.execute(f"INSERT INTO t VALUES ('short', 0), ('{long[0]}', 0)")
    with streaming(pipeline, mariadb, postgres, None, "direct") as works:
        made, run = works.pipeline, works.processes["run"]
        mariadb.execute(f"INSERT INTO t VALUES ('{long[1]}', 1), ('other', 1), ('{long[2]}', 1)")
        until(lambda: tables(made) == {"t": ("quarantined", 3)}, 60, "the quarantine", run)
        assert {"54000"} == {one["sqlstate"] for one in asked(made, "list")["keys"]}
        mariadb.execute("UPDATE t SET v = v + 1", "DELETE FROM t WHERE k <> 'other'")
        until(lambda: [3, 3, 3] == [one["changes"] for one in asked(made, "list")["keys"]], 60, "what follows", run)
        assert 3 == said_by(made, "quarantine", "replay")["replayed"]
        caught_up(made)
        assert [("other", 2)] == postgres.execute(f"SELECT k, v FROM {mariadb.name}.t")
        equal(made)
        assert not any(key in said(run) for key in long)


@pytest.mark.parametrize("own", ["mariadb"], indirect=True)
def test_a_small_copy_through_the_topics_ends_although_it_was_written_twice(
    own: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    """What a try took note of is forgotten with it, also that the copy of all ends with this commit. On an idle server it is one cut."""
    create(own)
    own.execute(insert("bad", f"'{VALUE}-9'"), "DROP TABLE bare")
    postgres.execute(
        f"CREATE SCHEMA {own.name}",
        f"CREATE TABLE {own.name}.t (id varchar(40) COLLATE \"C\" PRIMARY KEY, v varchar(60) CHECK (v NOT LIKE '%-9'), n bigint)",
    )
    works = Streaming(pipeline(own, postgres, snapshot={"through": "topics"}), "direct")
    works.start()
    works.await_cut(postgres)
    assert {"t": ("quarantined", 1), "mark": ("consistent", 0)} == tables(works.pipeline)
    works.stop()


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
def test_kills_while_keys_are_quarantined_and_replayed_lose_and_double_nothing(
    seed: int, mariadb: SourceDatabase, pipeline: Any, postgres: TargetDatabase
) -> None:
    from random import Random

    rng = Random(seed)
    create(mariadb)
    with streaming(pipeline, mariadb, postgres, None, "direct") as works:
        postgres.execute(*(f"ALTER TABLE {mariadb.name}.{one} ADD CONSTRAINT no_nine CHECK (v NOT LIKE '%-9')" for one in ("t", "bare")))
        for number in range(12):
            for _ in range(30):
                which = rng.randrange(15)
                mariadb.execute(
                    rng.choice((
                        f"REPLACE INTO t VALUES ('{KEY}{which}', '{VALUE}{rng.choice(('', '-9'))}', {rng.randrange(99)})",
                        f"DELETE FROM t WHERE id = '{KEY}{which}'", f"INSERT INTO bare VALUES ('{VALUE}-{rng.choice((8, 9))}', {which})",
                        f"DELETE FROM bare WHERE n = {which} LIMIT 1", f"UPDATE bare SET v = '{VALUE}-8' WHERE n = {which} LIMIT 1",
                    ))
                )  # fmt: skip
            if number % 3 == 1:
                works.kill()
                works.start()
            elif number % 3 == 2:
                asked(works.pipeline, "replay")
        settle(mariadb, postgres, works)
        assert asked(works.pipeline, "list")["total_keys"]
        postgres.execute(*(f"ALTER TABLE {mariadb.name}.{one} DROP CONSTRAINT no_nine" for one in ("t", "bare")))
        assert 0 == asked(works.pipeline, "replay")["refused"]
        caught_up(works.pipeline)
        assert {} == oracle.differences(mariadb, postgres, TABLES)
        equal(works.pipeline)
