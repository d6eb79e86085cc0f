"""`python -m bench.report [FILE ..]`: docs/performance.md from the newest run on each source, or from the runs that are named."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
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


def page(runs: Iterable[Sequence[Figures]], production: Iterable[Figures] = ()) -> str:
    """The whole document."""
    return "\n".join([HEAD, *(_section(run) for run in runs), *_production(list(production))])


def _production(found: Sequence[Figures]) -> list[str]:
    """A practice of production size: what `python -m bench.production` wrote, the newest line of each of its stages."""
    by_stage = {figure["stage"]: figure for figure in found}
    lines = [f"- {_PRODUCTION[stage](figure)} {_beside(figure)}" for stage, figure in by_stage.items() if stage in _PRODUCTION]
    return [PRODUCTION_HEAD, *lines, ""] if lines else []


def _beside(figure: Figures) -> str:
    run = figure["run"]
    return (
        f"(revision {run['revision']}, {run['date']}; load average {run['load_before']} before the run, {figure['load_after']} at its end)"
    )


def _cpus(figure: Figures) -> str:
    return ", ".join(f"{name} {seconds:g}" for name, seconds in figure["cpu_seconds"].items())


def _copied(figure: Figures) -> str:
    proof = f" Reconcile: {'equal' if figure['equal'] else 'DIFFERENT'}, {figure['proof_seconds']:g} s." if "equal" in figure else ""
    return (
        f"{figure['rows']:,} rows of {figure['tables']} tables in {figure['seconds'] / 60:.1f} minutes, "
        f"{figure['rows_per_second']:,} rows/s; CPU seconds: {_cpus(figure)}; "
        f"peak memory of `cdc snapshot` {figure['peak_mb']} MB. {_reads(figure)}{proof}"
    )


def _reads(figure: Figures) -> str:
    locking = figure["reads"]["locking"]
    if not locking:
        return ""
    times = ", ".join(f"{name} {1000 * locking[name + '_seconds']:.1f}" for name in ("p50", "p99", "max"))
    return f"A read held its table's lock, client included, for {times} ms ({locking['pieces']:,} reads)."


def _worked(figure: Figures) -> str:
    return (
        f"{figure['changes_per_second']:g} changes/s for {figure['work_seconds']:g} s: a statement took p50 {figure['p50_ms']:g}, "
        f"p99 {figure['p99_ms']:g}, at most {figure['longest_ms']:g} ms"
    )


_PRODUCTION: dict[str, Callable[[Figures], str]] = {
    "production_made": lambda f: f"The practice: {f['rows']:,} rows in {f['tables']} tables, {f['bytes'] / 1e9:.2f} GB of data, "
                                 f"generated in {f['seconds'] / 60:.1f} minutes.",
    "production_copy": lambda f: f"Copied alone: {_copied(f)}",
    "production_work": lambda f: f"People at work, no copy: {_worked(f)}.",
    "production_copy_beside": lambda f: f"The same with a copy at the default pace: {_worked(f)}; p99 {f['p99_ms_above']:+g} ms. "
                                        f"{_copied(f)}",
    "production_proof": lambda f: f"Caught up after {f['caught_up_seconds']:g} s; reconcile: {'equal' if f['equal'] else 'DIFFERENT'}.",
}  # fmt: skip
PRODUCTION_HEAD = """## A practice of production size

`python -m bench.production`: OpenDental-like, MyISAM on MariaDB, `snapshot.parallel` = 2.
"""


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
    production = [figure for path in sorted(FOLDER.glob("production-*.jsonl")) for figure in read(path)]
    PAGE.write_text(page((read(path) for path in paths), production))
    print(f"{PAGE} from {', '.join(map(str, paths))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
