"""The decisions of a module: every way on from a line that has more than one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from coverage.parser import PythonParser

ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    "sinks/apply.py", "sinks/careful.py", "sinks/cuts.py", "sinks/epochs.py", "sinks/scope.py", "sinks/table_states.py",
    "sinks/shard_apply.py", "cdc/capture/capture.py",
    "cdc/capture/followed_tables.py", "cdc/capture/table_stream.py", "cdc/capture/incremental_snapshot.py",
    "cdc/capture/incremental_queue.py", "cdc/capture/incremental_rows.py", "cdc/mysql/source_server.py",
    "cdc/capture/restart.py", "cdc/model/position.py", "cdc/mysql/log_identity.py",
)  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class Way:
    """From a line on to another one; to a negative one: out of the function that begins there."""

    module: str
    line: int
    to: int


@dataclass(frozen=True, slots=True)
class Module:
    """What is to be counted in one module."""

    name: str
    ways: tuple[Way, ...]
    first_line: Callable[[int], int]
    """Of a statement, by any of its lines."""
    lines: tuple[str, ...]

    def text(self, line: int) -> str:
        """The line, or the function's head."""
        return self.lines[abs(line) - 1].strip()


@cache
def modules() -> dict[str, Module]:
    """By path, as it stands in a code object."""
    return {str(ROOT / name): _module(name) for name in MODULES}


def _module(name: str) -> Module:
    text = (ROOT / name).read_text()
    parser = PythonParser(text=text)
    parser.parse_source()
    ways: dict[int, set[int]] = defaultdict(set)
    for line, to in parser.arcs():
        if line > 0 and to != -line:  # the end of a comprehension is no way on
            ways[line].add(to)
    lines = tuple(text.splitlines())
    found = tuple(Way(name, line, to) for line in sorted(ways) if len(ways[line]) > 1 for to in sorted(ways[line]))
    return Module(name, found, parser.first_line, lines)
