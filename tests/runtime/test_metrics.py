"""Metrics: totals, and a lag that is right while nothing moves."""

from __future__ import annotations

import json
import re
import socket
import urllib.request

import pytest

from cdc.errors import Refused
from cdc.model.position import Position
from cdc.runtime import logs
from cdc.runtime.counters import ApplyCounters, CaptureCounters
from cdc.runtime.lag import Lag
from cdc.runtime.metrics import STATES, Metrics
from cdc.runtime.moments import SteadyClock

SECOND = 1_000_000


def samples(metrics: Metrics) -> dict[str, float]:
    """Every sample as Prometheus would name it, without the pipeline's label."""
    found = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()) if name != "pipeline")
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_the_stages_lags_add_up_to_the_total():
    lag = Lag(read_us=97 * SECOND, published_us=95 * SECOND, applied_us=90 * SECOND)
    assert {"read": 3.0, "publish": 2.0, "apply": 5.0, "total": 10.0} == lag.seconds(100 * SECOND)


def test_lag_grows_by_itself_while_something_is_stuck():
    lag = Lag(read_us=100 * SECOND, published_us=100 * SECOND, applied_us=100 * SECOND)
    assert [0.0, 7.0] == [lag.seconds(now * SECOND)["total"] for now in (100, 107)]


def test_lag_is_told_in_the_source_s_clock():
    """As the reader measured it; where none reads here, as the newest cut that was applied has it."""
    metrics = Metrics("od")
    metrics.watch_apply(ApplyCounters(source_ts_us=1_000 * SECOND, source_clock=SteadyClock(1_005 * SECOND)))
    assert 5 == int(samples(metrics)["cdc_lag_seconds{stage=total}"])
    metrics.source_clock = SteadyClock(1_009 * SECOND)
    assert 9 == int(samples(metrics)["cdc_lag_seconds{stage=total}"])


def test_a_stage_that_is_not_known_here_has_no_lag():
    assert {"read": None, "publish": None, "apply": 4.0, "total": 4.0} == Lag(applied_us=96 * SECOND).seconds(100 * SECOND)
    assert {"read": 1.0, "publish": 1.0, "apply": None, "total": None} == Lag(99 * SECOND, 98 * SECOND).seconds(100 * SECOND)


def test_lag_is_never_negative():
    assert {0.0} == set(Lag(105 * SECOND, 106 * SECOND, 107 * SECOND).seconds(100 * SECOND).values())


def test_the_age_of_a_cut_is_told_in_the_source_s_clock_for_each_role_that_is_known_here_and_is_never_negative():
    assert {"capture": 5.5, "apply": 7.0} == Lag(1, 96_500_000, 95 * SECOND).cuts(102 * SECOND)
    assert {} == Lag(1).cuts(100 * SECOND)
    assert {"capture": 1.0} == Lag(published_us=99 * SECOND).cuts(100 * SECOND)
    assert {"apply": 0.0} == Lag(applied_us=101 * SECOND).cuts(100 * SECOND)


def test_a_mark_ahead_of_the_clock_does_not_make_the_next_stage_late():
    assert {"read": 0.0, "publish": 3.0, "apply": 0.0, "total": 3.0} == Lag(105 * SECOND, 97 * SECOND, 97 * SECOND).seconds(100 * SECOND)


def test_totals_are_those_of_all_runs_in_this_process():
    metrics = Metrics("od")
    metrics.watch_capture(CaptureCounters(rows=3, transactions=2, cuts=1, cut_no=8))
    metrics.watch_capture(
        CaptureCounters(rows=4, transactions=1, cuts=1, cut_no=9, position=Position("mariadb", "1", "0-1-5", "bin.000007", 1234))
    )
    metrics.watch_apply(ApplyCounters(commits=1, rows={("a", "b"): 5}, void={"epoch": 2}))
    metrics.watch_apply(ApplyCounters(commits=2, rows={("a", "b"): 6, ("a", "c"): 1}, cut_no=9))
    expected = {
        "cdc_rows_read_total": 7, "cdc_transactions_read_total": 3, "cdc_cuts_total": 2, "cdc_written_cut_number": 9,
        "cdc_position_file_number": 7, "cdc_position_offset_bytes": 1234, "cdc_commits_total": 3, "cdc_applied_cut_number": 9,
        "cdc_rows_applied_total{table=a.b}": 11, "cdc_rows_applied_total{table=a.c}": 1, "cdc_void_records_total{reason=epoch}": 2,
        "debezium_metrics_TotalNumberOfEventsSeen{context=streaming,name=od,plugin=mysql}": 7,
        "debezium_metrics_TotalNumberOfWrites{context=sink,name=od,plugin=mysql}": 12,
    }  # fmt: skip
    found = samples(metrics)
    assert expected == {name: found.get(name) for name in expected}


def test_lag_is_worked_out_when_it_is_asked_for():
    metrics, totals = Metrics("od"), ApplyCounters(source_ts_us=1)
    metrics.watch_apply(totals)
    first = samples(metrics)["cdc_lag_seconds{stage=total}"]
    assert first < samples(metrics)["cdc_lag_seconds{stage=total}"]
    assert "cdc_lag_seconds{stage=read}" not in samples(metrics)


def test_a_component_is_in_one_state():
    metrics = Metrics("od")
    for state in ("starting", "degraded"):
        metrics.state("apply", state)
    found = samples(metrics)
    assert {"degraded"} == {state for state in STATES if found[f"cdc_state{{component=apply,state={state}}}"]}


def test_counters_that_the_stages_raise_have_their_labels():
    metrics = Metrics("od", transport="kafka", codec="compiled", version="1")
    metrics.watch_capture(CaptureCounters(anomalies={("a", "b", "born", "zero_date"): 2}))
    metrics.retries.labels("apply", "target_lost").inc()
    written = {("a", "b", "note", "nul_text"): 3}
    metrics.watch_apply(ApplyCounters(states={"copying": 2}, held={("a", "b"): 9}, queued={("a", "b"): 9}, anomalies=written))
    metrics.changed_by_copies.append({("a", "b", "note", "nul_text"): 4, ("a", "b", "born", "zero_date"): 1})
    metrics.watch_apply(ApplyCounters(states={"consistent": 2}, held={("a", "b"): 1, ("a", "c"): 0}, queued={("a", "b"): 3}))
    found = samples(metrics)
    assert (1, 0) == (found["cdc_quarantined_keys{table=a.b}"], found["cdc_quarantined_keys{table=a.c}"])
    assert 12 == found["cdc_quarantined_changes_total{table=a.b}"]
    assert 3 == found["cdc_anomalies_total{column=born,reason=zero_date,table=a.b}"]
    assert 7 == found["cdc_anomalies_total{column=note,reason=nul_text,table=a.b}"]
    assert 1 == found["cdc_retries_total{code=target_lost,component=apply}"]
    assert {"cdc_tables{state=consistent}": 2} == {name: value for name, value in found.items() if name.startswith("cdc_tables")}
    assert 1 == found["cdc_info{codec=compiled,transport=kafka,version=1}"]


def test_the_endpoint_serves_and_frees_its_port():
    metrics = Metrics("od")
    endpoint = metrics.serve("127.0.0.1:0")
    assert endpoint is not None
    with urllib.request.urlopen(f"http://{endpoint.address}/metrics", timeout=5) as answer:
        assert re.search(r'^cdc_info\{.*pipeline="od".*\} 1\.0$', answer.read().decode(), re.MULTILINE)
    endpoint.close()
    again = metrics.serve(endpoint.address)
    assert again is not None
    again.close()


def test_processes_that_share_a_key_take_the_ports_from_it_on_and_the_next_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        first = taken.getsockname()[1]
        metrics = Metrics("od")
        found = [metrics.serve(f"127.0.0.1:{first}", key="apply_listen", ports=3) for _ in range(2)]
        with pytest.raises(Refused) as caught:
            metrics.serve(f"127.0.0.1:{first}", key="apply_listen", ports=3)
        addresses = [one.address for one in found if one is not None]
        for one in found:
            assert one is not None
            one.close()
    assert [f"127.0.0.1:{first + step}" for step in (1, 2)] == addresses
    assert ("metrics_listen", "metrics.apply_listen") == (caught.value.code, caught.value.place.split()[0])


def test_a_port_that_nobody_chose_gives_way_with_a_warning_that_names_it(capsys):
    logs.configure()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = f"127.0.0.1:{taken.getsockname()[1]}"
        endpoint = Metrics("od").serve(wanted, key="apply_listen", yields=True)
        assert endpoint is not None
        endpoint.close()
    warned, served = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert ("warning", "metrics_port_taken", "metrics.apply_listen", wanted) == (
        warned["level"], warned["event"], warned["key"], warned["wanted"],
    )  # fmt: skip
    assert ("metrics_served", endpoint.address) == (served["event"], served["address"])


def test_a_port_in_use_is_refused_and_no_port_is_no_endpoint():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Refused) as caught:
            Metrics("od").serve(f"127.0.0.1:{taken.getsockname()[1]}")
    assert "metrics_listen" == caught.value.code
    assert Metrics("od").serve("") is None
