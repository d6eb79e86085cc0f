"""The part of docs/performance.md about a practice of production size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.job import Figures


def section(found: Sequence[Figures]) -> list[str]:
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
