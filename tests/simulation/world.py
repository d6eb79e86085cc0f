"""Everything of one simulation, and the edges of the product at which it stands in for the real servers."""

from __future__ import annotations

import contextlib
import random
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ParamSpec
from unittest.mock import patch

from cdc.capture import run as capture_run
from cdc.commands import apply as apply_command, run as run_command
from cdc.config.load import Config, ServerUrl, TransportConfig
from cdc.errors import CdcError, Retry
from cdc.protocol.applied import Stored
from cdc.protocol.copy_progress import Copies
from cdc.runtime import clock, crash_points as crash, logs
from cdc.runtime.lag import APPLY
from cdc.runtime.supervisor import Stopped, ThreadGroup
from tests.simulation.broker import SimBrokers, SimKafka
from tests.simulation.scheduler import Condition, Killed, Scheduler, Task
from tests.simulation.source import EPOCH_US, SimCatalog, SimLog, SimServer, SimSource
from tests.simulation.target import SimPostgres, SimTarget

PREFIX = "sim"
P = ParamSpec("P")


class World:
    """The servers, the processes, and what was said."""

    def __init__(self, seed: int, transport: str, partitions: int = 1, shards: int = 0) -> None:
        """`shards`: so many sinks at once, one for each; 0: one sink."""
        self.seed, self.transport, self.partitions, self.shards = seed, transport, partitions, shards
        self.scheduler = Scheduler(seed)
        self.random = self.scheduler.random
        self.source = SimSource(self.scheduler)
        self.brokers = SimBrokers(self.scheduler)
        self.postgres = SimPostgres(self.scheduler)
        self.requests: list[Any] = []
        """Signals of the transport without a broker."""
        self.selected = ["d.*"]
        self.excluded: list[str] = []
        self.copy_rate = 0
        """How many rows a second copies may read; 0: as many as there are."""
        self.deaths = 0.0
        """How likely a process dies at a step."""
        self.said: deque[str] = deque(maxlen=400)
        self.halts: list[tuple[float, str, str]] = []
        """When, who and why a process has stopped."""
        self.defects: list[str] = []
        """Exceptions that are not errors of the product."""
        self.scheduler.at_step = self._at_step

    def say(self, text: str) -> None:
        """Keep a line, for whoever looks at a violation."""
        self.said.append(f"{self.scheduler.now:14.3f} {text}")

    def config(self) -> Config:
        """The pipeline's configuration as of now."""
        environ = {"P": "p"}
        return Config.model_validate({
            "pipeline": {"name": "sim"},
            "source": {"url": ServerUrl.parse("mysql://cdc:${P}@127.0.0.1:3306/", environ), "tables": list(self.selected),
                       "exclude": list(self.excluded), "server_id": 4201},
            "snapshot": {"max_rows_per_second": self.copy_rate},
            "target": {"url": ServerUrl.parse("postgresql://cdc:${P}@127.0.0.1:5432/x", environ)},
            "transport": {"kind": self.transport, "prefix": PREFIX, "partitions": self.partitions},
        })  # fmt: skip

    def _at_step(self, task: Task) -> None:
        if self.deaths and task.process is not None and self.random.random() < self.deaths:
            task.process.kill()

    @property
    def process(self) -> Process:
        """The one that runs."""
        task = self.scheduler.task
        assert task is not None
        assert isinstance(task.process, Process)
        return task.process

    @contextlib.contextmanager
    def lent(self) -> Iterator[World]:
        """Stand in for the real servers until the block ends."""
        scheduler = Scheduler.current = self.scheduler
        random.seed(self.seed)
        with contextlib.ExitStack() as stack:
            stack.enter_context(clock.lend(
                monotonic=lambda: scheduler.now,
                now=lambda: EPOCH_US / 1e6 + scheduler.now + self._skew(),
                sleep=scheduler.sleep,
                fresh_id=lambda: f"{self.random.getrandbits(64):016x}",
                condition=Condition,
            ))  # fmt: skip
            for module, name, stand_in in self._edges():
                stack.enter_context(patch.object(module, name, stand_in))
            try:
                yield self
            finally:
                scheduler.over()

    def _skew(self) -> float:
        task = self.scheduler.task
        return task.process.skew if task is not None and task.process is not None else 0.0

    def _edges(self) -> list[tuple[Any, str, Any]]:
        """Where the product reaches out, and what it finds there."""
        return [
            (crash, "point", self._point),
            (logs, "logger", lambda component: _Log(self, component)),
            (capture_run, "Catalog", lambda source: SimCatalog(self.source)),
            (capture_run, "SourceServer", lambda source: SimServer(self.source, source)),
            (capture_run, "StateStore", lambda *_: _SimState(self)),
            (capture_run, "RequestTable", lambda *_: _SimRequests(self)),
            (capture_run, "BinlogReader", self._log_from),
            (capture_run, "broker_of", self._broker),
            (apply_command, "broker_of", self._broker),
            (apply_command, "StateStore", lambda *_: _SimState(self)),
            (apply_command, "gathering", lambda target: 0),
            (apply_command, "ShardTarget", self._shard_target),
            (run_command, "gathering", lambda target: 0),
            (run_command, "start_check", lambda config: SimpleNamespace(demand=lambda: None)),
            (run_command, "ThreadGroup", lambda stop: SimParts(self.process)),
        ]

    def _point(self, name: str) -> None:
        self.scheduler.step()

    def _log_from(self, source: Any, server_id: int, start: Any, *, heartbeat_seconds: float, wants: Any) -> Any:
        return SimLog(self.source, start, wants, heartbeat_seconds, self.process)

    def _shard_target(self, target: Any, pipeline: str, shard: int, shards: int, generation: int) -> Any:
        from tests.simulation.sharded import SimShardTarget  # it stands on this module

        return SimShardTarget(self.postgres, self.process, shard, shards, generation)

    def _broker(self, transport: TransportConfig, check_stop: Callable[[], None]) -> SimKafka:
        return SimKafka(self.brokers, self.process, PREFIX, self.partitions, check_stop)


class Process:
    """A `cdc` process: it dies at once and wholly, or ends when it is told to."""

    def __init__(self, world: World, name: str, work: Callable[[Process], None]) -> None:
        self.world, self.name, self._work = world, name, work
        self.alive, self.skew = True, 0.0
        self.stop = threading.Event()
        self.changes = capture_run.changes_of(world.config())
        self.producers: list[Any] = []
        self.targets: list[SimTarget] = []
        self.ended = False
        world.say(f"{name} starts")
        world.scheduler.spawn(name, self._run, self)

    def _run(self) -> None:
        try:
            while self.alive and not self.stop.is_set():
                try:
                    self._work(self)
                except Stopped:
                    pass
                except Retry as error:
                    self.world.say(f"{self.name} tries again: {error.code} {error}")
                    self.world.scheduler.sleep(self.world.random.uniform(0.1, 2.0))
                    continue
                break
        except CdcError as error:
            self.world.say(f"{self.name} stops: {error.code} {error}")
            self.world.halts.append((self.world.scheduler.now, self.name, error.code))
        except Killed:
            return
        except Exception as error:  # noqa: BLE001 - what is no error of ours is a defect
            trace = "".join(traceback.format_exception(error)[-6:])
            self.world.defects.append(f"{self.name}: {error!r}\n{trace}")
        finally:
            self.ended = True
        self._leave()

    def _leave(self) -> None:
        self.alive = False
        for target in self.targets:
            target.cut()

    def kill(self) -> None:
        """It is gone in the middle of whatever it did."""
        if not self.alive:
            return
        self.world.say(f"{self.name} is killed")
        self.alive, self.ended = False, True
        for producer in self.producers:
            producer.die()
        for target in self.targets:
            target.cut()
        self.world.scheduler.end(self)
        task = self.world.scheduler.task
        if task is not None and task.process is self:
            raise Killed

    def reach(self, brokers: SimBrokers) -> None:
        """A call that waits for the brokers' answer."""
        if brokers.down:
            self.world.scheduler.sleep(1.0)
            raise Retry("broker_unreachable", "kafka simulated", "no answer", "")
        if not self.alive:
            raise Killed


class SimParts(ThreadGroup):
    """Tasks that stand and fall together."""

    def __init__(self, process: Process) -> None:
        super().__init__(process.stop)
        self._process = process
        self._beside: list[bool] = []

    def check_stop(self) -> None:
        """As in the product; in a process that is dead nothing goes on."""
        if not self._process.alive:
            raise Killed
        super().check_stop()

    def start(self, name: str, work: Callable[P, None], *args: P.args, **named: P.kwargs) -> None:
        """Run work beside the caller."""
        at = len(self._beside)
        self._beside.append(False)

        def run() -> None:
            self._guard(work, *args, **named)
            self._beside[at] = True
            self._process.world.scheduler.notify(self)

        self._process.world.scheduler.spawn(f"{self._process.name}/{name}", run, self._process)

    def _guard(self, work: Callable[P, None], *args: P.args, **named: P.kwargs) -> None:
        try:
            work(*args, **named)
        except Stopped:
            pass
        except Killed:
            raise
        except BaseException as error:  # noqa: BLE001 - handed to the owner, who raises it
            self._errors.append(error)
        self.ended.set()

    def run(self, work: Callable[P, None], *args: P.args, **named: P.kwargs) -> None:
        """Run the caller's own part, then end the others."""
        self._guard(work, *args, **named)
        while not all(self._beside):
            self._process.world.scheduler.wait(self, 60.0)
        for error in sorted(self._errors, key=lambda e: isinstance(e, Retry)):
            raise error


class Metrics:
    """Where the stages leave their counters."""

    def __init__(self) -> None:
        self.captured: list[Any] = []
        self.offset_us = 0

    def watch_capture(self, counters: Any) -> None:
        self.captured.append(counters)

    def watch_apply(self, counters: Any, shard: int | None = None) -> None:
        """The simulation asks the target itself."""

    def leave_apply(self, shard: int) -> None:
        """Nobody looks."""

    def state(self, part: str, state: str) -> None:
        """Nobody looks."""

    @property
    def retries(self) -> Any:
        return self

    def labels(self, *_: str) -> Any:
        return self

    def inc(self) -> None:
        """Nobody looks."""


def capture(process: Process) -> None:
    """`cdc capture`."""
    parts: Any = SimParts(process)
    metrics: Any = Metrics()
    parts.run(capture_run.capture_kafka, process.world.config(), parts, metrics, process.changes)


def apply(process: Process) -> None:
    """`cdc apply`."""
    parts: Any = SimParts(process)
    metrics: Any = Metrics()
    target: Any = _target(process)
    parts.run(apply_command.apply_kafka, process.world.config(), target, parts, metrics)


def run(process: Process) -> None:
    """`cdc run` without a broker."""
    metrics: Any = Metrics()
    run_command._run_direct(process.world.config(), _target(process), process.stop, metrics, process.changes, lambda: None)


def _target(process: Process) -> Any:
    """The process's own: its fence lives as long as it does."""
    return process.targets[0] if process.targets else SimTarget(process.world.postgres, process)


class _Log:
    """Keeps what the product says."""

    def __init__(self, world: World, component: str) -> None:
        self._world, self._component = world, component

    def __getattr__(self, level: str) -> Callable[..., None]:
        return lambda event, **facts: self._world.say(f"  {self._component} {level} {event} {facts}")


class _SimState:
    """What `cdc.state.store.StateStore` is asked."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __enter__(self) -> _SimState:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def close(self) -> None:
        """Nothing is held."""

    def read(self) -> Stored:
        """What is stored."""
        self._world.scheduler.step()
        if self._world.postgres.down:
            raise Retry("target_lost", "state", "the target is away", "")
        content = self._world.postgres.content
        return Stored(content.progress, dict(content.tables))


class _SimRequests:
    """Requests to capture where there is no broker."""

    stage = APPLY

    def __init__(self, world: World) -> None:
        self._world, self._next = world, 0

    def resume(self, known: Copies) -> Copies:
        """Numbers only grow."""
        return known

    def seek(self, number: int) -> None:
        self._next = number

    def take(self) -> list[tuple[int, bytes | None, bytes]]:
        """What has come since."""
        found: list[tuple[int, bytes | None, bytes]] = [
            (at, PREFIX.encode(), value) for at, value in enumerate(self._world.requests) if at >= self._next
        ]
        self._next = max(self._next, len(self._world.requests))
        return found

    def close(self) -> None:
        """Nothing is held."""
