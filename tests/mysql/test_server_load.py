"""The source's own signs of load, as real servers show them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from cdc.mysql.server_load import LoadProbe
from tests.e2e.watch import until
from tests.helpers.servers import PASSWORD, SourceDatabase, lent
from tests.helpers.source_log import config


@contextmanager
def running(source: SourceDatabase, sql: str, times: int) -> Iterator[None]:
    """So many connections that run a statement again and again for the length of the block."""
    over = threading.Event()

    def run() -> None:
        with closing(source.connect()) as line, line.cursor() as cursor:
            while not over.is_set():
                cursor.execute(sql)

    threads = [threading.Thread(target=run) for _ in range(times)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_threads_that_run_are_counted(source: SourceDatabase) -> None:
    with closing(LoadProbe(config(source))) as signs, running(source, "SELECT SLEEP(0.3)", 5):
        until(lambda: signs.read().threads_running > 5, 20, "five threads beside ours")


def test_requests_for_a_tables_lock_that_wait_are_counted_by_the_second(source: SourceDatabase) -> None:
    source.execute("CREATE TABLE m (id INT PRIMARY KEY, n INT) ENGINE=MyISAM", "INSERT INTO m VALUES (1, 1)")
    with closing(LoadProbe(config(source))) as signs:
        assert 0.0 == signs.read().lock_waits_per_second
        with running(source, "SELECT SLEEP(0.05) FROM m", 1), running(source, "UPDATE m SET n = n + 1", 2):
            until(lambda: signs.read().lock_waits_per_second > 1, 20, "writers that wait for a reader")


def test_a_source_that_follows_nobody_or_does_not_tell_us_has_no_lag(source: SourceDatabase) -> None:
    with closing(LoadProbe(config(source))) as signs:
        assert [None, None] == [signs.read().replica_lag_seconds for _ in range(2)]


@pytest.mark.slow
def test_a_source_that_is_a_late_replica_says_how_late(mariadb: SourceDatabase, private: Callable[..., Any]) -> None:
    with lent(SourceDatabase(private("mariadb", options=("--server-id=77", "--gtid-strict-mode=OFF")))) as replica:
        [(at,)] = mariadb.execute("SELECT @@gtid_binlog_pos")
        replica.execute(
            "GRANT SLAVE MONITOR ON *.* TO cdc",
            f"SET GLOBAL gtid_slave_pos = '{at}'",
            f"CHANGE MASTER TO master_host = '{mariadb.host}', master_port = {mariadb.port}, master_user = 'root',"
            f" master_password = '{PASSWORD}', master_use_gtid = slave_pos, master_delay = 3600",
            "START SLAVE",
        )
        mariadb.execute("CREATE TABLE t (a INT)", "INSERT INTO t VALUES (1)")
        with closing(LoadProbe(config(replica))) as signs:
            until(lambda: (signs.read().replica_lag_seconds or 0) >= 1, 30, "a replica that waits an hour to be late")
        replica.execute("STOP SLAVE")
