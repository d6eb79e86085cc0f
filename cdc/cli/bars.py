"""How far a command is, on a terminal: bars that end with what they show. Elsewhere log lines tell it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

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
from rich.table import Column
from rich.text import Text

from cdc.runtime import clock, logs, timing


class CopyProgress(Protocol):
    """What the loader tells while it copies."""

    def __call__(self, table: str, rows: int, estimate: int) -> None:
        """`rows` of about `estimate` rows of `table` are committed on the target; an estimate below 0 is none."""


class CheckProgress(Protocol):
    """What the comparison of both sides tells while it goes on."""

    def __call__(self, compared: int, tables: int, doing: str, rows: int) -> None:
        """So many of the tables, and rows of the source in all; `doing`: a table's name, or what is waited for."""


@contextmanager
def copy_progress(as_json: bool) -> Iterator[CopyProgress]:
    """Bars until the copy ends, where a person watches; silence elsewhere, where the log tells it.

    Totals of tables under way are the source's guess: the ~ says so.
    """
    if _nobody_watches(as_json):
        yield lambda table, rows, estimate: None
        return
    with _progress(_description(28), _bar(), _RowsColumn(), _left()) as bars:
        yield _Bars(bars)


@contextmanager
def check_progress(as_json: bool) -> Iterator[CheckProgress]:
    """A bar where a person watches; elsewhere a log line now and then."""
    if _nobody_watches(as_json):
        yield _CheckLines()
        return
    with _progress(_description(40), _bar(), _RowsColumn(), TimeElapsedColumn()) as bars:
        task = bars.add_task("", completed=0, total=None, rows=0)

        def told(compared: int, tables: int, doing: str, rows: int) -> None:
            bars.update(task, description=f"{compared}/{tables} {doing}", completed=compared, total=tables, rows=rows)

        yield told


class _CheckLines:
    def __init__(self) -> None:
        self._told = clock.monotonic()

    def __call__(self, compared: int, tables: int, doing: str, rows: int) -> None:
        if clock.monotonic() - self._told < timing.TIMES.tell_seconds:
            return
        self._told = clock.monotonic()
        logs.logger("reconcile").info("reconcile_progress", compared=compared, tables=tables, doing=doing, rows=rows)


def _nobody_watches(as_json: bool) -> bool:
    return as_json or not sys.stderr.isatty()


def _progress(*columns: ProgressColumn) -> Progress:
    """As wide as the terminal, never wider: the bar has what the others leave."""
    return Progress(*columns, console=Console(stderr=True), expand=True)


def _description(widest: int) -> ProgressColumn:
    column = Column(no_wrap=True, overflow="ellipsis", max_width=widest)
    return TextColumn("{task.description}", markup=False, table_column=column)


def _bar() -> ProgressColumn:
    return BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=5))


def _left() -> ProgressColumn:
    return TimeRemainingColumn(compact=True, elapsed_when_finished=True)


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

    def __init__(self) -> None:
        super().__init__(Column(no_wrap=True))

    def render(self, task: Task) -> Text:
        if "rows" in task.fields:
            return Text(f"{_short(task.fields['rows'])} rows")
        speed = f"  {_short(task.speed)} rows/s" if task.speed else ""
        total = "" if task.total is None else f" of ~{_short(task.total)}"
        return Text(f"{_short(task.completed)}{total} rows{speed}")


def _short(count: float) -> str:
    """At most seven characters: 123,456, then 1.23M."""
    return f"{count:,.0f}" if count < 999_999.5 else f"{count / 1e6:.3g}M" if count < 999.5e6 else f"{count / 1e9:.3g}G"
