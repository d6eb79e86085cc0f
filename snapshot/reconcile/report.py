"""The nightly answer as a document: JSON for programs, one HTML page for people. It holds no row's value, not even a
key.

A row that differs is named by its table, the columns that differ and the hash of its key; `find` is the query by which
those who may see the data find the row on either side.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from cdc.errors import CdcError
from cdc.model.digest import MYSQL, POSTGRES, Dialect, row_sql
from cdc.model.table import Table
from snapshot.reconcile.compare import Result, Verdict
from snapshot.reconcile.quarantined import Waiting, name_of
from snapshot.reconcile.repair import Repair

Document = dict[str, object]
_NONE: Waiting = {}

_WORST = (Verdict.DIFFERENT, Verdict.REFUSED, Verdict.UNSETTLED, Verdict.EQUAL)
_ENVIRONMENT = Environment(
    loader=PackageLoader("snapshot.reconcile", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def document(
    pipeline: str,
    results: Sequence[Result],
    started: datetime,
    finished: datetime,
    position: Mapping[str, object] | None = None,
    repairs: Sequence[Repair] = (),
    waiting: Waiting = _NONE,
    ended: CdcError | None = None,
) -> Document:
    """The document of one reconciliation; `position` is where the source's log stood when it began, when that is known.

    `results` are those after the repairs; `waiting` are the keys in quarantine; `ended`: why it ended before all was
    compared.
    """
    counts = {state.value: sum(r.state is state for r in results) for state in Verdict}
    return {
        "pipeline": pipeline,
        "started": _moment(started),
        "finished": _moment(finished),
        "seconds": round((finished - started).total_seconds(), 3),
        "position": dict(position) if position is not None else None,
        "equal": all(r.state is Verdict.EQUAL for r in results),
        "outcome": next((state.value for state in _WORST if counts[state.value]), Verdict.EQUAL.value),
        "totals": {
            "tables": len(results),
            **counts,
            "rows_source": sum(r.rows_source for r in results),
            "rows_target": sum(r.rows_target for r in results),
            "differences": sum(len(r.differences) for r in results),
        },
        "ended": ended.document()["error"] if ended is not None else None,
        "repairs": [one.document() for one in repairs],
        "tables": [
            _table(r, waiting) for r in sorted(results, key=lambda r: (_WORST.index(r.state), r.table.qualified))
        ],
    }


def differences(results: Sequence[Result]) -> int:
    """How many differences there are: rows, and tables without a key that differ as a whole."""
    return sum(len(r.differences) or r.state is Verdict.DIFFERENT for r in results)


def page(found: Mapping[str, object]) -> str:
    """The document as one HTML page that needs nothing beside it."""
    return _ENVIRONMENT.get_template("report.html.j2").render(found)


def write(found: Mapping[str, object], folder: Path) -> tuple[Path, Path]:
    """Write the page and the JSON document into a directory that is there, each whole or not at all; their paths."""
    stem = "reconcile-" + str(found["started"]).replace(":", "").replace("-", "")
    texts = {".html": page(found), ".json": json.dumps(found, indent=2, ensure_ascii=False) + "\n"}
    html, document = (_written(folder / (stem + suffix), text) for suffix, text in texts.items())
    return html, document


def _written(path: Path, text: str) -> Path:
    unfinished = path.with_name(path.name + ".tmp")
    unfinished.write_text(text, encoding="utf-8")
    return unfinished.replace(path)


def _table(r: Result, waiting: Waiting) -> Document:
    return {
        "source": r.table.qualified,
        "target": r.target,
        "state": r.state.value,
        "reason": r.reason,
        "detail": r.detail,
        "method": r.method,
        "rows_source": r.rows_source,
        "rows_target": r.rows_target,
        "pieces": r.pieces,
        "pieces_different": r.pieces_different,
        "rechecked": r.rechecked,
        "unsettled": r.unsettled,
        "quarantined": len(waiting.get(r.table.qualified, ())),
        "complete": r.complete,
        "seconds": round(r.seconds, 3),
        "differences": [
            {
                "kind": d.kind.value,
                "key_hash": d.key_hash,
                "quarantined": name_of(waiting, r.table, d.key),
                "columns": list(d.columns),
            }
            for d in r.differences
        ],
        "find": _find(r) if r.differences else None,
    }


def _find(r: Result) -> Document:
    schema, _, name = r.target.partition(".")
    return {
        "source": _query(MYSQL, r.table, r.table.db, r.table.name),
        "target": _query(POSTGRES, r.table, schema, name),
    }


def _query(dialect: Dialect, table: Table, schema: str, name: str) -> str:
    where = f"{dialect.quote(schema)}.{dialect.quote(name)}"
    return f"SELECT * FROM {where} WHERE {row_sql(dialect, table).name} = 'KEY_HASH'"


def _moment(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
