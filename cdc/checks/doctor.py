"""The preflight: is everything there that a start needs, and which SQL mends what is not. Nothing is written anywhere.

`examine` reports everything at once, a server that cannot be asked included; `demand`, with which every start begins, raises the
first error of the same checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from cdc.checks.findings import Demands, document, tried
from cdc.checks.source import examine_source
from cdc.checks.target import Query, examine_target, querying
from cdc.config.load import Config
from cdc.model.finding import Finding
from cdc.model.table import Table
from cdc.mysql.catalog import Catalog

Fits = Callable[[Any, Sequence[Table]], object]
"""Flavour of the source and its tables in; raises CdcError when a table that the target has already cannot hold the rows."""


def examine(
    config: Config,
    source: Callable[[], AbstractContextManager[Catalog]],
    *,
    target: Callable[[Config], AbstractContextManager[Query]] | None = None,
    fits: Fits | None = None,
    broker: Callable[[Sequence[Table]], object] | None = None,
    codec: str = "pure",
) -> dict[str, Any]:
    """The document of `cdc doctor`. `source` opens a Catalog; `broker` reaches the brokers, and is None where none is needed."""
    findings: list[Finding] = []
    nothing: tuple[Any, list[Table]] = (None, [])
    about, tables = tried(findings, nothing, lambda: examine_source(config, source, findings))
    version = tried(findings, None, lambda: examine_target(config, target or querying, tables, findings))
    if fits is not None and version is not None and about is not None and not any(one.level == "error" for one in findings):
        tried(findings, None, lambda: fits(about["flavour"], tables))
    if broker is not None:
        tried(findings, None, lambda: broker(tables))
    return document(findings, about, version, [table.qualified for table in tables], codec)


def demand_source(
    config: Config, source: Callable[[], AbstractContextManager[Catalog]], *, restart: bool = False
) -> tuple[Any, list[Table]]:
    """The source's flavour and the tables to follow; Refused with the first thing that `examine` would call an error.

    At a restart a pattern may select nothing any more: the log says why, and capture stops there.
    """
    demands = Demands()
    about, tables = examine_source(config, source, demands)
    demands[:] = [one for one in demands if not (restart and one.code == "no_tables")]
    demands.enforce()
    return about["flavour"], tables


def demand_target(config: Config, tables: Sequence[Table]) -> None:
    """Refused unless the target can take these tables; with none, unless it can hold the pipeline's state."""
    demands = Demands()
    examine_target(config, querying, tables, demands)
    demands.enforce()
