"""The bench, on few rows: every figure is there and counts what it claims, and the page is made of them. How fast it is, is not asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench.machine import Meter, cpu_seconds, memory_bytes
from bench.report import BACKLOGS, LATENCIES, STAGES, TABLES, name_of, page, split
from bench.results import read
from bench.tables import ROUND, SHAPES

from bench import plot

ROOT = Path(__file__).resolve().parents[2]
SERVERS = {"mariadb", "postgres", "kafka"}
SIZES = ("--seconds", "1", "--rate", "100", "--large", "3000", "--history", "1000", "--deep", "4000")


def measured(folder: Path, *arguments: str) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "bench", "--rows", "2000", *SIZES, "--results", str(folder), *arguments]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return read(next(folder.glob("*.jsonl")))


def rows(figures) -> dict[str, object]:
    return {figure["stage"]: figure["rows"] for figure in figures}


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    return measured(tmp_path_factory.mktemp("results"), "--tables", "narrow", "--only", "insert", "latency")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_stage_carries_all_of_its_rows_and_says_what_every_process_took(figures):
    stages = {"read", "encode", "capture", "capture_kafka", "apply", "direct", "kafka"}
    assert dict.fromkeys(stages, 2000) | {"stock": 1000} == {f["stage"]: f["rows"] for f in figures if f["stage"] in {*stages, "stock"}}
    ours = {"direct": {"run"}, "kafka": {"capture", "apply"}}
    for figure in (f for f in figures if f["stage"] in STAGES):
        assert SERVERS | ours.get(figure["stage"], set()) == set(figure["processes"]), figure["stage"]
        assert [] == [name for name, one in figure["processes"].items() if not one["peak_mb"]], figure["stage"]
        assert [] == [name for name in ("rows_per_second", "cpu_seconds_per_million", "peak_mb") if not figure[name]]
        assert 90 <= figure["row_bytes"] <= 110


@pytest.mark.slow
def test_no_change_is_lost_while_latency_is_measured_idle_and_beside_load(figures):
    found = {f["stage"]: f for f in figures if f["stage"].startswith("latency")}
    ways = ("latency_direct", "latency_kafka")
    assert {*ways, *(f"{way}_loaded" for way in ways)} == set(found)
    assert [(100, 0)] * 4 == [(figure["rows"], figure["lost"]) for figure in found.values()]
    assert [] == [figure for figure in found.values() if not figure["p50_ms"] <= figure["p99_ms"] <= figure["max_ms"]]
    assert [] == [name for name, figure in found.items() if name.endswith("_loaded") != bool(figure["load_rows_per_second"])]


@pytest.mark.slow
def test_the_page_and_its_plot_show_every_figure_with_its_conditions(figures):
    text, run = page([figures]), figures[0]["run"]
    lines = {*(name_of(f) for f in figures if f["stage"] in STAGES), run["revision"], run["codec"], run["date"]}
    lines |= {LATENCIES[f["stage"]] for f in figures if f["stage"] in LATENCIES}
    assert [] == [line for line in lines if line not in text]
    drawn = [element.text for element in ElementTree.fromstring(plot.bars(figures, STAGES)).iter() if element.tag.endswith("text")]
    assert {STAGES[stage].replace("`", "") + ", mariadb" for stage in ("apply", "direct", "kafka")} <= set(drawn)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("label", ["narrow", "myisam", "text", "middle", "wide"])
def test_every_part_runs_on_every_table_and_brings_the_target_to_the_source(label, tmp_path):
    """Each part compares rows, keys and values on both sides by itself, and fails when they differ."""
    count = 2000 // SHAPES[label].share
    whole, mixed = ("capture_kafka", "apply", "direct", "kafka"), count // 2 // sum(ROUND) * sum(ROUND)
    wanted = {f"{stage}_updates": count // 2 for stage in whole} | {f"{stage}_mixed": mixed for stage in whole}
    wanted |= {f"{stage}_single": count // 15 for stage in ("capture", "direct", "kafka")} | {"load": count}
    if label == "narrow":
        wanted |= {"direct_large": 3000, "kafka_large": 3000, "direct_deep": 4000, "kafka_deep": 4000}
        wanted |= {f"{stage}_first": 1000 for stage in whole[:3]} | {f"{stage}_after": 9000 for stage in whole[:3]}
    found = rows(measured(tmp_path, "--tables", label))
    assert wanted == {stage: found.get(stage) for stage in wanted}


def test_a_process_is_metered_with_its_children():
    with subprocess.Popen(["sh", "-c", "head -c 300000000 /dev/zero | sort -S 60M | cat >/dev/null & wait"]) as shell:
        meter = Meter({"shell": shell.pid}, os.getpid())
        with meter.watching():
            most = 0.0
            while shell.poll() is None and most < 0.05:
                most = max(most, cpu_seconds(shell.pid))
            shell.kill()
    assert most >= 0.05
    assert meter.peaks["shell"] > memory_bytes(shell.pid) == 0


def test_no_two_figures_share_a_name():
    assert len(STAGES) == len(set(STAGES.values()))
    assert len(BACKLOGS) == len(set(BACKLOGS.values()))
    assert ("capture_kafka", "updates") == split("capture_kafka_updates")
    assert ("capture_kafka", "") == split("capture_kafka")


def test_the_tables_have_as_many_columns_as_they_say():
    assert {"narrow": 17, "myisam": 17, "text": 17, "middle": 45, "wide": 100} == {label: len(s.columns) for label, s in SHAPES.items()}
    assert set(TABLES) == set(SHAPES)
