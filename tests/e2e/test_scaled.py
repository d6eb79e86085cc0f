"""Several sinks share a pipeline's partitions: each exactly once by itself, together where they must be, and never two on one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from tests.crash.points import SHARD, of_group
from tests.e2e import oracle
from tests.e2e.bank import TABLES, TOTAL, Auditor, Bank, create
from tests.e2e.streaming import Streaming, name_of
from tests.e2e.watch import caught_up, equal, until
from tests.helpers.pipelines import Running, said
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase

SCALED: dict[str, dict[str, Any]] = {"transport": {"partitions": 2}, "apply": {"shards": 2}}


class Orderly(Auditor):
    """Sees that no counter ever goes back; that transactions appear whole is what several sinks do not promise."""

    def _look(self, line: psycopg.Connection[tuple[Any, ...]]) -> None:
        super()._look(line)
        self.faults = [fault for fault in self.faults if "went back" in fault]


class Members:
    """The sinks of one pipeline, and what the target says of its shards."""

    def __init__(self, works: Streaming, target: TargetDatabase) -> None:
        self.works, self.target = works, target
        self.processes: list[Running] = []

    def start(self, count: int = 1) -> Running:
        self.processes += [self.works.pipeline.start("apply") for _ in range(count)]
        return self.processes[-1]

    def owners(self) -> dict[int, int]:
        """The process that works on each shard."""
        if self.target.execute("SELECT to_regclass('cdc.shard')") == [(None,)]:
            return {}
        rows = self.target.execute(f"SELECT shard, owner FROM cdc.shard WHERE pipeline = '{name_of(self.works.pipeline)}'")
        return {shard: int(owner.rpartition(":")[2]) for shard, owner in rows if owner}

    def places(self) -> list[int]:
        """The cut that each shard has come to."""
        name = name_of(self.works.pipeline)
        return [row[0] for row in self.target.execute(f"SELECT cut_no FROM cdc.shard WHERE pipeline = '{name}' ORDER BY shard")]

    def share(self, *processes: Running) -> None:
        """Wait until these and no others work, and every shard goes on."""
        wanted = {one.process.pid for one in processes}
        until(lambda: wanted == set(self.owners().values()), 180, f"shards of {wanted} alone", *processes)
        before = self.places()
        until(lambda: all(now > then for now, then in zip(self.places(), before)), 180, "cuts of every shard", *processes)


@contextmanager
def scaled(make: Any, source: SourceDatabase, target: TargetDatabase, kafka: Broker, count: int = 2) -> Iterator[Members]:
    """A copied pipeline with one capture and so many sinks; all that live at the end are ended cleanly."""
    pipeline = make(source, target, kafka, **SCALED)
    pipeline.json("snapshot")
    works = Streaming(pipeline, "split")
    works.start("capture")
    members = Members(works, target)
    members.start(count)
    members.share(*members.processes)
    yield members
    works.processes |= {str(number): one for number, one in enumerate(members.processes) if one.alive}
    works.stop()


def the_same(members: Members, source: SourceDatabase, target: TargetDatabase) -> None:
    """Once all is applied the target equals the source, by two judges, and no money is lost."""
    pipeline = members.works.pipeline
    caught_up(pipeline)
    assert {} == oracle.differences(source, target, TABLES)
    equal(pipeline)
    sums = f'SELECT (SELECT sum(balance) FROM "{source.name}".savings) + (SELECT sum(balance) FROM "{source.name}".current)'
    assert [(TOTAL,)] == target.execute(sums)


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.soak)])
def test_shards_of_a_member_that_dies_or_sleeps_move_and_nothing_is_lost_or_doubled(
    how: signal.Signals, mariadb: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase
) -> None:
    """The other one takes them over. What a sleeper had in hand when it wakes up is refused, and it joins again."""
    create(mariadb)
    with Bank(mariadb, 31) as bank, scaled(pipeline, mariadb, postgres, kafka) as members:
        first, second = members.processes
        with Orderly(postgres, name_of(members.works.pipeline), mariadb.name):
            first.process.send_signal(how)
            members.share(second)
            if how == signal.SIGSTOP:
                first.process.send_signal(signal.SIGCONT)
            else:
                first = members.start()
            members.share(first, second)
            bank.close()
            the_same(members, mariadb, postgres)


@pytest.mark.soak
def test_members_meet_at_bases_and_copies(mysql: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase) -> None:
    """Capture is killed again and again; tables are copied anew in place and beside, one without a key among them."""
    create(mysql)
    with Bank(mysql, 32, pause_seconds=0.02) as bank, scaled(pipeline, mysql, postgres, kafka) as members:
        works = members.works
        with Orderly(postgres, name_of(works.pipeline), mysql.name):
            for table, options in (("savings", ()), ("journal", ()), ("current", ("--swap",))):
                works.kill("capture")
                works.start("capture")
                done = works.pipeline.json("copy", f"{mysql.name}.{table}", *options, timeout_seconds=280)
                assert "done" == done["outcome"], done
            members.share(*members.processes)
            bank.close()
            the_same(members, mysql, postgres)


@pytest.mark.soak
def test_one_process_and_several_take_turns_and_never_work_at_once(
    mariadb: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase
) -> None:
    """Whoever starts later works, the others end; what each had applied the next one goes on from."""
    create(mariadb)
    with Bank(mariadb, 33, pause_seconds=0.02) as bank, scaled(pipeline, mariadb, postgres, kafka) as members:
        made = members.works.pipeline
        text = made.path.read_text()
        made.path.write_text(text.replace("shards = 2", "shards = 3"))
        refused = made.run("--json", "apply")
        assert 2 == refused.returncode, refused.stdout
        assert "shards_differ" in refused.stdout
        made.path.write_text(text.replace("shards = 2", "shards = 0"))
        made.environ["CRASH_AT"] = "shard.gathered:1"
        dying = made.start("apply")
        del made.environ["CRASH_AT"]
        until(lambda: not dying.alive, 180, "the end of the first that brings the shards together")
        assert -signal.SIGKILL == dying.process.returncode, said(dying)
        alone = made.start("apply")
        until(lambda: not any(one.alive for one in members.processes), 180, "the end of the members", alone)
        assert all("fenced" in one.output() for one in members.processes), said(*members.processes)
        until(lambda: [] == members.places(), 180, "one place", alone)
        members.works.await_cut(postgres, members.works.await_cut(postgres))
        made.path.write_text(text)
        members.start(2)
        until(lambda: not alone.alive, 180, "the end of the one", *members.processes[2:])
        assert "fenced" in alone.output(), said(alone)
        members.share(*members.processes[2:])
        bank.close()
        the_same(members, mariadb, postgres)


@pytest.mark.soak
@pytest.mark.parametrize("point", [name for name in of_group(SHARD, "kafka") if name != "shard.gathered"])
def test_a_member_may_die_at_each_of_its_crash_points(
    point: str, mariadb: SourceDatabase, kafka: Broker, pipeline: Any, postgres: TargetDatabase
) -> None:
    """The other one takes its shards over, or the next one that starts; what had been begun is done or undone, never half."""
    create(mariadb)
    made = pipeline(mariadb, postgres, kafka, **SCALED)
    made.json("snapshot")
    works = Streaming(made, "split")
    members = Members(works, postgres)
    with Bank(mariadb, 34, pause_seconds=0.02) as bank, Orderly(postgres, name_of(made), mariadb.name):
        works.start("capture")
        made.environ["CRASH_AT"] = f"{point}:1"
        dying = members.start(2)
        del made.environ["CRASH_AT"]
        made.start("copy", f"{mariadb.name}.journal")
        until(lambda: not all(one.alive for one in members.processes), 180, f"the end of a member at {point}", *members.processes[:0])
        live = [one for one in members.processes if one.alive]
        assert dying.process.returncode in (None, -signal.SIGKILL), said(dying)
        for one in live:  # it would die at the same point
            one.kill()
        members.processes.clear()
        members.start(2)
        members.share(*members.processes)
        made.json("copy", f"{mariadb.name}.counter", timeout_seconds=280)
        bank.close()
        the_same(members, mariadb, postgres)
    works.processes |= {str(number): one for number, one in enumerate(members.processes)}
    works.stop()
