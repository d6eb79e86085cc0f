"""A broker that loses what it acknowledged, on a real one: its log files are cut off while it is down, as a lost disk cache would."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cdc.stack import Kafka
from tests.crash.losses import cut_off
from tests.helpers.refusals import ended, outcome, rows, until
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase

pytestmark = pytest.mark.soak


def lose(broker: Kafka, topic: str, batches: int) -> None:
    """Kill the broker, cut so many of the last record batches off the topic's file, start it again."""
    broker.kill()
    [file] = sorted((broker.data / "log" / f"{topic}-0").glob("*.log"))
    assert batches == cut_off(file, batches)
    broker.start()


def work(made: Any, source: SourceDatabase, *numbers: int) -> None:
    for number in numbers:
        source.execute(f"INSERT INTO t VALUES ({number})")
        assert 0 == made.run("wait", "--timeout", "60").returncode


def test_data_records_that_a_broker_lost_come_again_and_control_records_stop_apply(
    private: Callable[..., Any], mariadb: SourceDatabase, postgres: TargetDatabase, pipeline: Any
) -> None:
    server = private("kafka")
    broker = Broker(server)
    mariadb.execute("CREATE TABLE t (a INT PRIMARY KEY)")
    made = pipeline(mariadb, postgres, broker)
    assert 0 == made.run("snapshot").returncode
    capture, apply = made.start("--json", "capture"), made.start("--json", "apply")
    work(made, mariadb, 1, 2, 3)
    lose(server, f"{broker.prefix}.{mariadb.name}.t", 2)
    mariadb.execute("INSERT INTO t VALUES (4)")
    held = [capture]

    def there() -> bool:
        if not held[0].alive:  # its producer may say that it can never be sure again: a new one goes on where the topics end
            assert outcome(held[0])["code"] in ("producer_fatal", "records_lost"), held[0].output()
            held[0] = made.start("--json", "capture")
        assert apply.alive, apply.output()
        return rows(postgres, mariadb.name) == [(1,), (2,), (3,), (4,)]

    until(there, "the row behind the loss", 120)
    work(made, mariadb, 5, 6)
    assert 0 == apply.stop()
    held[0].stop()
    lose(server, f"{broker.prefix}.control", 6)
    again = made.start("--json", "capture")
    mariadb.execute("INSERT INTO t VALUES (7)")
    late = made.start("--json", "apply")
    ended(late, seconds=120)
    assert "control_lost" == outcome(late)["code"]
    assert [(1,), (2,), (3,), (4,), (5,), (6,)] == rows(postgres, mariadb.name)
    again.stop()
