"""`cdc reconcile`: prove that both sides agree."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cdc.commands import copy as copy_command
from cdc.commands.files import folder
from cdc.config.load import Config
from cdc.errors import Refused
from cdc.model.names import target_of
from cdc.model.record import Document
from cdc.model.table import Table
from cdc.monitoring.wait import settle
from cdc.mysql.catalog import Catalog, selected_tables
from cdc.mysql.connection import connect
from cdc.postgres.connection import connect as connect_target
from cdc.runtime import logs
from cdc.state import quarantine
from cdc.state.store import StateStore
from sinks.postgres.checksums import PostgresSide
from snapshot.reconcile import report
from snapshot.reconcile.checksums import SourceSide
from snapshot.reconcile.codec_judge import judge_for
from snapshot.reconcile.compare import MOST_DIFFERENCES, Result, verify
from snapshot.reconcile.repair import MOST_KEYS, Repair, repair as repair_differences


def reconcile(config: Config, tables: Sequence[str], repair: bool, report_dir: Path | None) -> Document:
    """Compare every table by checksums; what differs although it is at rest is a difference."""
    if report_dir is not None:
        folder(report_dir)
    started, most = datetime.now(UTC), MOST_KEYS if repair else MOST_DIFFERENCES
    with Catalog(config.source) as catalog, StateStore(config.target, config.pipeline.name) as state:

        def verified(table: Table) -> Result:
            with logs.about(table.qualified):
                return _verified(config, catalog, state, table, most)

        if not state.version():
            raise Refused(
                "not_loaded", "schema cdc", "the pipeline has not copied anything yet", "cdc run, or cdc snapshot"
            )
        position = catalog.log.written_position().to_json()
        chosen = selected_tables(catalog, config.source, config.policies.policies, tables)
        results, repairs = [verified(table) for table in chosen], list[Repair]()
        if repair:
            results, repairs = repair_differences(results, partial(copy_command.read_again, config), verified)
        held = quarantine.names_by_table(state)
        document = report.document(config.pipeline.name, results, started, datetime.now(UTC), position, repairs, held)
        state.store_reconciliation(int(started.timestamp() * 1e6), report.differences(results), document)
    if report_dir is not None:
        report.write(document, report_dir)
    return document


def _verified(config: Config, catalog: Catalog, state: StateStore, table: Table, most: int) -> Result:
    known = state.table(table.db, table.name)
    schema, name = (
        (known.target_schema, known.target_table) if known else target_of(config.target.schema_, table.db, table.name)
    )
    with (
        closing(connect(config.source, raw=True)) as source,
        closing(connect_target(config.target, "cdc reconcile")) as target,
    ):
        sides = (
            SourceSide(source, table, catalog.engine(table), catalog.row_estimate(table)),
            PostgresSide(target, table, schema, name),
        )
        judge = judge_for(table, catalog.flavour, config.policies.policies, *sides)
        return verify(table, *sides, lambda: settle(catalog, state), judge=judge, most_differences=most)
