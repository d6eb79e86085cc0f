"""`python -m bench.report [FILE ..]`: docs/performance.md and its plot, from the newest figure of each kind, or of the runs named."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from bench import plot, report_production
from bench.job import Figures
from bench.results import FOLDER, read

PAGE, PLOT = Path("docs/performance.md"), Path("docs/performance.svg")
STAGES = {
    "read": "log reader alone: packets, checksums, events",
    "encode": "codec alone: row images -> Avro",
    "capture": "capture: log -> records in the in-process transport",
    "stock": "stock mysql-replication reader, the first rows of the same log",
    "capture_kafka": "capture: log -> records acknowledged by Kafka",
    "apply": "apply: Kafka -> PostgreSQL",
    "direct": "whole chain, direct: `cdc run`",
    "kafka": "whole chain by Kafka: `cdc capture` and `cdc apply`",
    "sink": "Kafka -> PostgreSQL, two partitions: one `cdc apply`",
    "sinks": "the same: two `cdc apply`, `apply.shards = 2`",
    "load": "`cdc snapshot`: initial load",
    "load_pgloader": "pgloader, the same table",
    "debezium_source": "Debezium: log -> records acknowledged by Kafka, JSON",
    "debezium_avro": "Debezium: log -> records acknowledged by Kafka, Avro",
    "debezium_sink": "Debezium's JDBC sink: Kafka -> PostgreSQL",
    "debezium_chain": "whole chain, Debezium source and sink in one Connect worker",
}
BACKLOGS = {
    "": "", "updates": "updates", "mixed": "inserts, updates and deletes", "single": "transactions of one row", "large": "one transaction",
    "deep": "deep backlog", "first": "the first rows of a history", "after": "nine times as many on top of them",
}  # fmt: skip
LATENCIES = {
    "latency_direct": "direct: `cdc run`",
    "latency_kafka": "Kafka: `cdc capture`, `cdc apply`",
    "latency_debezium": "Debezium source and sink in one Connect worker",
}
LOADED = "_loaded"
TABLES = {
    "narrow": "a dental procedure log", "myisam": "the same, MyISAM", "text": "the same with a long note in each row",
    "middle": "procedures of insurance claims", "wide": "patients",
}  # fmt: skip
PAIRS = {
    "log -> Kafka, new rows, both Avro": ("capture_kafka", "debezium_avro"),
    "log -> Kafka, new rows, Debezium in JSON": ("capture_kafka", "debezium_source"),
    "log -> Kafka, updates, Debezium in JSON": ("capture_kafka_updates", "debezium_source_updates"),
    "Kafka -> PostgreSQL, new rows": ("apply", "debezium_sink"),
    "Kafka -> PostgreSQL, updates": ("apply_updates", "debezium_sink_updates"),
    "whole chain by Kafka, new rows": ("kafka", "debezium_chain"),
    "whole chain, ours without a broker": ("direct", "debezium_chain"),
}
SOURCES, BROKERS, TARGETS, OWN = ("mariadb", "mariadb114", "mysql"), ("kafka",), ("postgres",), ("capture", "apply", "apply 2")
"""Names of processes in the figures."""
HEAD = """# Performance

Written by `python -m bench.report` from what `make bench` and `make bench-peers` measured: one run each, no best of many. Source, broker,
target and the measured processes share one machine, so **CPU seconds per million rows are the figures to compare**; rows a second
depend on what else wants the cores.

- Backlogs are in transactions of 1000 rows unless a line says otherwise. MB are those of the source's log; for a load, of the table.
- Each stage up to `apply` runs in a process of its own and only its work is timed. The whole chain is real `cdc` processes over a
  backlog, their start included, which weighs on few rows: *warm* is the second half of the rows. Loads include their start too.
- CPU and memory are of whole processes, interpreter, imports and children included; of several of ours the CPU is the sum and the memory
  that of each. PostgreSQL's shared buffers count once.
- After every stage that ends in the target, its rows, keys and a changed column are summed on both sides; each other stage counts
  the rows it carried. A figure that does not agree is not written.
- *Other* is the share of the machine that went to nobody in the table: other load, and the kernel's own threads.
- pgloader (workers = 2, concurrency = 1) turns zero dates into null as `cdc snapshot` does, by its own rule for that; without the rule
  it loads no table that holds one. Of the tables with the largest rows (100 columns, long text) it reads 2,000 rows ahead: by
  its default, 100,000, it dies of both, and of 100 columns by 20,000 too ("heap exhausted").
- The stock reader runs over fewer rows, because it takes so long; it only decodes, and writes no records.
"""
DEBEZIUM = """### Beside Debezium

`make bench-peers`: {version}, in one run on the same servers and table, tuned; the figures are those
of the second half of the rows (warm), as above.
"""


def page(runs: Iterable[Sequence[Figures]], production: Iterable[Figures] = ()) -> str:
    """The whole document, of the newest figure of each kind."""
    everything = [figure for run in runs for figure in run]
    sources = sorted({str(figure["run"]["source"]) for figure in everything})
    sections = [_section(source, [figure for figure in everything if figure["run"]["source"] == source]) for source in sources]
    return "\n".join([HEAD, f"![Rows a second]({PLOT.name})\n", *sections, *report_production.section(list(production))])


def newest(figures: Iterable[Figures]) -> list[Figures]:
    """One of each source, table and stage, in the order of the page."""
    found: dict[tuple[object, ...], Figures] = {}
    for figure in sorted(figures, key=lambda f: str(f["run"]["date"])):
        found[figure["run"]["source"], figure["table"], figure["columns"], figure["stage"]] = figure
    return sorted(found.values(), key=_place)


def _place(figure: Figures) -> tuple[int, int, int, int]:
    tables, stages, backlogs = list(TABLES), list(STAGES), list(BACKLOGS)
    stage, backlog = split(figure["stage"])
    order = (stages.index(stage), backlogs.index(backlog)) if stage in stages else (len(stages), 0)
    return tables.index(figure["table"]), figure["columns"], *order


def split(stage: str) -> tuple[str, str]:
    """A stage and the kind of its backlog."""
    head, _, tail = stage.rpartition("_")
    return (head, tail) if tail in BACKLOGS and head in STAGES else (stage, "")


def name_of(figure: Figures) -> str:
    """What a line of the table says."""
    stage, backlog = split(figure["stage"])
    return STAGES[stage] + (f"; {BACKLOGS[backlog]}" if backlog else "")


def _section(source: str, everything: Sequence[Figures]) -> str:
    figures = newest(everything)
    dates = sorted({str(figure["run"]["date"]) for figure in figures})
    letters = {date: chr(ord("A") + number) for number, date in enumerate(dates)}
    runs = {str(figure["run"]["date"]): figure["run"] for figure in figures}
    parts = [f"## {source}\n", *(f"- Run {letters[date]}: {_conditions(runs[date])}" for date in dates), ""]
    for (table, columns), found in groupby(figures, key=lambda f: (f["table"], f["columns"])):
        parts += _table(table, columns, list(found), letters)
    return "\n".join([*parts, *_history(figures), *_takeovers(figures), *_beside(everything), *_latencies(figures, letters)])


def _conditions(run: Figures) -> str:
    beside = "nothing else ran" if run["quiet"] else f"**other load beside it** (load average {run['load_before']} before the start)"
    return (
        f"revision {run['revision']}, {run['date']}; {run['cores']} cores ({run['processor']}), Linux {run['kernel']}, "
        f"Python {run['python']}, codec {run['codec']}; {beside}."
    )


def _table(table: str, columns: int, figures: Sequence[Figures], letters: Mapping[str, str]) -> list[str]:
    lines = [
        f"### {columns} columns: {TABLES[table]}{_row_size(figures)}\n",
        "| | run | rows | rows/s | warm | MB/s | CPU s per million: ours | source | broker | target | peak MB: ours | source | broker "
        "| target | other |",
        "| --- | --- |" + " ---: |" * 13,
    ]
    for figure in figures:
        if split(figure["stage"])[0] in STAGES:
            servers = [_server(figure, names) for names in (SOURCES, BROKERS, TARGETS)]
            cells = [
                figure["rows"], figure["rows_per_second"], figure.get("warm_rows_per_second"), figure.get("mb_per_second"),
                figure["cpu_seconds_per_million"], *(one.get("cpu_seconds_per_million") for one in servers), _peak(figure),
                *(one.get("peak_mb") for one in servers), figure.get("other_load"),
            ]  # fmt: skip
            lines.append(f"| {name_of(figure)} | {letters[figure['run']['date']]} | {' | '.join(map(_cell, cells))} |")
    return [*lines, "", *_against_stock(figures)]


def _row_size(figures: Sequence[Figures]) -> str:
    sizes = [figure["row_bytes"] for figure in figures if figure["stage"] == "capture" and "row_bytes" in figure]
    return f", {sizes[0]:,} bytes of log a row" if sizes else ""


def _server(figure: Figures, names: Sequence[str]) -> Figures:
    processes: Figures = figure.get("processes", {})
    return next((processes[name] for name in names if name in processes), {})


def _peak(figure: Figures) -> str:
    """The memory of our process, or of each of them."""
    processes: Figures = figure.get("processes", {})
    several = [f"{name} {one['peak_mb']}" for name, one in processes.items() if name in OWN]
    return ", ".join(several) if len(several) > 1 else str(figure["peak_mb"])


def _cell(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:,}"


def _against_stock(figures: Sequence[Figures]) -> list[str]:
    cpu = _by_stage(figures, "cpu_seconds_per_million")
    if not {"stock", "capture"} <= set(cpu):
        return []
    return [f"Per row, capture takes {cpu['stock'] / cpu['capture']:.0f} times less CPU than the stock reader.\n"]


def _by_stage(figures: Sequence[Figures], name: str) -> dict[str, float]:
    return {figure["stage"]: figure[name] for figure in figures if figure.get(name)}


def _history(figures: Sequence[Figures]) -> list[str]:
    """What a row costs once there are ten times as many."""
    found = {figure["stage"]: figure for figure in figures if figure["table"] == "narrow"}
    lines = []
    for stage in ("capture_kafka", "apply", "direct"):
        if {f"{stage}_first", f"{stage}_after"} <= set(found):
            first, after = found[f"{stage}_first"], found[f"{stage}_after"]
            cpu = after["cpu_seconds_per_million"] / first["cpu_seconds_per_million"] - 1
            wall = first["rows_per_second"] / after["rows_per_second"] - 1
            lines.append(f"- {STAGES[stage]}: {100 * cpu:+.0f} % own CPU per row, {100 * wall:+.0f} % time per row.")
    head = "Cost with history: rows after the first, until there are ten times as many, beside the first of them.\n"
    return [head, *lines, ""] if lines else []


def _takeovers(figures: Sequence[Figures]) -> list[str]:
    """How long changes waited behind members that were killed."""
    found = [figure for figure in figures if figure["stage"] == "takeover"]
    each = ", ".join(f"{seconds:g}" for figure in found for seconds in figure["seconds_each"])
    text = f"Members of a scaled sink killed one after the other: what was written then was in the target after {each} seconds.\n"
    return [text] if found else []


def _beside(figures: Sequence[Figures]) -> list[str]:
    """Ours and Debezium's on the narrow table; each pair of the newest run that measured both."""
    runs: dict[str, dict[str, Figures]] = {}
    for figure in figures:
        if figure["table"] == "narrow":
            runs.setdefault(str(figure["run"]["date"]), {})[figure["stage"]] = figure
    lines = [
        "| | rows/s: ours | Debezium | times | CPU s per million: ours | Debezium | times less | peak MB: ours | Debezium |",
        "| --- |" + " ---: |" * 8,
    ]
    version = ""
    for name, (ours, theirs) in PAIRS.items():
        found = next((runs[date] for date in sorted(runs, reverse=True) if {ours, theirs} <= set(runs[date])), None)
        if found is not None:
            (rate, cpu, peak), (their_rate, their_cpu, their_peak) = _warm(found[ours]), _warm(found[theirs])
            cells = (rate, their_rate, round(rate / their_rate, 1), cpu, their_cpu, round(their_cpu / cpu, 1), peak, their_peak)
            lines.append(f"| {name} | {' | '.join(map(_cell, cells))} |")
            version = found[theirs]["version"]
    return [DEBEZIUM.format(version=version), *lines, ""] if version else []


def _warm(figure: Figures) -> tuple[float, float, int]:
    warm = {name: figure.get(f"warm_{name}") or figure[name] for name in ("rows_per_second", "cpu_seconds_per_million")}
    return warm["rows_per_second"], warm["cpu_seconds_per_million"], figure["peak_mb"]


def _latencies(figures: Sequence[Figures], letters: Mapping[str, str]) -> list[str]:
    """One line per way, table and load."""
    lines = [
        "### Latency\n",
        "Commit on the source to visible on the target, single-row inserts at a steady rate, milliseconds from the source's answer to the "
        "commit until a poller sees the row; resolution is the poller's median interval. The load beside it is 20 transactions of 100 rows "
        "a second. CPU is of one core.\n",
        "| | run | columns | load rows/s | changes | p50 | p99 | max | resolution | CPU %: ours | source | broker | target "
        "| peak MB: ours |",
        "| --- | --- |" + " ---: |" * 12,
    ]
    for figure in figures:
        way = LATENCIES.get(figure["stage"].removesuffix(LOADED))
        if way:
            cells = [
                figure["columns"], figure.get("load_rows_per_second", 0), figure["rows"], *(figure[n] for n in _MILLISECONDS),
                *_percents(figure), figure["peak_mb"],
            ]  # fmt: skip
            kind = ", MyISAM" if figure.get("engine") == "MyISAM" else ", long text" if figure["table"] == "text" else ""
            lines.append(f"| {way}{kind} | {letters[figure['run']['date']]} | {' | '.join(map(_cell, cells))} |")
    return [*lines, ""] if len(lines) > 4 else []


_MILLISECONDS = ("p50_ms", "p99_ms", "max_ms", "resolution_ms")


def _percents(figure: Figures) -> list[float | None]:
    """Ours, source, broker, target."""
    percent: dict[str, float] = figure.get("cpu_percent", {})
    servers = [[name for name in names if name in percent] for names in (SOURCES, BROKERS, TARGETS)]
    known = {name for names in servers for name in names}
    ours = [value for name, value in percent.items() if name not in known]
    return [round(sum(ours), 1) if ours else None, *(percent[names[0]] if names else None for names in servers)]


def main() -> int:
    paths = [Path(name) for name in sys.argv[1:]] or sorted(p for p in FOLDER.glob("*.jsonl") if not p.name.startswith("production-"))
    if not paths:
        print(f"{FOLDER} holds no run: make bench", file=sys.stderr)
        return 2
    runs = [read(path) for path in paths]
    production = [figure for path in sorted(FOLDER.glob("production-*.jsonl")) for figure in read(path)]
    PAGE.write_text(page(runs, production))
    PLOT.write_text(plot.bars(newest(figure for run in runs for figure in run), STAGES))
    print(f"{PAGE}, {PLOT} from {', '.join(map(str, paths))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
