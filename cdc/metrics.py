"""What Prometheus sees: counters the stages raise per batch, and a lag that is worked out when it is asked for.

Nothing here holds a row's value; tables, columns and reasons are the only labels. Beside our names stand Debezium's, as
jmx_exporter writes them, so that dashboards made for it keep working.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cdc.errors import Refused
from cdc.settings import address

STATES = ("starting", "copying", "streaming", "degraded", "stopped")
STAGES = ("read", "publish", "apply", "total")
_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
_OPERATIONS = {"c": "Create", "u": "Update", "d": "Delete"}

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series per counter that nobody reads


def now_us() -> int:
    """This machine's clock, microseconds since the epoch."""
    return time.time_ns() // 1000


@dataclass(slots=True)
class Lag:
    """How far behind the source the target is, told in the source's own clock, part by part.

    Each mark is the moment of the source up to which a stage has everything; only the newest counts. Nothing is stored as a
    duration: what is stuck gets older by itself.
    """

    read_us: int | None = None
    """The log is read up to here (a commit, or a heartbeat that proves there is nothing more)."""
    published_us: int | None = None
    """Acknowledged cuts reach up to here."""
    applied_us: int | None = None
    """The target holds everything up to here."""
    offset_us: int = 0
    """Source clock minus this machine's clock, as the reader measured it."""

    def seconds(self, now: int | None = None) -> dict[str, float | None]:
        """Seconds per stage; their sum is the total. A stage whose marks are unknown here is None."""
        source_now = (now_us() if now is None else now) + self.offset_us
        marks = (self.read_us, self.published_us, self.applied_us)
        lags: dict[str, float | None] = {}
        before: int = source_now
        for stage, mark in zip(STAGES, marks):
            lags[stage] = None if mark is None else max(before - mark, 0) / 1e6
            before = before if mark is None else min(mark, before)
        lags["total"] = None if self.applied_us is None else max(source_now - self.applied_us, 0) / 1e6
        return lags


class Metrics:
    """The metrics of one process of a pipeline, in a registry of their own."""

    def __init__(self, pipeline: str, *, transport: str = "", codec: str = "", version: str = "", prefix: str = "") -> None:
        self.registry = CollectorRegistry()
        self.lag = Lag()
        self._pipeline = pipeline
        self._info(transport, codec, version)
        self.rows_read = self._counter("rows_read", "Row changes read from the log", "table", "op")
        self.bytes_read = self._counter("log_bytes_read", "Bytes of the log that were read")
        self.transactions = self._counter("transactions_read", "Transactions read, those without a followed table included")
        self.records = self._counter("records_published", "Records handed to the transport", "topic")
        self.published_bytes = self._counter("published_bytes", "Bytes of keys and values handed to the transport")
        self.cuts = self._counter("cuts", "Cuts written or, on the sink's side, applied", "role", "kind")
        self.cut_lag = self._histogram("cut_lag_seconds", "Age of a cut in the source's clock when it was written or applied", "role")
        self.rows_copied = self._counter("rows_copied", "Rows loaded by copies", "table")
        self.rows_applied = self._counter("rows_applied", "Row changes applied, after folding", "table", "op")
        self.commits = self._counter("commits", "Transactions committed on the target")
        self.anomalies = self._counter("anomalies", "Values the target's type cannot hold, stored as null", "table", "column", "reason")
        self.void = self._counter("void_records", "Records that do not count: torn tails and zombies", "reason")
        self.retries = self._counter("retries", "Work undone and tried again", "component", "code")
        self.quarantined = self._gauge("quarantined_keys", "Keys whose changes wait in quarantine", "table")
        self.tables = self._gauge("tables", "Tables in each state", "state")
        self.queue = self._gauge("queue_bytes", "Bytes waiting between capture and apply")
        self.log_file = self._gauge("position_file_number", "Number of the log file, per stage", "stage")
        self.log_offset = self._gauge("position_offset_bytes", "Byte offset in the log file, per stage", "stage")
        self._state = self._gauge("state", "1 for the state that a component is in", "component", "state")
        self.registry.register(_LagCollector(self.lag, pipeline))
        self.registry.register(_DebeziumCollector(self, prefix or pipeline))

    def state(self, component: str, state: str) -> None:
        """The component is in this state and in no other."""
        for name in STATES:
            self._state.labels(component, name).set(name == state)

    def position(self, stage: str, file: str, offset: int) -> None:
        """Where a stage stands in the log; positions without a file move nothing."""
        number = file.rpartition(".")[2]
        if number.isdigit():
            self.log_file.labels(stage).set(int(number))
            self.log_offset.labels(stage).set(offset)

    def table_states(self, states: Mapping[str, int]) -> None:
        """How many tables are in each state, all of them at once."""
        self.tables.clear()
        for state, count in states.items():
            self.tables.labels(state).set(count)

    def serve(self, listen: str) -> Endpoint | None:
        """Offer the metrics over HTTP; None when `listen` is empty, Refused when the port is not to be had."""
        return Endpoint(self.registry, listen) if listen else None

    def _info(self, transport: str, codec: str, version: str) -> None:
        info = Gauge("cdc_info", "What runs", ["pipeline", "transport", "codec", "version"], registry=self.registry)
        info.labels(self._pipeline, transport, codec, version).set(1)

    def _counter(self, name: str, text: str, *labels: str) -> Any:
        return _curried(Counter(f"cdc_{name}", text, ["pipeline", *labels], registry=self.registry), self._pipeline, labels)

    def _histogram(self, name: str, text: str, *labels: str) -> Any:
        return _curried(
            Histogram(f"cdc_{name}", text, ["pipeline", *labels], registry=self.registry, buckets=_SECONDS), self._pipeline, labels
        )

    def _gauge(self, name: str, text: str, *labels: str) -> Any:
        return _curried(Gauge(f"cdc_{name}", text, ["pipeline", *labels], registry=self.registry), self._pipeline, labels)


class Endpoint:
    """The metrics over HTTP, until closed."""

    def __init__(self, registry: CollectorRegistry, listen: str) -> None:
        host, port = address(listen)
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            hint = 'another process listens there, or the address is not this machine\'s; [metrics] listen names another, or is ""'
            raise Refused("metrics_listen", f"metrics.listen {listen}", f"cannot listen there ({error.errno})", hint) from None
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

    def sums(self, label: str) -> dict[str, float]:
        """Totals by the values of one label."""
        totals: dict[str, float] = {}
        for sample in _samples(self._metric):
            totals[sample.labels[label]] = totals.get(sample.labels[label], 0.0) + sample.value
        return totals


def _curried(metric: Any, pipeline: str, labels: tuple[str, ...]) -> Any:
    return _Labelled(metric, pipeline) if labels else metric.labels(pipeline)


def _samples(metric: Any) -> Iterable[Any]:
    return (sample for family in metric.collect() for sample in family.samples)


class _LagCollector(Collector):
    """The lag at the moment of the scrape."""

    def __init__(self, lag: Lag, pipeline: str, clock: Callable[[], int] = now_us) -> None:
        self._lag, self._pipeline, self._clock = lag, pipeline, clock

    def collect(self) -> Iterable[Metric]:
        family = GaugeMetricFamily("cdc_lag_seconds", "Seconds behind the source, per stage", labels=["pipeline", "stage"])
        for stage, seconds in self._lag.seconds(self._clock()).items():
            if seconds is not None:
                family.add_metric([self._pipeline, stage], seconds)
        yield family
        clock = GaugeMetricFamily("cdc_clock_offset_seconds", "Source clock minus this machine's", labels=["pipeline"])
        clock.add_metric([self._pipeline], self._lag.offset_us / 1e6)
        yield clock


class _DebeziumCollector(Collector):
    """The same numbers under the names of Debezium's connector and sink."""

    def __init__(self, metrics: Metrics, name: str) -> None:
        self._metrics, self._name = metrics, name

    def collect(self) -> Iterable[Metric]:
        reads = self._metrics.rows_read.sums("op")
        behind = self._metrics.lag.seconds()["read"]
        values: dict[str, float] = {
            "MilliSecondsBehindSource": -1 if behind is None else behind * 1000,
            "TotalNumberOfEventsSeen": sum(reads.values()),
            "NumberOfCommittedTransactions": sum(sample.value for sample in _samples(self._metrics.transactions)),
        }
        values |= {f"TotalNumberOf{word}EventsSeen": reads.get(op, 0.0) for op, word in _OPERATIONS.items()}
        yield from (self._family(name, "streaming", value) for name, value in values.items())
        applied = self._metrics.rows_applied.sums("op")
        yield self._family("TotalNumberOfDeletes", "sink", applied.get("d", 0.0))
        yield self._family("TotalNumberOfWrites", "sink", sum(applied.values()) - applied.get("d", 0.0))

    def _family(self, name: str, context: str, value: float) -> Metric:
        family = GaugeMetricFamily(f"debezium_metrics_{name}", f"As Debezium's {name}", labels=["plugin", "name", "context"])
        family.add_metric(["mysql", self._name, context], value)
        return family
