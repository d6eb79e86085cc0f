"""`python -m bench.report [FILE ..]`: docs/performance.md from the newest run on each source, or from the runs that are named."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.job import Figures
from bench.results import FOLDER, read

PAGE = Path("docs/performance.md")
NAMES = {
    "read": "log reader alone: packets, checksums, events",
    "encode": "codec alone: row images -> Avro",
    "capture": "capture: log -> records in the in-process transport",
    "stock": "stock mysql-replication reader, the first rows of the same log",
    "capture_kafka": "capture: log -> records acknowledged by Kafka",
    "capture_kafka_updates": "capture: log -> records acknowledged by Kafka, updates",
    "apply": "apply: Kafka -> PostgreSQL, new rows",
    "apply_updates": "apply: Kafka -> PostgreSQL, updates",
    "direct": "`cdc run` over a backlog, direct: log -> PostgreSQL, new rows",
    "direct_updates": "`cdc run` over a backlog, direct, updates",
    "capture_single": "capture, in-process transport, transactions of one row",
    "direct_single": "`cdc run`, direct, transactions of one row",
    "load": "`cdc snapshot`: initial load",
    "load_pgloader": "pgloader, the same table",
}
LATENCIES = {"latency_direct": "direct (`cdc run`)", "latency_kafka": "Kafka (`cdc capture`, `cdc apply`)"}

HEAD = """# Performance

Written by `python -m bench.report` from what `make bench` measured: one run each, no best of many. Source, broker, target and
the measured process share one machine, so **CPU seconds per million rows of our own process is the figure to compare**; rows a
second depend on what else wants the cores.

- 17 columns: a dental procedure log. 90 columns: a patient. InnoDB; backlogs are in transactions of 1000 rows unless a line says
  otherwise.
- Each stage runs in a process of its own; its peak memory is that whole process's, the interpreter and all imports included.
  Only the work is timed, except for `cdc run`, `cdc snapshot` and pgloader, whose start is included: it weighs on few rows.
- pgloader (workers = 2, concurrency = 1) turns zero dates into null as `cdc snapshot` does, by its own rule for that; without the
  rule it loads no table that holds one.
- The stock reader runs over fewer rows, because it takes so long; it only decodes, and writes no records.
"""


def page(runs: Iterable[Sequence[Figures]]) -> str:
    """The whole document."""
    return "\n".join([HEAD, *(_section(run) for run in runs)])


def _section(run: Sequence[Figures]) -> str:
    conditions = run[0]["run"]
    columns = sorted({figure["columns"] for figure in run})
    return "\n".join([f"## {conditions['source']}\n", _conditions(conditions), *(_table(run, count) for count in columns), _latencies(run)])


def _conditions(run: Figures) -> str:
    beside = "nothing else ran" if run["quiet"] else f"**other load beside it** (load average {run['load_before']} before the start)"
    return (
        f"Revision {run['revision']}, {run['date']}; {run['cores']} cores ({run['processor']}), Linux {run['kernel']}, "
        f"Python {run['python']}, codec {run['codec']}; {beside}.\n"
    )


def _table(run: Sequence[Figures], columns: int) -> str:
    lines = [f"| {columns} columns | rows | rows/s | CPU s per million | peak MB |", "| --- | ---: | ---: | ---: | ---: |"]
    for figure in run:
        if figure["columns"] == columns and figure["stage"] in NAMES:
            cells = (figure["rows"], figure["rows_per_second"], figure["cpu_seconds_per_million"], figure["peak_mb"])
            lines.append(f"| {NAMES[figure['stage']]} | " + " | ".join(f"{cell:,}" for cell in cells) + " |")
    return "\n".join([*lines, "", *_times(run, columns)])


def _times(run: Sequence[Figures], columns: int) -> list[str]:
    """How capture compares with the stock reader."""
    cpu = {figure["stage"]: figure["cpu_seconds_per_million"] for figure in run if figure["columns"] == columns}
    if not {"stock", "capture"} <= set(cpu):
        return []
    return [f"Per row, capture takes {cpu['stock'] / cpu['capture']:.0f} times less CPU than the stock reader.\n"]


def _latencies(run: Sequence[Figures]) -> str:
    """One line per transport and table."""
    lines = [
        "Commit on the source to visible on the target, single-row inserts at 100 a second, milliseconds from the source's answer to "
        "the commit until a poller sees the row; resolution is the poller's median interval.\n",
        "| transport | columns | changes | p50 | p99 | max | resolution | CPU s of all processes | peak MB of the largest |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for figure in run:
        if figure["stage"] in LATENCIES:
            names = ("columns", "rows", "p50_ms", "p99_ms", "max_ms", "resolution_ms", "process_cpu_seconds", "peak_mb")
            lines.append(f"| {LATENCIES[figure['stage']]} | " + " | ".join(f"{figure[name]:,}" for name in names) + " |")
    return "\n".join([*lines, ""]) if len(lines) > 3 else ""


def newest_of_each(folder: Path = FOLDER) -> list[Path]:
    """The last whole run on each source."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*.jsonl")):
        run = read(path)
        if {"capture", "apply", "load"} <= {figure["stage"] for figure in run}:
            found[run[0]["run"]["source"]] = path
    return [found[source] for source in sorted(found)]


def main() -> int:
    paths = [Path(name) for name in sys.argv[1:]] or newest_of_each()
    if not paths:
        print(f"{FOLDER} holds no whole run: make bench", file=sys.stderr)
        return 2
    PAGE.write_text(page(read(path) for path in paths))
    print(f"{PAGE} from {', '.join(map(str, paths))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
