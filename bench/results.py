"""One run's figures: written down as JSON lines with the conditions they were measured under, and printed."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.job import Figures
from cdc import codec

FOLDER = Path("bench/results")
QUIET_LOAD = 0.7
"""A load average before the run, above which the machine was not ours alone."""


def conditions(source: str, rows: int) -> Figures:
    """What the figures depend on."""
    load = os.getloadavg()[0]
    return {
        "revision": _revision(), "date": datetime.now(UTC).isoformat(timespec="seconds"), "source": source, "rows": rows,
        "cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version(), "processor": _processor(),
        "codec": codec.KIND, "load_before": round(load, 2), "quiet": load <= QUIET_LOAD,
    }  # fmt: skip


def _revision() -> str:
    try:
        commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "-uno"], check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + ("+" if changed else "")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


class Results:
    """Takes figures as they come; each is one line of the file and one line on the screen."""

    def __init__(self, folder: Path, run: Figures) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.run = run
        self.path = folder / f"{run['date'].replace(':', '').replace('+0000', 'Z')}.jsonl"
        self.figures: list[Figures] = []

    def begin(self) -> None:
        """Say what is measured where."""
        run = self.run
        print(sentence(run))
        if not run["quiet"]:
            print(f"other load on this machine ({run['load_before']}): compare CPU seconds, not rates")
        print(f"{'stage':24}{'table':>8}{'rows':>12}{'rows/s':>11}{'MB/s':>8}{'CPU s/M':>9}{'peak MB':>9}{'other':>7}", flush=True)

    def add(self, figures: Figures) -> None:
        """One more."""
        self.figures.append(figures)
        with self.path.open("a") as file:
            file.write(json.dumps({**figures, "run": self.run}) + "\n")
        print(line(figures), flush=True)

    def end(self) -> None:
        """What follows from them."""
        for table, times in self.against_stock().items():
            print(f"capture into the in-process transport, {table} table: {times:.0f} times the stock reader")
        print(f"written to {self.path}; python -m bench.report makes docs/performance.md of it")

    def against_stock(self) -> dict[str, float]:
        """By table: how many times the stock reader's rate capture has, by CPU time, which other load does not change."""
        found = {(f["stage"], f["table"]): f.get("cpu_seconds_per_million", 0.0) for f in self.figures}
        both = [table for stage, table in found if stage == "capture" and ("stock", table) in found]
        return {table: found["stock", table] / found["capture", table] for table in both}


def sentence(run: Figures) -> str:
    """Where and of what."""
    machine = f"{run['cores']} cores ({run['processor']})"
    return f"{run['source']}, codec {run['codec']}, Python {run['python']}, {machine}, revision {run['revision']}"


def line(figures: Figures) -> str:
    """One line of the table on the screen."""
    head = f"{figures['stage']:24}{figures['table']:>8}"
    if "p50_ms" in figures:
        parts = [f"{name} {figures[name + '_ms']:g}" for name in ("p50", "p99", "max")]
        rest = f"over {figures['rows']} changes, resolution {figures['resolution_ms']:g} ms, {_cell(figures['peak_mb'])} MB"
        return f"{head}  {', '.join(parts)} ms {rest}"
    names = ("rows", "rows_per_second", "mb_per_second", "cpu_seconds_per_million", "peak_mb", "other_load")
    return head + "".join(f"{_cell(figures.get(name)):>{width}}" for name, width in zip(names, (12, 11, 8, 9, 9, 7), strict=True))


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:,}"


def read(path: Path) -> list[Figures]:
    """The figures of one run, each with its conditions under `run`; those of an older form, which names no processes, are left out."""
    return [
        figure
        for figure in map(json.loads, path.read_text().splitlines())
        if "processes" in figure or figure["stage"].startswith("production_")
    ]
