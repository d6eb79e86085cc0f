"""Counts ways while the product runs, in a file that outlives the process: what a kill interrupts has been counted.

`CDC_DECISIONS` names the file for processes of the crash lane, and for tests; they all count in the same. Two that count at one moment
may lose one.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.decisions.branches import Way

ENVIRONMENT = "CDC_DECISIONS"


class Counter:
    """One number for each way."""

    def __init__(self, path: Path) -> None:
        from tests.decisions.branches import modules  # only who counts needs to know the ways

        found = modules()
        self._ways = [way for module in found.values() for way in module.ways]
        self._at = {(file, way.line, way.to): at for at, (file, way) in enumerate((f, w) for f, m in found.items() for w in m.ways)}
        self._first = {file: module.first_line for file, module in found.items()}
        size = 8 * len(self._ways)
        with path.open("a+b") as held:
            if held.seek(0, os.SEEK_END) < size:
                held.truncate(size)
            self._counts = memoryview(mmap.mmap(held.fileno(), size)).cast("Q")

    def counts(self) -> Mapping[Way, int]:
        """How often each was taken so far."""
        return dict(zip(self._ways, self._counts, strict=True))

    def install(self) -> None:
        """Count in this thread and in those that it starts from now on."""
        threading.settrace(self._called)
        sys.settrace(self._called)

    def _called(self, frame: FrameType, event: str, argument: object) -> Any:
        file = frame.f_code.co_filename
        first = self._first.get(file)
        if first is None:
            return None
        last, at, counts, begins = 0, self._at, self._counts, frame.f_code.co_firstlineno

        def step(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal last
            if event == "line":
                line = first(frame.f_lineno)
                if line != last and (known := at.get((file, last, line))) is not None:
                    counts[known] += 1
                last = line
            elif event == "return" and last and (known := at.get((file, last, -begins))) is not None:
                counts[known] += 1
            elif event == "exception":
                last = 0
            return step

        return step


def count_here() -> None:
    """Count if the environment asks for it."""
    if path := os.environ.get(ENVIRONMENT):
        Counter(Path(path)).install()
