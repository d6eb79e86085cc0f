"""The preflight: is everything there that a start needs, and which SQL mends what is not. Nothing is written anywhere.

`examine` reports everything at once, a server that cannot be asked included; a start (`cdc/checks/start.py`) raises the
first error of the same checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cdc.checks.findings import document, tried
from cdc.checks.source import Examined, SourceCheck
from cdc.checks.target import TargetCheck
from cdc.model.finding import Finding
from cdc.model.table import Table


def examine(
    source: SourceCheck,
    target: TargetCheck,
    *,
    fits: Callable[[Examined], object] | None = None,
    broker: Callable[[Sequence[Table]], object] | None = None,
    large_rows: Callable[[Examined], list[Finding]] = lambda _: [],
    codec: str = "pure",
) -> dict[str, Any]:
    """The document of `cdc doctor`.

    `fits` raises CdcError when a table that the target has already cannot hold the rows; `broker` reaches the brokers,
    and is None where none is needed; `large_rows`: what they may not take of these tables.
    """
    findings: list[Finding] = []
    found = tried(findings, None, lambda: source.examine(findings))
    tables = found.tables if found is not None else ()
    version = tried(findings, None, lambda: target.examine(tables, findings))
    fit_so_far = version is not None and not any(one.level == "error" for one in findings)
    if fits is not None and found is not None and fit_so_far:
        tried(findings, None, lambda: fits(found))
    if broker is not None:
        reached = tried(findings, False, lambda: broker(tables) is None)
        if reached and found is not None:
            findings += tried(findings, [], lambda: large_rows(found))
    about = {"flavour": found.flavour, "version": found.version} if found is not None else None
    return document(findings, about, version, [table.qualified for table in tables], codec)
