"""What Prometheus sees: counters the stages raise per batch, and a lag that is worked out when it is asked for.

Nothing here holds a row's value; tables, columns and reasons are the only labels. Beside our names stand Debezium's, as
jmx_exporter writes them, so that dashboards made for it keep working.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cdc.config.values import address, port_after
from cdc.errors import Refused
from cdc.model.table import AnomalyName
from cdc.runtime import clock, logs
from cdc.runtime.counters import ApplyCounters, CaptureCounters
from cdc.runtime.lag import APPLY, PUBLISH, Lag, Waits
from cdc.runtime.moments import SteadyClock

K = TypeVar("K")
_STAGE_OF = {"target": APPLY, "broker": PUBLISH, "registry": PUBLISH}
"""Which stage stands still for want of a server, by the first word of a reason code."""
STATES = ("starting", "copying", "streaming", "degraded", "stopped")
READ_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter that nobody reads


class Metrics:
    """The metrics of one process of a pipeline, in a registry of their own."""

    def __init__(
        self, pipeline: str, *, transport: str = "", codec: str = "", version: str = "", prefix: str = ""
    ) -> None:
        self.registry = CollectorRegistry()
        self.source_clock: SteadyClock | None = None
        """The source's, as the reader measured it; None where the log is not read."""
        self.pipeline = pipeline
        self._captured: list[CaptureCounters] = []
        self._applied: list[ApplyCounters] = []
        self._applying: dict[int, ApplyCounters] = {}
        """By shard, or 0: the ones at work."""
        self.changed_by_copies: list[dict[AnomalyName, int]] = []
        """What policies changed in rows that copies loaded, one mapping a copy."""
        self._info(transport, codec, version)
        self.rows_copied = self._counter("rows_copied", "Rows loaded by copies", "table")
        self.copy_reads = self._histogram(
            "copy_read_seconds", "How long copies read a table at a time; locking: writers waited", "locking"
        )
        self.retries = self._counter("retries", "Work undone and tried again", "component", "code")
        self.doing: dict[str, dict[str, Any]] = {}
        """By component: its `state`, and the `reason` that it was tried again for."""
        self._state = self._gauge("state", "1 for the state that a component is in", "component", "state")
        self.registry.register(_Totals(self, prefix or pipeline))

    def watch_capture(self, totals: CaptureCounters) -> None:
        """Show these totals from now on, on top of those of earlier runs in this process."""
        self._captured.append(totals)

    def watch_apply(self, totals: ApplyCounters, shard: int = 0) -> None:
        """Show these totals from now on, on top of those of earlier runs in this process."""
        self._applied.append(totals)
        self._applying[shard] = totals

    def leave_apply(self, shard: int) -> None:
        """How far this shard is is another process's to tell."""
        self._applying.pop(shard, None)

    @property
    def slowest(self) -> ApplyCounters | None:
        """Of those at work the one that is behind the others."""
        return min(self._applying.copy().values(), key=lambda one: one.source_ts_us, default=None)

    @property
    def captured(self) -> Sequence[CaptureCounters]:
        return self._captured

    @property
    def applied(self) -> Sequence[ApplyCounters]:
        return self._applied

    @property
    def lag(self) -> Lag:
        """The marks as they are now."""
        captured = self._captured[-1] if self._captured else None
        applied = self.slowest
        published = captured.published_ts_us if captured else 0
        read = captured.source_ts_us if captured else 0
        waits = captured.waits if captured else Waits()
        held_us = int((clock.monotonic() - waits.since) * 1e6)
        marks = (read or None, published or None, (applied.source_ts_us if applied else 0) or None)
        return Lag(*marks, waits.stage, held_us if waits.stage else 0)

    def stands_still(self, code: str) -> None:
        """Work ended by this reason: until it is taken up again capture reads nothing, and is not why."""
        stage = _STAGE_OF.get(code.partition("_")[0], "")
        if stage and self._captured and not self._captured[-1].waits.stage:
            self._captured[-1].waits.begin(stage)

    def source_now_us(self) -> int:
        """What the source's clock shows, as the reader measured it, else as the newest cut that was applied has it."""
        applied = self.slowest
        found = self.source_clock or (applied.source_clock if applied else None)
        return clock.now_us() if found is None else found.now_us()

    def state(self, component: str, state: str, reason: Mapping[str, str] | None = None) -> None:
        """The component is in this state and in no other; `reason`: the error that brought it there."""
        self.doing = {**self.doing, component: {"state": state, "reason": dict(reason) if reason else None}}
        for name in STATES:
            self._state.labels(component, name).set(name == state)

    def serve(self, listen: str, *, key: str = "listen", ports: int = 1, yields: bool = False) -> Endpoint | None:
        """Offer the metrics over HTTP; None when `listen` is empty, Refused when no port is to be had.

        `ports`: so many from this one on are tried, for processes that share a key. `yields`: nobody chose this port,
        so where it is taken any free one does, with a warning.
        """
        if not listen:
            return None
        try:
            endpoint = self._listening(listen, key, ports)
        except Refused:
            if not yields:
                raise
            endpoint = Endpoint(self.registry, f"{listen.rpartition(':')[0]}:0", key)
            logs.logger("metrics").warning("metrics_port_taken", key=f"metrics.{key}", wanted=listen)
        logs.logger("metrics").info("metrics_served", address=endpoint.address)
        return endpoint

    def _listening(self, listen: str, key: str, ports: int) -> Endpoint:
        """At the first of the ports that is free; else the refusal of the last."""
        for step in range(1, ports):
            with contextlib.suppress(Refused):
                return Endpoint(self.registry, port_after(listen, step - 1), key)
        return Endpoint(self.registry, port_after(listen, ports - 1), key)

    def _info(self, transport: str, codec: str, version: str) -> None:
        info = Gauge("cdc_info", "What runs", ["pipeline", "transport", "codec", "version"], registry=self.registry)
        info.labels(self.pipeline, transport, codec, version).set(1)

    def _counter(self, name: str, text: str, *labels: str) -> Any:
        return _curried(
            Counter(f"cdc_{name}", text, ["pipeline", *labels], registry=self.registry), self.pipeline, labels
        )

    def _histogram(self, name: str, text: str, *labels: str) -> Any:
        found = Histogram(f"cdc_{name}", text, ["pipeline", *labels], registry=self.registry, buckets=READ_BUCKETS)
        return _curried(found, self.pipeline, labels)

    def _gauge(self, name: str, text: str, *labels: str) -> Any:
        return _curried(
            Gauge(f"cdc_{name}", text, ["pipeline", *labels], registry=self.registry), self.pipeline, labels
        )


class Endpoint:
    """The metrics over HTTP, until closed."""

    def __init__(self, registry: CollectorRegistry, listen: str, key: str = "listen") -> None:
        host, port = address(listen)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            hint = (
                "another process listens there, or the address is not this machine's; "
                f'[metrics] {key} names another, or is ""'
            )
            raise Refused(
                "metrics_listen", f"metrics.{key} {listen}", f"cannot listen there ({error.errno})", hint
            ) from None
        self.address = f"{host}:{self._server.server_port}"

    def close(self) -> None:
        """End the endpoint and free its port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Labelled:
    """A metric whose first label, the pipeline, is given already."""

    def __init__(self, metric: Any, pipeline: str) -> None:
        self._metric, self._pipeline = metric, pipeline

    def labels(self, *values: str) -> Any:
        return self._metric.labels(self._pipeline, *values)

    def clear(self) -> None:
        self._metric.clear()


class _Totals(Collector):
    """Everything that is worked out at the moment of the scrape: the stages' running totals and the lag."""

    def __init__(self, metrics: Metrics, prefix: str) -> None:
        self._metrics, self._prefix = metrics, prefix

    def collect(self) -> Iterable[Metric]:
        source_now = self._metrics.source_now_us()
        lag = self._metrics.lag.seconds(source_now)
        yield self._gauge(
            "lag_seconds",
            "Seconds behind the source, per stage",
            "stage",
            {k: v for k, v in lag.items() if v is not None},
        )
        yield self._gauge(
            "cut_lag_seconds",
            "Age of the newest cut, in the source's clock",
            "role",
            self._metrics.lag.cuts(source_now),
        )
        yield self._gauge(
            "clock_offset_seconds", "Source clock minus this machine's", "", {"": (source_now - clock.now_us()) / 1e6}
        )
        captured, applied = self._metrics.captured, self._metrics.applied
        if captured:
            yield from self._capture(captured)
        if applied:
            yield from self._apply(applied)
        yield self._anomalies(
            [
                *(one.anomalies for one in captured),
                *(one.anomalies for one in applied),
                *self._metrics.changed_by_copies,
            ]
        )
        yield from self._debezium(captured, applied, lag["read"])

    def _capture(self, captured: Sequence[CaptureCounters]) -> Iterable[Metric]:
        yield self._counter(
            "rows_read", "Row changes of followed tables read from the log", "", {"": sum(one.rows for one in captured)}
        )
        yield self._counter("row_bytes_read", "Bytes of their row images", "", {"": sum(one.bytes for one in captured)})
        yield self._counter(
            "transactions_read",
            "Transactions read, others' included",
            "",
            {"": sum(one.transactions for one in captured)},
        )
        yield self._counter("cuts", "Cuts written", "", {"": sum(one.cuts for one in captured)})
        yield from self._copies(captured)
        yield self._gauge("written_cut_number", "Number of the newest cut written", "", {"": captured[-1].cut_no})
        position = captured[-1].position
        number = position.file.rpartition(".")[2] if position else ""
        if position and number.isdigit():
            yield self._gauge("position_file_number", "Number of the log file read", "", {"": int(number)})
            yield self._gauge("position_offset_bytes", "Byte offset in it", "", {"": position.offset})

    def _copies(self, captured: Sequence[CaptureCounters]) -> Iterable[Metric]:
        """Copies while the log is followed, and who asked for them."""
        rows = _added({".".join(name): count for name, count in one.copied.copy().items()} for one in captured)
        yield self._counter("copied_rows", "Rows that copies read while the log was followed", "table", rows)
        yield self._gauge("copies_waiting", "Copies that wait or are under way", "", {"": captured[-1].copies})
        family = CounterMetricFamily(
            "cdc_signals", "Requests read, by what became of them", labels=["pipeline", "type", "outcome"]
        )
        for (kind, outcome), count in _added(one.signals.copy() for one in captured).items():
            family.add_metric([self._metrics.pipeline, kind, outcome], count)
        yield family

    def _anomalies(self, parts: Sequence[Mapping[AnomalyName, int]]) -> Metric:
        labels = ["pipeline", "table", "column", "reason"]
        family = CounterMetricFamily("cdc_anomalies", "Values that could not be kept as they were", labels=labels)
        for (db, table, column, reason), count in _added(dict(one) for one in parts).items():
            family.add_metric([self._metrics.pipeline, f"{db}.{table}", column, reason], count)
        metric: Metric = family
        return metric

    def _apply(self, applied: Sequence[ApplyCounters]) -> Iterable[Metric]:
        yield self._counter(
            "commits", "Transactions committed on the target", "", {"": sum(one.commits for one in applied)}
        )
        tables = _added({".".join(name): count for name, count in one.rows.copy().items()} for one in applied)
        yield self._counter("rows_applied", "Row changes given to the target", "table", tables)
        void = _added(dict(one.void) for one in applied)
        yield self._counter(
            "void_records", "Records that do not count: torn tails, late and zombie writes", "reason", void
        )
        yield self._gauge("tables", "Tables in each state", "state", dict(applied[-1].states))
        held = {".".join(name): count for name, count in applied[-1].held.items()}
        yield self._gauge("quarantined_keys", "Keys whose changes wait in quarantine", "table", held)
        queued = _added({".".join(name): count for name, count in one.queued.copy().items()} for one in applied)
        yield self._counter("quarantined_changes", "Row changes queued in quarantine", "table", queued)
        slowest = self._metrics.slowest
        yield self._gauge(
            "applied_cut_number", "Number of the newest cut applied", "", {"": slowest.cut_no if slowest else 0}
        )

    def _debezium(
        self, captured: Sequence[CaptureCounters], applied: Sequence[ApplyCounters], read: float | None
    ) -> Iterable[Metric]:
        if captured:
            yield self._foreign("MilliSecondsBehindSource", "streaming", -1 if read is None else read * 1000)
            yield self._foreign("TotalNumberOfEventsSeen", "streaming", sum(one.rows for one in captured))
            yield self._foreign("NumberOfCommittedTransactions", "streaming", sum(one.transactions for one in captured))
            if captured[-1].position:
                yield self._foreign("BinlogPosition", "streaming", captured[-1].position.offset)
        if applied:
            yield self._foreign("TotalNumberOfWrites", "sink", sum(sum(one.rows.copy().values()) for one in applied))

    def _counter(self, name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
        return self._filled(
            CounterMetricFamily(f"cdc_{name}", text, labels=["pipeline", *filter(None, [label])]), values
        )

    def _gauge(self, name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
        return self._filled(GaugeMetricFamily(f"cdc_{name}", text, labels=["pipeline", *filter(None, [label])]), values)

    def _filled(self, family: Any, values: Mapping[str, float]) -> Metric:
        for label, value in values.items():
            family.add_metric([self._metrics.pipeline, *filter(None, [label])], value)
        metric: Metric = family
        return metric

    def _foreign(self, name: str, context: str, value: float) -> Metric:
        family = GaugeMetricFamily(
            f"debezium_metrics_{name}", f"As Debezium's {name}", labels=["plugin", "name", "context"]
        )
        family.add_metric(["mysql", self._prefix, context], value)
        return family


def _curried(metric: Any, pipeline: str, labels: tuple[str, ...]) -> Any:
    return _Labelled(metric, pipeline) if labels else metric.labels(pipeline)


def _added(parts: Iterable[Mapping[K, int]]) -> dict[K, int]:
    total: dict[K, int] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total
