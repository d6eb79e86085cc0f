"""The bench, on few rows: every figure is there, and the page is made of them. How fast it is, is not asked here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.report import LATENCIES, NAMES, page
from bench.results import read
from bench.tables import SHAPES

ROOT = Path(__file__).resolve().parents[1]
PEERS = {"load_pgloader"}  # only where it is installed


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    folder = tmp_path_factory.mktemp("results")
    command = [sys.executable, "-m", "bench", "--rows", "2000", "--seconds", "1", "--results", str(folder)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return read(next(folder.glob("*.jsonl")))


@pytest.mark.slow
@pytest.mark.parametrize("columns", [17, 90])
def test_every_figure_of_both_tables_is_there(figures, columns):
    found = {figure["stage"]: figure for figure in figures if figure["columns"] == columns}
    assert {*NAMES, *LATENCIES} - PEERS == set(found) - PEERS
    assert [] == [name for name, one in found.items() if name in NAMES and not (one["rows_per_second"] and one["cpu_seconds_per_million"])]
    assert [] == [name for name, one in found.items() if not one["peak_mb"]]


@pytest.mark.slow
def test_every_stage_carries_all_of_its_rows(figures):
    rows = {"narrow": 2000, "wide": 666}
    carried = {"read", "encode", "capture", "capture_kafka", "apply", "direct"}
    assert [] == [f for f in figures if f["stage"] in carried and f["rows"] != rows[str(f["table"])]]
    assert [] == [f for f in figures if f["stage"].endswith("_single") and f["rows"] != rows[str(f["table"])] // 15]
    assert [] == [f for f in figures if f["stage"] == "load" and f["rows"] != rows[str(f["table"])] + rows[str(f["table"])] // 15]
    assert [] == [f for f in figures if f["stage"].endswith("_updates") and f["rows"] != rows[str(f["table"])] // 2]


@pytest.mark.slow
def test_no_change_is_lost_while_latency_is_measured(figures):
    latencies = [figure for figure in figures if figure["stage"] in LATENCIES]
    assert [(100, 0)] * 4 == [(figure["rows"], figure["lost"]) for figure in latencies]
    assert [] == [figure for figure in latencies if not figure["p50_ms"] <= figure["p99_ms"] <= figure["max_ms"]]


@pytest.mark.slow
def test_the_page_shows_every_figure_with_its_conditions(figures):
    text = page([figures])
    run = figures[0]["run"]
    lines = {*(NAMES[f["stage"]] for f in figures if f["stage"] in NAMES), *LATENCIES.values(), run["revision"], run["codec"], run["date"]}
    assert [] == [line for line in lines if line not in text]


def test_no_two_figures_share_a_name():
    assert len(NAMES) == len(set(NAMES.values()))


def test_the_tables_have_as_many_columns_as_they_say():
    assert {"narrow": 17, "wide": 90} == {label: len(shape.columns) for label, shape in SHAPES.items()}
