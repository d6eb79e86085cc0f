"""A pipeline's streaming processes as a test wants them: started, known to stream, killed and started again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.e2e.watch import until
from tests.helpers.pipelines import Pipeline, Running, said
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase

WAYS = ("direct", "kafka", "split")
"""`cdc run` in process; `cdc run` over a broker; `cdc snapshot`, then `cdc capture` and `cdc apply` over a broker."""


@dataclass
class Streaming:
    """The processes of one pipeline by command."""

    pipeline: Pipeline
    way: str
    processes: dict[str, Running] = field(default_factory=dict)

    @property
    def commands(self) -> tuple[str, ...]:
        return ("capture", "apply") if self.way == "split" else ("run",)

    def start(self, *commands: str) -> None:
        """Start these commands, or all of them."""
        for command in commands or self.commands:
            self.processes[command] = self.pipeline.start(command)

    def kill(self, *commands: str) -> None:
        """End these, or all, as a crash would."""
        for command in commands or self.commands:
            self.processes[command].kill()

    def stop(self) -> None:
        """End all of them cleanly."""
        for command, process in self.processes.items():
            assert process.stop() == 0, f"cdc {command}\n{said(process)}"

    def check(self) -> None:
        """All of them are alive."""
        assert all(process.alive for process in self.processes.values()), said(*self.processes.values())

    def await_cut(self, target: TargetDatabase, beyond: int = 0) -> int:
        """Wait until the target has committed a cut beyond that number; its number."""
        name = name_of(self.pipeline)
        return until(lambda: max(0, cut_no(target, name) - beyond), 90, f"a cut beyond {beyond}", *self.processes.values()) + beyond


def name_of(pipeline: Pipeline) -> str:
    """The pipeline's name, as its file has it."""
    lines = pipeline.path.read_text().splitlines()
    return next(line.partition("=")[2].strip().strip('"') for line in lines if line.startswith("name"))


def cut_no(target: TargetDatabase, pipeline: str) -> int:
    """The newest cut in the target; 0 before the first."""
    if target.execute("SELECT to_regclass('cdc.progress')") == [(None,)]:
        return 0
    rows = target.execute(f"SELECT cut_no FROM cdc.progress WHERE pipeline = '{pipeline}'")
    return int(rows[0][0]) if rows else 0


@contextmanager
def streaming(
    make: Callable[..., Pipeline], source: SourceDatabase, target: TargetDatabase, kafka: Broker | None, way: str, /, **sections: Any
) -> Iterator[Streaming]:
    """A pipeline that is copied and streams; ended cleanly with the block."""
    pipeline = make(source, target, *([] if way == "direct" else [kafka]), **sections)
    works = Streaming(pipeline, way)
    if way == "split":
        pipeline.json("snapshot")
    works.start()
    works.await_cut(target)
    yield works
    works.stop()
