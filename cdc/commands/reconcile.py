"""`cdc reconcile`: prove that both sides agree. What was compared is told whatever ends the comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from cdc.commands import copy as copy_command
from cdc.commands.files import folder
from cdc.config.load import Config
from cdc.errors import CdcError, Halt, Refused
from cdc.model.digest import Key
from cdc.model.names import target_of
from cdc.model.record import Document
from cdc.model.table import Table
from cdc.monitoring.wait import Settling
from cdc.mysql.catalog import Catalog, selected_tables
from cdc.mysql.connection import connect
from cdc.postgres.connection import connect as connect_target
from cdc.runtime import logs, timing
from cdc.state import quarantine
from cdc.state.store import StateStore
from sinks.postgres.checksums import PostgresSide
from snapshot.reconcile import report
from snapshot.reconcile.checksums import SourceSide
from snapshot.reconcile.codec_judge import judge_for
from snapshot.reconcile.compare import MOST_DIFFERENCES, Result, Verdict, verify
from snapshot.reconcile.repair import MOST_KEYS, Repair, repair as repair_differences

Told = Callable[[int, int, str, int], None]
"""How many tables of how many are compared, what is done now, and how many rows of the source were read in all."""


def reconcile(
    config: Config,
    tables: Sequence[str],
    repair: bool,
    report_dir: Path | None,
    *,
    timeout: float | None = None,
    told: Told = lambda compared, tables, doing, rows: None,
) -> Document:
    """Compare every table by checksums; what differs although it is at rest is a difference.

    `timeout`: the longest wait, in seconds, for a target that is behind, and for a repair; None: the usual ones.
    """
    if report_dir is not None:
        folder(report_dir)
    started = datetime.now(UTC)
    with Catalog(config.source) as catalog, StateStore(config.target, config.pipeline.name) as state:
        if not state.version():
            raise Refused(
                "not_loaded", "schema cdc", "the pipeline has not copied anything yet", "cdc run, or cdc snapshot"
            )
        position = catalog.log.written_position().to_json()
        chosen = selected_tables(catalog, config.source, config.policies.policies, tables)
        check = _Check(config, catalog, state, MOST_KEYS if repair else MOST_DIFFERENCES, len(chosen), timeout, told)
        ended = check.run(chosen, repair)
        results = [*check.results, *(_not_compared(config, table, ended) for table in chosen[len(check.results) :])]
        held = quarantine.names_by_table(state)
        document = report.document(
            config.pipeline.name, results, started, datetime.now(UTC), position, check.repairs, held, ended
        )
        unkept = _kept(state, started, results, document, report_dir)
    return {**document, "ended": unkept.document()["error"]} if unkept is not None and ended is None else document


class _Check:
    """The comparison of one table after the other, and what is known so far."""

    def __init__(
        self,
        config: Config,
        catalog: Catalog,
        state: StateStore,
        most: int,
        tables: int,
        timeout: float | None,
        told: Told,
    ) -> None:
        self._config, self._catalog, self._state, self._most = config, catalog, state, most
        self._tables, self._told = tables, told
        delay = config.apply.max_delay_seconds
        self._patience = timing.TIMES.repair_seconds if timeout is None else timeout
        self._settle = Settling(
            catalog,
            state,
            max(timing.TIMES.position_seconds, 2 * delay) if timeout is None else timeout,
            lambda waited: self._tell(f"waiting for the target, {waited:.0f} s" if waited >= 1 else self._table),
            delay,
        )
        self._rows, self._table = 0, ""
        self.results: list[Result] = []
        self.repairs: list[Repair] = []

    def run(self, tables: Sequence[Table], repair: bool) -> CdcError | None:
        """Compare them all; what ended it before. What comes before the first table is compared is raised."""
        try:
            for table in tables:
                with logs.about(table.qualified):
                    self.results.append(self._verified(table))
                self._tell(table.qualified)
            for one in repair_differences(self.results, self._read_again, self._verified) if repair else ():
                self.repairs.append(one)
        except CdcError as error:
            ended = error
        except BaseException as error:  # noqa: BLE001 - a defect: it is told, and hours of comparing are not lost over it
            logs.failure(logs.logger("reconcile"), error)
            ended = Halt(**logs.described(error))
        else:
            return None
        if not self.results:
            raise ended
        return ended

    def _verified(self, table: Table) -> Result:
        self._table = table.qualified
        known = self._state.table(table.db, table.name)
        schema, name = (known.target_schema, known.target_table) if known else _target_of(self._config, table)
        with (
            closing(connect(self._config.source, raw=True)) as source,
            closing(connect_target(self._config.target, "cdc reconcile")) as target,
        ):
            engine, estimate = self._catalog.engine(table), self._catalog.row_estimate(table)
            sides = (
                SourceSide(source, table, engine, estimate, told=self._read),
                PostgresSide(target, table, schema, name),
            )
            judge = judge_for(table, self._catalog.flavour, self._config.policies.policies, *sides)
            return verify(table, *sides, self._settle, judge=judge, most_differences=self._most)

    def _read_again(self, table: Table, keys: Sequence[Key]) -> tuple[str, str]:
        """Where nobody did it in time, nobody is waited for at the next table: what was asked for stays so."""
        self._tell(f"{table.qualified} is read again")
        shortest = timing.TIMES.command_poll_seconds
        found = copy_command.read_again(
            self._config,
            table,
            keys,
            max(self._patience, shortest),
            lambda rows, over: self._tell(f"{table.qualified} is read again"),
        )
        if found[0] == copy_command.WAITING:
            self._patience = shortest
        return found

    def _read(self, rows: int) -> None:
        self._rows += rows
        self._tell(self._table)

    def _tell(self, doing: str) -> None:
        self._told(len(self.results), self._tables, doing, self._rows)


def _target_of(config: Config, table: Table) -> tuple[str, str]:
    return target_of(config.target.schema_, table.db, table.name)


def _not_compared(config: Config, table: Table, ended: CdcError | None) -> Result:
    reason = ended.code if ended is not None else ""
    return Result(table, ".".join(_target_of(config, table)), Verdict.REFUSED, "none", reason, "it ended before")


def _kept(
    state: StateStore, started: datetime, results: Sequence[Result], document: Document, report_dir: Path | None
) -> CdcError | None:
    """Write the report, and what came to its end into the target; what keeps that from being done takes no verdict."""
    try:
        if report_dir is not None:
            report.write(document, report_dir)
        if document["ended"] is None:
            state.store_reconciliation(int(started.timestamp() * 1e6), report.differences(results), document)
    except CdcError as error:
        return error
    except OSError as error:
        rule = f"the report cannot be written: {error.strerror or type(error).__name__}"
        return Halt("directory", str(report_dir), rule, "make room, or give another directory")
    return None
