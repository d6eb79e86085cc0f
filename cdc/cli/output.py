"""What a command leaves on the terminal or, with --json, on stdout:
exactly one document there, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from cdc.cli import status_text
from cdc.errors import CdcError
from cdc.runtime import logs

Document = Mapping[str, Any]
_NESTED = (dict, list)
_WIDEST = 10_000
_ASKED_LEAST = frozenset(
    "floor ceiling consistent_through method pieces pieces_different rechecked complete find".split()
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished command: its document (the schema is schemas/json/<kind>.schema.json) and its exit code."""

    kind: str
    document: Document
    exit_code: int = 0


class CopyProgress(Protocol):
    """What the loader tells while it copies."""

    def __call__(self, table: str, rows: int, estimate: int) -> None:
        """`rows` of about `estimate` rows of `table` are committed on the target; an estimate below 0 is none."""


class Output:
    """The one place that writes to stdout."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._stdout = _private_stdout() if as_json else sys.stdout

    def outcome(self, outcome: Outcome) -> int:
        """Print the document; its exit code."""
        if self.as_json:
            self._write(outcome.document)
        else:
            _render(Console(file=self._stdout), outcome)
        return outcome.exit_code

    def lines(self, documents: Iterable[Document]) -> int:
        """Print each document as it comes, a line each; its exit code. Who reads them may leave."""
        try:
            for document in documents:
                self._write(document)
        except BrokenPipeError:
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), self._stdout.fileno()
            )  # else the interpreter fails again when it flushes
        return 0

    def error(self, error: CdcError) -> int:
        """Print the error, as a document on stdout or as lines on stderr; its exit code."""
        if self.as_json:
            self._write(error.document())
        else:
            Console(stderr=True, soft_wrap=True, highlight=False).print(_error_text(error.document()["error"]))
        return error.exit_code

    def defect(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """A hook for sys.excepthook: one line and one document with type and place, never the message."""
        said = logs.described(error.with_traceback(trace))
        logs.failure(logs.logger("cli"), error)
        if self.as_json:
            self._write({"error": said})

    def _write(self, document: Document) -> None:
        self._stdout.write(json.dumps(document, ensure_ascii=False, indent=None, allow_nan=False) + "\n")
        self._stdout.flush()


def _private_stdout() -> TextIO:
    """Keep stdout for the document alone: whatever libraries and child processes print goes to stderr."""
    sys.stdout.flush()
    kept = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return kept


@contextmanager
def copy_progress(as_json: bool) -> Iterator[CopyProgress]:
    """Bars, where a person watches; silence elsewhere. Totals of tables under way are the source's guess:
    the ~ says so."""
    if as_json or not sys.stderr.isatty():
        yield lambda table, rows, estimate: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), _RowsColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield _Bars(bars)


class _Bars:
    """One bar for all tables and one for each that is under way;
    what was copied before this process began is no speed of its own."""

    def __init__(self, bars: Progress) -> None:
        self._bars, self._tasks = bars, dict[str, TaskID]()
        self._tables: dict[str, tuple[int, int]] = {}
        self._all: TaskID | None = None

    def __call__(self, table: str, rows: int, estimate: int) -> None:
        begun = table in self._tables
        self._tables[table] = rows, max(rows, estimate)
        if estimate < 0:
            self._pulse(table, rows)
            return
        if begun:
            self._show(table, rows, max(rows, estimate))
        done, total = (sum(column) for column in zip(*self._tables.values(), strict=True))
        if self._all is None:
            self._all = self._bars.add_task("", completed=done, total=total)
        copied = sum(count >= guess for count, guess in self._tables.values())
        self._bars.update(self._all, description=f"{copied} of {len(self._tables)} tables", total=total)
        if begun:
            self._bars.update(self._all, completed=done)
        else:
            self._bars.tasks[self._all].completed = done

    def _pulse(self, table: str, rows: int) -> None:
        """A copy of nobody knows how many rows: how many there are by now, and how fast they come."""
        if table not in self._tasks:
            self._tasks[table] = self._bars.add_task(table, completed=rows, total=None)
        self._bars.update(self._tasks[table], completed=rows)

    def _show(self, table: str, rows: int, estimate: int) -> None:
        if rows >= estimate:
            if table in self._tasks:
                self._bars.remove_task(self._tasks.pop(table))
            return
        if table not in self._tasks:
            self._tasks[table] = self._bars.add_task(table, completed=rows, total=estimate)
        self._bars.update(self._tasks[table], completed=rows, total=estimate)


class _RowsColumn(ProgressColumn):
    """Rows so far, of about how many, and how many a second."""

    def render(self, task: Task) -> Text:
        speed = f"  {task.speed:,.0f} rows/s" if task.speed else ""
        total = "" if task.total is None else f" of ~{task.total:,.0f}"
        return Text(f"{task.completed:,.0f}{total} rows{speed}")


def _error_text(said: Document) -> Text:
    text = Text.assemble(("error", "bold red"), f" [{said['code']}] ")
    problems = said.get("problems")
    if problems:
        text.append(f"{said['place']}:")
        for one in problems:
            text.append(f"\n  {one['key']}{' = ' + one['value'] if one['value'] else ''}: {one['rule']}")
    else:
        text.append(f"{said['place']}: {said['rule']}")
    if said["hint"]:
        text.append("\nhint: ", style="bold")
        text.append(said["hint"])
    return text


def _render(console: Console, outcome: Outcome) -> None:
    """Scalars as two columns, each list of objects as a table; positions are shortened to file and offset."""
    if outcome.kind == "version":
        console.print(f"cdc {outcome.document['version']}", highlight=False)
        return
    document = outcome.document
    if outcome.kind == "status":
        for line in status_text.lines(document):
            console.print(Text(line), soft_wrap=True)
        document = {name: value for name, value in document.items() if name not in status_text.SAID}
    facts = {name: value for name, value in document.items() if not _is_rows(value)}
    if facts:
        console.print(_facts(facts))
    for name, value in document.items():
        if _is_rows(value):
            _print_rows(console, name, value)


def _print_rows(console: Console, name: str, rows: Sequence[Document]) -> None:
    """A table where it fits, without what is least asked for where that does;
    else a paragraph for each row, which can be copied."""
    for left_out in ((), _ASKED_LEAST):
        table = _rows(name, rows, left_out)
        if console.measure(table, options=console.options.update(width=_WIDEST)).maximum <= console.width:
            console.print(table)
            break
    else:
        console.print(Text(name, style="bold"))
        for row in rows:
            said = "  ".join(
                f"{key} {_cell(value)}"
                for key, value in row.items()
                if value not in (None, "") and key not in _ASKED_LEAST
            )
            console.print(Text("- " + said), soft_wrap=True)
    if left_out and any(name in _ASKED_LEAST for row in rows for name in row):
        console.print("--json shows all columns", highlight=False)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _facts(facts: Document) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, Text(_cell(value)))
    return table


def _rows(title: str, rows: Sequence[Document], left_out: Collection[str] = ()) -> Table:
    names = [
        name
        for name in dict.fromkeys(name for row in rows for name in row)
        if any(row.get(name) not in (None, "") for row in rows)
    ]
    names = [name for name in names if name not in left_out]
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(name))) for name in names))
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, dict):
        return (
            _position(value)
            if {"file", "offset"} <= set(value)
            else "  ".join(f"{name} {_cell(inner)}" for name, inner in value.items())
        )
    if isinstance(value, list):
        return ", ".join(map(_cell, value)) or "-"
    return str(value)


def _position(position: Document) -> str:
    return f"{position['file']}:{position['offset']}" if position["file"] else str(position.get("gtids", "-"))
