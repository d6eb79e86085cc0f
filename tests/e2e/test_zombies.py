"""A process that is stopped, replaced, and wakes up later writes nothing that counts, and ends with a reason."""

from __future__ import annotations

import re
import signal
from typing import Any

import pytest

from tests.e2e import oracle
from tests.e2e.bank import TABLES, Auditor, Bank, create
from tests.e2e.streaming import Streaming, cut_no, name_of, streaming
from tests.e2e.watch import Metrics, caught_up, equal, until
from tests.helpers.pipelines import Running, said
from tests.helpers.servers import TargetDatabase


@pytest.mark.parametrize(
    ("flavour", "way", "victim"),
    [
        ("mysql", "split", "capture"),
        pytest.param("mariadb", "split", "capture", marks=pytest.mark.soak),
        ("mariadb", "split", "apply"),
        ("mysql", "direct", "run"),
    ],
)
def test_one_that_wakes_up_late_changes_nothing(
    flavour: str, way: str, victim: str, request: pytest.FixtureRequest, pipeline: Any, postgres: TargetDatabase
) -> None:
    """It is stopped in the middle of the work; what it had read and not sent it sends when another one has long been in its place."""
    source = request.getfixturevalue(flavour)
    kafka = None if way == "direct" else request.getfixturevalue("kafka")
    create(source)
    with Bank(source, 21, pause_seconds=0.002) as bank, streaming(pipeline, source, postgres, kafka, way) as works:
        with Auditor(postgres, name_of(works.pipeline), source.name):
            until(lambda: bank.done > 60, 60, "work")
            works.await_cut(postgres, works.await_cut(postgres, cut_no(postgres, name_of(works.pipeline))))
            sleeper = works.processes[victim]
            sleeper.process.send_signal(signal.SIGSTOP)
            done = bank.done
            until(lambda: bank.done > done + 100, 60, "work beside the sleeper")
            before = cut_no(postgres, name_of(works.pipeline))
            works.start(victim)
            works.await_cut(postgres, works.await_cut(postgres, before))
            sleeper.process.send_signal(signal.SIGCONT)
            _one_ends(works, victim, sleeper)
            works.await_cut(postgres, cut_no(postgres, name_of(works.pipeline)))
            bank.close()
            caught_up(works.pipeline)
        if victim == "capture":
            assert 0 < _metrics(works.processes["apply"]).value("cdc_void_records_total", reason="epoch")
        assert {} == oracle.differences(source, postgres, TABLES)
        equal(works.pipeline)


def _one_ends(works: Streaming, victim: str, sleeper: Running) -> None:
    """Of the two one ends with a reason: the sleeper, unless it read to the end of its lost connection and took the log back."""
    other = works.processes[victim]
    until(lambda: not (sleeper.alive and other.alive), 60, "the end of one of the two")
    loser, works.processes[victim] = (sleeper, other) if other.alive else (other, sleeper)
    assert loser is sleeper or victim == "capture", said(sleeper, other)
    assert 1 == loser.process.returncode, said(loser)
    assert any(reason in loser.output() for reason in ("fenced", "server_id_taken", "superseded")), said(loser)


def _metrics(process: Running) -> Metrics:
    found = re.search(r'"address": "([^"]+)"', process.output())
    assert found is not None
    return Metrics(found.group(1))
