"""The practice to replicate has the shape it claims, is the same for the same seed, and changes in every way it claims to."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import uuid
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pymysql
import pytest

from cdc.demo.opendental import Workload, create, load
from cdc.demo.opendental.acts import ACTS
from cdc.demo.opendental.build import connect, inserts
from cdc.demo.opendental.pace import Latency, TokenBucket
from cdc.demo.opendental.tables import BY_NAME, TABLES, rows_at
from cdc.demo.opendental.workload import Deck, Report
from tests.helpers.servers import PASSWORD

KEYLESS = {"tempimageconv2", "tmpdocument", "definition_bak_20200424"}
AMBIGUOUS = ("preference", "site_code", "site_dailytotal")
"""Tables of REPLACE and upserts, where affected rows are not rows gained."""
ONE_DECK = sum(act.times for act in ACTS)


class Practice(NamedTuple):
    args: dict[str, Any]
    database: str
    engine: str

    def column(self, sql: str) -> list[Any]:
        with closing(connect(self.args, self.database)) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return [row[0] for row in cursor.fetchall()]

    def counts(self) -> dict[str, int]:
        """The rows of each table."""
        select = " UNION ALL ".join(f"SELECT COUNT(*) FROM `{spec.name}`" for spec in TABLES)
        return dict(zip(BY_NAME, self.column(select), strict=True))

    def content(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows, but for the columns that the server fills with the time of day."""
        with closing(connect(self.args, self.database)) as connection, connection.cursor() as cursor:
            return {spec.name: rows_of(cursor, spec.name, [c.name for c in spec.columns if c.base != "timestamp"]) for spec in TABLES}

    def workload(self, rate: float = 0, seed: int = 1) -> Workload:
        return Workload(self.args, self.database, rate, seed, self.engine)


def rows_of(cursor: Any, table: str, names: list[str]) -> list[tuple[Any, ...]]:
    cursor.execute(f"SELECT {', '.join(f'`{name}`' for name in names)} FROM `{table}`")
    return sorted(cursor.fetchall(), key=repr)


@pytest.fixture
def args(source):
    return {"host": source.host, "port": source.port, "user": "root", "password": PASSWORD}


@pytest.fixture
def practices(args):
    """Makes small practices; drops them at the end."""
    made: list[str] = []

    def make(engine: str = "MyISAM", seed: int = 1, size: float = 0.05) -> Practice:
        made.append(f"practice_{uuid.uuid4().hex[:10]}")
        create(args, made[-1], engine)
        load(args, made[-1], size=size, seed=seed)
        return Practice(args, made[-1], engine)

    yield make
    with closing(connect(args)) as connection, connection.cursor() as cursor:
        for name in made:
            cursor.execute(f"DROP DATABASE `{name}`")


@pytest.fixture(params=["MyISAM", "InnoDB"])
def practice(practices, request):
    return practices(request.param)


def until(condition: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        threading.Event().wait(0.02)


# shape


def test_there_are_at_least_thirty_tables_and_three_of_them_have_no_key() -> None:
    assert len(TABLES) >= 30
    assert {spec.name for spec in TABLES if not spec.key} == KEYLESS


def test_patients_and_procedures_are_wide() -> None:
    assert all(70 <= len(BY_NAME[name].columns) <= 110 for name in ("patient", "procedurelog"))


def test_column_types_are_mixed_as_in_a_real_practice() -> None:
    types = Counter(c.type for spec in TABLES for c in spec.columns)
    assert [kind for kind, _ in types.most_common(3)] == ["bigint(20)", "varchar(255)", "tinyint(3) unsigned"]
    common = "tinyint(4),date,double,text,int(11),datetime,timestamp,smallint(6),smallint(5) unsigned,tinyint(1),time,char(1),char(2),float"
    rare = "mediumtext,varchar(4000),enum,set,decimal(10,2),blob,bigint(20) unsigned,json,binary(16),varbinary(64),datetime(6)"
    present = set(types) | {c.base for spec in TABLES for c in spec.columns}
    assert set() == set((common + "," + rare).replace("decimal(10,2)", "decimal").split(",")) - present


def test_keys_are_composite_or_text_here_and_there_and_some_tables_stay_empty() -> None:
    assert BY_NAME["site_dailytotal"].key == ("ClinicNum", "DateTotal", "Category")
    assert BY_NAME["site_code"].column("SiteCode").base == "varchar"
    assert sum(not spec.rows for spec in TABLES) >= 10
    assert {c.charset for spec in TABLES for c in spec.columns} >= {"utf8mb4", "latin1"}


def test_size_one_is_about_fifty_thousand_rows_and_lists_do_not_grow() -> None:
    assert 45_000 <= sum(rows_at(spec, 1.0) for spec in TABLES) <= 60_000
    assert rows_at(BY_NAME["provider"], 20.0) == rows_at(BY_NAME["provider"], 1.0)
    assert rows_at(BY_NAME["paysplit"], 20.0) == 20 * rows_at(BY_NAME["paysplit"], 1.0)


# generator


def test_the_same_seed_makes_the_same_rows_and_another_seed_makes_others() -> None:
    first, again, other = ([sql for spec in TABLES for sql in inserts(spec, 0.01, seed)] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_huge_load_streams_in_bounded_statements() -> None:
    tracemalloc.start()
    longest = max(len(sql) for sql in itertools.islice(inserts(BY_NAME["sheetfield"], 10_000.0, 1), 40))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert longest < 4_000_000
    assert peak < 24_000_000


def test_a_load_fills_each_table_with_what_it_says(practice) -> None:
    assert {spec.name: rows_at(spec, 0.05) for spec in TABLES} == practice.counts()


def test_the_engine_is_the_one_asked_for(practice) -> None:
    engines = practice.column("SELECT DISTINCT engine FROM information_schema.tables WHERE table_schema = DATABASE()")
    assert [practice.engine] == engines


def test_the_data_have_sentinels_zero_dates_emoji_accents_and_extremes(practices) -> None:
    practice = practices(size=0.3)
    for table, condition in (
        ("patient", "AdmitDate = '0001-01-01'"),
        ("appointment", "DateTimeArrived = '0001-01-01 00:00:00'"),
        ("procedurelog", "DateOriginalProsth = '0000-00-00'"),
        ("commlog", "HEX(Note) LIKE '%F09F%'"),
        ("employer", "HEX(EmpName) REGEXP '^([0-7].)*[89A-F]'"),
        ("patient", "LName LIKE '%Łukasik%'"),
        ("patient", "SchedBeforeTime IS NULL"),
        ("clockevent", "AdjustTime < '00:00:00'"),
        ("site_kioskvisit", "Counter = 18446744073709551615"),
        ("paysplit", "SplitAmt < 0"),
    ):
        assert practice.column(f"SELECT COUNT(*) FROM `{table}` WHERE {condition}") != [0], f"{table}: {condition}"


def test_no_phone_number_or_address_can_be_somebodys(practices) -> None:
    practice = practices()
    assert all(re.fullmatch(r"|\(\d{3}\)555-01\d\d", phone) for phone in practice.column("SELECT HmPhone FROM patient"))
    assert all(re.fullmatch(r"|\S+@example\.com", email) for email in practice.column("SELECT Email FROM patient"))
    assert all(ssn == "" or ssn.startswith("000") for ssn in practice.column("SELECT SSN FROM patient"))


# pace


def simulate(bucket: TokenBucket, seconds: float, sizes: random.Random) -> int:
    """Work that takes no time but what the bucket asks for, on a clock of its own."""
    now, done = 0.0, 0
    while now < seconds:
        if pause := bucket.wait(now):
            now += pause
            continue
        units = sizes.choice((1, 1, 3, 7, 300))
        bucket.take(units)
        done += units
    return done


@pytest.mark.parametrize("rate", [20.0, 100.0, 5000.0])
def test_the_bucket_lets_through_its_rate_within_one_piece_of_work(rate: float) -> None:
    assert simulate(TokenBucket(rate, 0.0), 600.0, random.Random(1)) == pytest.approx(600.0 * rate, abs=301 + rate / 4)


def test_a_stall_is_not_made_up_for_by_a_burst() -> None:
    bucket = TokenBucket(100.0, 0.0)
    assert bucket.wait(3600.0) == 0.0
    assert bucket.credit == 25.0


def test_a_rate_of_zero_holds_nothing_back() -> None:
    bucket = TokenBucket(0.0, 0.0)
    bucket.take(10**9)
    assert bucket.wait(0.0) == 0.0


def test_latency_quantiles_are_within_five_percent() -> None:
    latency = Latency()
    for n in range(1, 1001):
        latency.add(n / 1000)
    assert latency.quantile(0.5) == pytest.approx(0.5, rel=0.051)
    assert latency.quantile(0.99) == pytest.approx(0.99, rel=0.051)
    assert latency.quantile(1.0) == 1.0
    assert Latency().quantile(0.5) == 0.0


# workload


def test_every_act_comes_up_in_one_deck_and_rollbacks_only_where_they_mean_something() -> None:
    with_rollbacks, without = (Deck(random.Random(1), transactional) for transactional in (True, False))
    assert {act.name: act.times for act in ACTS} == Counter(with_rollbacks.deal().name for _ in range(ONE_DECK))
    assert not any(without.deal().transactional for _ in range(ONE_DECK))


def test_one_deck_of_work_leaves_changes_of_every_kind(practice) -> None:
    transactional = practice.engine == "InnoDB"
    report = practice.workload().run(threading.Event(), ONE_DECK)
    kinds = {"insert", "update", "delete", "correction", "bulk update", "key change", "replace", "upsert"}
    kinds |= {"keyless insert", "keyless update", "keyless delete"} | (set() if transactional else {"left by a failed insert"})
    assert kinds == set(report.changes)
    assert {act.name for act in ACTS if transactional or not act.transactional} == set(report.acts)
    assert ({"insert", "update"} if transactional else set()) == set(report.rolled_back)
    assert report.conflicts == report.reconnects == 0
    assert 0 < report.p50_ms <= report.p99_ms <= report.longest_ms
    assert report.statements > ONE_DECK


def test_every_way_to_change_a_key_changes_keys(practice) -> None:
    practice.workload().run(threading.Event(), ONE_DECK)
    assert practice.column("SELECT COUNT(*) FROM task WHERE TaskNum > 1000000000") != [0]
    assert practice.column("SELECT MAX(ScheduleNum) - COUNT(*) FROM schedule") != [0]
    assert practice.column("SELECT COUNT(*) FROM site_dailytotal WHERE ClinicNum > 2") != [0]


def gained(practice: Practice) -> int:
    return sum(count for table, count in practice.counts().items() if table not in AMBIGUOUS)


def test_the_report_counts_what_stayed_and_nothing_else(practice) -> None:
    before = gained(practice)
    report = practice.workload().run(threading.Event(), ONE_DECK)
    come = sum(report.changes.get(kind, 0) for kind in ("insert", "keyless insert", "left by a failed insert"))
    gone = report.changes["delete"] + report.changes["keyless delete"]
    assert gained(practice) - before == come - gone


def test_tables_without_a_key_hold_equal_rows(practice) -> None:
    practice.workload().run(threading.Event(), ONE_DECK)
    for table in ("tempimageconv2", "tmpdocument"):
        columns = ", ".join(c.name for c in BY_NAME[table].columns)
        assert practice.column(f"SELECT COUNT(*) FROM {table} GROUP BY {columns} HAVING COUNT(*) > 1")


def test_one_statement_changes_hundreds_of_rows(practices) -> None:
    practice = practices(size=0.5)
    report = practice.workload().run(threading.Event(), ONE_DECK)
    assert report.changes["bulk update"] // report.acts["raise_fees"] >= 100


def test_the_same_seed_does_the_same_work(practices) -> None:
    contents = []
    for seed in (5, 5, 6):
        practice = practices()
        practice.workload(seed=seed).run(threading.Event(), ONE_DECK)
        contents.append(practice.content())
    assert contents[0] == contents[1]
    assert contents[0] != contents[2]


def test_the_workload_keeps_below_its_rate(practices) -> None:
    practice = practices()
    report = practice.workload(rate=60).run(threading.Event(), 30)
    burst, biggest_act = 15, 20
    assert "raise_fees" not in report.acts
    assert burst + biggest_act < report.total <= 60 * report.seconds + burst + biggest_act


def test_a_workload_whose_connection_is_cut_goes_on(practice) -> None:
    stop, workload = threading.Event(), practice.workload()
    reports: list[Report] = []
    worker = threading.Thread(target=lambda: reports.append(workload.run(stop)))
    worker.start()
    try:
        until(lambda: workload.report().total > 0)
        cut(practice)
        until(lambda: workload.report().reconnects == 1)
        seen = workload.report().total
        until(lambda: workload.report().total > seen)
    finally:
        stop.set()
        worker.join(20)
    assert len(reports) == 1


def cut(practice: Practice) -> None:
    """Kills the connections that use the practice's database, but for the one that asks."""
    sql = f"SELECT id FROM information_schema.processlist WHERE db = '{practice.database}' AND id <> CONNECTION_ID()"
    ids: list[int] = []

    def found() -> bool:
        with suppress(pymysql.err.OperationalError):  # another test's statement that MySQL cannot show there, in utf8mb3: it passes
            ids[:] = practice.column(sql)
        return bool(ids)

    until(found)
    with closing(connect(practice.args)) as connection, connection.cursor() as cursor:
        for number in ids:
            cursor.execute(f"KILL {number}")


# shell


def shell(practice: Practice, *words: str) -> subprocess.Popen[str]:
    args = practice.args
    url = f"mysql://root:{quote(args['password'], safe='')}@{args['host']}:{args['port']}/"
    command = [sys.executable, "-m", "cdc.demo.opendental", *words, "--database", practice.database, "--engine", practice.engine]
    root = Path(__file__).parents[2]
    environ = {**os.environ, "OPENDENTAL_URL": url}
    return subprocess.Popen(command, cwd=root, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_sigterm_ends_a_workload_cleanly_with_its_report(practice) -> None:
    before = practice.counts()["securitylog"]
    process = shell(practice, "work", "--rate", "300", "--seconds", "0")
    try:
        until(lambda: practice.counts()["securitylog"] > before)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)["total"] > 0


def test_the_shell_creates_and_loads_what_the_api_does(practices) -> None:
    practice = practices(seed=3)
    expected = practice.content()
    assert {"created": practice.database, "engine": "MyISAM"} == answer(practice, "create", "--replace")
    assert sum(rows_at(spec, 0.05) for spec in TABLES) == answer(practice, "load", "--size", "0.05", "--seed", "3")["total"]
    assert expected == practice.content()


def answer(practice: Practice, *words: str) -> dict[str, Any]:
    process = shell(practice, *words)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    document: dict[str, Any] = json.loads(out)
    return document


def test_the_shell_names_a_refusal_without_a_traceback(practices) -> None:
    process = shell(practices(), "create")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err == "create: the server refused: OperationalError 1050\n"
