"""What the commands do: the one place where the stages are put together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import cdc
from cdc import asking, capturing, codec, fitness, logs
from cdc import demo as demonstration
from cdc import doctor as examination
from cdc import quarantine as held
from cdc import status as questions
from cdc.capture_stream import Counters
from cdc.capturing import broker_of, registry_of
from cdc.catalog import Catalog
from cdc.chunks import Readers
from cdc.config import Config
from cdc.direct import DirectLog
from cdc.errors import Refused, Retry
from cdc.kafka import KafkaReader
from cdc.kafka_group import KafkaGroup
from cdc.member import Member, Work
from cdc.metrics import Metrics
from cdc.model import Table
from cdc.mysql import connect
from cdc.names import target_of
from cdc.progress import Stored
from cdc.signs import LoadSigns
from cdc.state import State
from cdc.state import connect as state_connect
from cdc.state_shards import shards_differ
from cdc.supervise import Parts, Stopped, supervise, tell
from cdc.topic import Idle, Reader
from sinks.apply import Apply, Rewound
from sinks.counters import Counters as Applied
from sinks.postgres import PostgresTarget
from sinks.postgres_load import careful
from sinks.postgres_release import Releaser
from sinks.postgres_schema import check_policies
from sinks.postgres_shard import ShardTarget, furthest, gathering, join
from sinks.postgres_side import PostgresSide
from sinks.quarantine import Limits
from sinks.shards import ShardApply
from snapshot import repair as mending
from snapshot import report
from snapshot.by_codec import judge_for
from snapshot.load import Source, load, metered
from snapshot.source import SourceSide
from snapshot.tally import Report, Tally
from snapshot.verify import MOST_DIFFERENCES, Result, verify

Document = dict[str, Any]
Ready = Callable[[], None]
_LOAD_POLL_SECONDS = 0.5


# -- the long-running commands ------------------------------------------------------------------------------------------


def run(config: Config, stop: threading.Event) -> Document:
    """Copy what is missing, then capture and apply in this process until told to stop."""
    started = time.monotonic()
    fitness.demand_one_process(config)
    with _metrics(config) as metrics:
        target = PostgresTarget(config.target, config.pipeline.name)
        work = _run_direct if config.transport.kind == "direct" else _run_kafka
        with closing(target):
            patience = config.pipeline.start_timeout_seconds
            supervise(lambda ready: work(config, target, Parts(stop), metrics, ready), stop, "run", metrics, patience)
        return {**_captured(config, metrics), **_applied(config, metrics), "seconds": time.monotonic() - started}


def capture(config: Config, stop: threading.Event) -> Document:
    """Read the log into the topics until told to stop."""
    fitness.demand_kafka(config, "capture")
    started = time.monotonic()
    with _metrics(config) as metrics:

        def work(ready: Ready) -> None:
            _fit(config, target=False)
            ready()
            parts = Parts(stop)
            parts.run(lambda: capturing.capture_kafka(config, parts, metrics))

        supervise(work, stop, "capture", metrics, config.pipeline.start_timeout_seconds)
        return {**_captured(config, metrics), "seconds": time.monotonic() - started}


def apply(config: Config, stop: threading.Event) -> Document:
    """Apply the topics to the target until told to stop."""
    fitness.demand_kafka(config, "apply")
    started, generation = time.monotonic(), [0]
    with _metrics(config) as metrics, closing(PostgresTarget(config.target, config.pipeline.name)) as target:

        def work(ready: Ready) -> None:
            _fit(config, capture=False)
            fitness.demand_shards(config)
            ready()
            parts = Parts(stop)
            if config.apply.shards:
                parts.run(lambda: _serve(config, generation, parts, metrics))
            else:
                parts.run(lambda: _apply_kafka(config, target, parts, metrics))

        supervise(work, stop, "apply", metrics, config.pipeline.start_timeout_seconds)
        return {**_applied(config, metrics), "seconds": time.monotonic() - started}


def snapshot(config: Config, stop: threading.Event, progress: Report) -> Document:
    """Copy the tables into the target, once."""
    if config.snapshot.through == "topics":
        raise Refused(
            "snapshot_through",
            "snapshot.through",
            'is "topics": capture makes the copy, there is nothing to do here',
            "start cdc capture and cdc apply",
        )
    started, complete = time.monotonic(), [False]
    with _metrics(config) as metrics, closing(PostgresTarget(config.target, config.pipeline.name)) as target:
        tally = metered(progress, metrics)

        def work(ready: Ready) -> None:
            _fit(config, topics=False)
            ready()
            with State(config.target, config.pipeline.name) as state:
                loaded = state.read().progress is not None
            if not loaded:  # to open a loaded target would end the process that streams into it
                _load(config, target, target.open(), Parts(stop).breathe, tally, metrics)
            complete[0] = True

        supervise(work, stop, "snapshot", metrics, config.pipeline.start_timeout_seconds)
        return questions.copied(config, complete[0], time.monotonic() - started, tally.reads())


@contextmanager
def _metrics(config: Config) -> Iterator[Metrics]:
    metrics = Metrics(
        config.pipeline.name, transport=config.transport.kind, codec=codec.KIND, version=cdc.__version__, prefix=config.transport.prefix
    )
    endpoint = metrics.serve(config.metrics.listen, yields="listen" not in config.metrics.model_fields_set)
    try:
        yield metrics
    finally:
        if endpoint is not None:
            endpoint.close()


def _captured(config: Config, metrics: Metrics) -> Document:
    last = metrics.captured[-1] if metrics.captured else Counters()
    return {
        "pipeline": config.pipeline.name,
        "transport": config.transport.kind,
        "position": last.position.to_json() if last.position else None,
        "transactions": sum(one.transactions for one in metrics.captured),
        "records": sum(one.rows for one in metrics.captured),
        "cut_no": last.cut_no,
    }


def _applied(config: Config, metrics: Metrics) -> Document:
    last = metrics.slowest or (metrics.applied[-1] if metrics.applied else Applied())
    return {
        "pipeline": config.pipeline.name,
        "transport": config.transport.kind,
        "cut_no": last.cut_no,
        "rows": sum(sum(one.rows.values()) for one in metrics.applied),
        "commits": sum(one.commits for one in metrics.applied),
    }


# -- the stages, put together ------------------------------------------------------------------------------------------


def _fit(config: Config, *, capture: bool = True, topics: bool = True, target: bool = True) -> None:
    """Refuse what would fail later, before anything is written; what each command needs."""
    broker = broker_of(config, lambda: None) if topics and config.transport.kind == "kafka" else None
    fitness.demand(config, broker, _fits(config) if target else None, capture=capture, told=_fits(config, only_policies=True))


def _fits(config: Config, *, only_policies: bool = False) -> fitness.Fits:
    place = config.target, config.pipeline.name
    check = partial(check_policies, *place) if only_policies else PostgresTarget(*place).check
    return lambda flavour, tables: check(fitness.plans(config, flavour, tables))


def _load(config: Config, target: PostgresTarget, stored: Stored, breathe: Idle, tally: Tally, metrics: Metrics) -> Stored:
    """What the target holds, copied first if it holds nothing yet."""
    if stored.progress is not None or config.snapshot.through == "topics":
        return stored
    metrics.state("snapshot", "copying")
    logs.logger("snapshot").info("copy_started")
    with Catalog(config.source) as catalog:
        tables = capturing.tables(config, catalog)
        source = Source(catalog, tables, Readers(config.source, catalog, config.snapshot), LoadSigns(config.source))
        load(config, source, target, stored, breathe, tally, metrics, careful(_limits(config)))
    metrics.state("snapshot", "stopped")
    logs.logger("snapshot").info("copy_done", tables=len(tables))
    return target.open()


def _quiet(table: str, rows: int, estimate: int) -> None:
    """Nobody watches."""


def _run_direct(config: Config, target: PostgresTarget, parts: Parts, metrics: Metrics, ready: Ready) -> None:
    _fit(config)
    ready()
    stored = _load(config, target, target.open(), parts.breathe, metered(_quiet, metrics), metrics)
    if shards := gathering(target):
        raise shards_differ(config.pipeline.name, shards)
    progress = stored.progress
    log = DirectLog(config.transport.prefix, first_control=progress.control_next if progress else 0,
                    partitions=config.transport.partitions, idle=parts.breathe)  # fmt: skip
    previous = capturing.stored_restart(stored)
    parts.start("capture", lambda: capturing.capture_direct(config, log, parts, metrics, previous))
    with closing(log):
        parts.run(lambda: _apply(config, _stage(config, log, target, metrics), stored, parts, metrics))


def _run_kafka(config: Config, target: PostgresTarget, parts: Parts, metrics: Metrics, ready: Ready) -> None:
    _fit(config)
    ready()
    _load(config, target, target.open(), parts.breathe, metered(_quiet, metrics), metrics)
    parts.start("capture", lambda: capturing.capture_kafka(config, parts, metrics))
    parts.run(lambda: _apply_kafka(config, target, parts, metrics))


def _apply_kafka(config: Config, target: PostgresTarget, parts: Parts, metrics: Metrics) -> None:
    broker = broker_of(config, parts.breathe_on)
    broker.check()
    _await_load(config, parts)
    with closing(KafkaReader(broker, registry_of(config, broker))) as reader:
        stored = target.open()
        if shards := gathering(target):
            logs.logger("apply").info("gathering_shards", shards=shards)
            while (until := furthest(target)) is not None:
                Member(_shard_work(config, shards, target.fence, parts, metrics, until)).finish(shards, parts)
            stored = target.open()
        _apply(config, _stage(config, reader, target, metrics), stored, parts, metrics)


def _serve(config: Config, generation: list[int], parts: Parts, metrics: Metrics) -> None:
    """Apply what falls to this member of the group; `generation` is what `join` gave last."""
    broker, shards = broker_of(config, parts.breathe), config.apply.shards
    broker.check()
    _await_load(config, parts)
    generation[0] = join(config.target, config.pipeline.name, shards, generation[0])
    member = Member(_shard_work(config, shards, generation[0], parts, metrics))
    with closing(KafkaGroup(broker, shards, member.given, member.taken)) as group:
        member.serve(group.poll, parts)


def _shard_work(config: Config, shards: int, generation: int, parts: Parts, metrics: Metrics, until: int | None = None) -> Work:
    def work(shard: int, told: Callable[[], bool]) -> None:
        def breathe() -> None:
            parts.breathe()
            if told():
                raise Stopped

        target = ShardTarget(config.target, config.pipeline.name, shard, shards, generation)
        broker = broker_of(config, breathe)
        with closing(target), closing(KafkaReader(broker, registry_of(config, broker))) as reader:
            stage = ShardApply(reader, target, _limits(config), _teller(metrics), config.policies.policies, until)
            stored = target.open()
            metrics.watch_apply(stage.counters, shard)
            metrics.state("apply", "streaming")
            try:
                stage.run(stored, lambda: told() or parts.stopped(), config.apply.max_delay_seconds)
            finally:
                metrics.leave_apply(shard)

    return work


def _await_load(config: Config, parts: Parts) -> None:
    """Applying begins when the copy is complete; to open the target earlier would end the copy."""
    told = False
    with State(config.target, config.pipeline.name) as state:
        while (config.apply.shards or config.snapshot.through == "target") and state.read().progress is None:
            if not told:
                logs.logger("apply").info("waiting_for_copy", hint="cdc snapshot makes it")
            told = True
            parts.breathe()
            time.sleep(_LOAD_POLL_SECONDS)


def _limits(config: Config) -> Limits:
    return Limits(config.apply.quarantine_keys, config.apply.quarantine_share)


def _stage(config: Config, reader: Reader, target: PostgresTarget, metrics: Metrics) -> Apply:
    return Apply(reader, target, _limits(config), _teller(metrics), config.policies.policies)


def _teller(metrics: Metrics) -> Callable[[Retry], None]:
    return lambda error: tell(error, "apply", metrics)


def _apply(config: Config, stage: Apply, stored: Stored, parts: Parts, metrics: Metrics) -> None:
    metrics.watch_apply(stage.counters)
    metrics.state("apply", "streaming")

    def taken() -> bool:
        return not metrics.captured or stage.counters.cut_no >= metrics.captured[-1].cut_no

    try:
        stage.run(stored, lambda: not parts.lingers(taken), config.apply.max_delay_seconds)
    except Rewound:
        raise Retry(
            "rewound", f"pipeline {config.pipeline.name}", "capture began again below pieces that were not committed", "nothing is lost"
        ) from None


# -- questions ----------------------------------------------------------------------------------------------------------


def status(config: Config) -> Document:
    """How far the pipeline is."""
    return questions.document(config)


def wait(config: Config, timeout: float) -> Document:
    """Wait until the target holds everything the source has written by now."""
    return questions.wait(config, timeout)


def doctor(config: Config) -> Document:
    """What stands in the way of a start."""
    return examination.examine(
        config, lambda: Catalog(config.source), fits=_fits(config), broker=_topics(config), codec=codec.KIND,
    )  # fmt: skip


def _topics(config: Config) -> Callable[[Sequence[Table]], None] | None:
    def check(tables: Sequence[Table]) -> None:
        broker = broker_of(config, lambda: None)
        fitness.demand_broker(config, broker)
        fitness.demand_prefix(config, broker, tables)

    return check if config.transport.kind == "kafka" else None


def reconcile(config: Config, tables: Sequence[str], repair: bool, report_dir: Path | None) -> Document:
    """Compare every table by checksums; what differs although it is at rest is a difference."""
    started, most = datetime.now(UTC), mending.MOST_KEYS if repair else MOST_DIFFERENCES
    with Catalog(config.source) as catalog, State(config.target, config.pipeline.name) as state:

        def verified(table: Table) -> Result:
            return _verified(config, catalog, state, table, most)

        position = catalog.written_position().to_json()
        results, repairs = [verified(table) for table in capturing.tables(config, catalog, tables)], list[mending.Repair]()
        if repair:
            results, repairs = mending.repair(results, partial(asking.read_again, config), verified)
        document = report.document(config.pipeline.name, results, started, datetime.now(UTC), position, repairs)
        state.store_reconciliation(int(started.timestamp() * 1e6), report.differences(results), document)
    if report_dir is not None:
        report.write(document, report_dir)
    return document


def _verified(config: Config, catalog: Catalog, state: State, table: Table, most: int) -> Result:
    known = state.table(table.db, table.name)
    schema, name = (known.target_schema, known.target_table) if known else target_of(config.target.schema_, table.db, table.name)
    with closing(connect(config.source, raw=True)) as source, closing(state_connect(config.target, "cdc reconcile")) as target:
        sides = SourceSide(source, table, catalog.engine(table), catalog.row_estimate(table)), PostgresSide(target, table, schema, name)
        judge = judge_for(table, catalog.flavour, config.policies.policies, *sides)
        return verify(table, *sides, lambda: questions.settle(catalog, state), judge=judge, most_differences=most)


def copy(config: Config, table: str, where: str, keys: str, swap: bool, wait: bool, timeout: float, progress: Report) -> Document:
    """Have a table copied while the pipeline streams."""
    return asking.copy(config, table, where, keys, swap, wait, timeout, progress)


def quarantine(config: Config, act: str, table: str, key: str, everything: bool = False) -> Document:
    """List, show, replay or discard what waits."""
    book = config.policies.policies

    def releaser() -> Releaser:
        return Releaser(config.target, config.pipeline.name, lambda value, key: codec.ValuePlan(value, key, book))

    return held.answer(config, act, table, key, everything, releaser)


def demo(*, source: str, transport: str, seconds: float, size: float, stop: threading.Event, progress: Report) -> Document:
    """Everything at work on this machine."""
    commands = demonstration.Commands(
        lambda config: snapshot(config, stop, progress), lambda config, folder: reconcile(config, (), False, folder)
    )
    return demonstration.demo(commands, source, transport, seconds, size, stop)
