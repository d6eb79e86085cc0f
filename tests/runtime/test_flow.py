"""One line a minute says what flows and how late it is."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace

import pytest

from cdc.runtime import clock, logs, timing
from cdc.runtime.counters import ApplyCounters, CaptureCounters
from cdc.runtime.flow import Flow, telling
from cdc.runtime.metrics import Metrics


def test_what_flowed_is_counted_since_the_last_line_and_applied_is_what_counts():
    now = [1000.0]
    with clock.lend(monotonic=lambda: now[0], now=lambda: now[0]):
        metrics = Metrics("od")
        read, applied = CaptureCounters(rows=500, source_ts_us=995_000_000), ApplyCounters()
        metrics.watch_capture(read)
        flow = Flow(metrics)
        now[0], read.rows = 1060.0, 620
        assert {"changes": 120, "per_second": 2.0, "lag_seconds": 65.0} == flow.facts()
        metrics.watch_apply(applied)
        applied.rows[("d", "t")] = 90
        applied.hear(1_058_000_000, 0)
        flow = Flow(metrics)
        now[0], applied.rows[("d", "t")] = 1061.0, 100
        assert {"changes": 10, "per_second": 10.0, "lag_seconds": 3.0} == flow.facts()
        assert {"changes": 0, "per_second": 0.0, "lag_seconds": 3.0} == flow.facts()


@pytest.mark.parametrize("streams", [True, False])
def test_lines_come_while_something_streams_and_end_with_it(streams, monkeypatch, capsys):
    monkeypatch.setattr(timing, "TIMES", replace(timing.TIMES, flow_seconds=0.01))
    logs.configure(terminal=False)
    metrics = Metrics("od")
    if streams:
        metrics.watch_apply(ApplyCounters())
    said, until = "", time.monotonic() + (30 if streams else 0.1)
    with telling(metrics):
        while said.count("\n") < 2 and time.monotonic() < until:
            said += capsys.readouterr().err
    said += capsys.readouterr().err
    assert streams == bool(said)
    assert all(("flow", None) == (one["event"], one["lag_seconds"]) for one in map(json.loads, said.splitlines()))


def test_a_line_for_people_fits_a_terminal_and_its_figures_are_rounded(capsys):
    logs.configure(terminal=True)
    logs.logger("pipeline").info("flow", changes=7, per_second=1234.5678, lag_seconds=0.41239)
    said = capsys.readouterr().err
    line = r"\d\d-\d\dT[0-9:]{8}Z \[info\] flow +changes=7 component=pipeline lag_seconds=0\.412 per_second=1234\.6\n"
    assert re.fullmatch(line, said), said
