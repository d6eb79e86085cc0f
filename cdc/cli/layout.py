"""Documents as people read them, at 80 columns and in a pipe: a line a table, what is wrong alone unless all is asked
for, no line broken that somebody wants to copy.

A line is never folded here: a terminal folds it by itself, and grep and a mouse still see it whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.text import Text

from cdc.cli import status_text
from cdc.cli.words import duration, said, several

Document = Mapping[str, Any]
Lines = Iterator[Text | str]
_FEW = 3
"""So many of a kind are shown where there are many."""
_NAMES_WIDTH = 40
_COLOURS = {
    "error": "bold red",
    "different": "bold red",
    "warning": "yellow",
    "unsettled": "yellow",
    "refused": "yellow",
}
_SETTLED = ("consistent", "catching_up")
"""States of tables that need nobody's eye."""
_SQL = re.compile(r"(ALTER|CALL|CREATE|DELETE|DROP|GRANT|INSERT|PURGE|SELECT|SET|SHOW|TRUNCATE|UPDATE) |-- ")
_STEERING = dict.fromkeys({*range(0x20), *range(0x7F, 0xA0)} - {ord("\n")})
_VERDICTS = ("different", "refused", "unsettled", "equal")
_REASONS = {
    "target_behind": "the target did not catch up, and differs by now: is the pipeline running?",
    "rows_moving": "rows changed each time they were looked at: again at a quieter time",
}


def show(console: Console, kind: str, document: Document, everything: bool = False) -> None:
    """Print a command's document; `everything`: what is as it should be too."""
    layout = _LAYOUTS.get(kind)
    for line in layout(document, everything) if layout else _any(document, everything):
        console.print(_harmless(line), soft_wrap=True, highlight=False, markup=False)


def _harmless(line: Text | str) -> Text | str:
    """Without what would steer a terminal: names and a server's words are others' texts."""
    plain = str(line)
    clean = plain.translate(_STEERING)
    return line if clean == plain else clean


def _any(document: Document, everything: bool) -> Lines:
    yield from _facts({name: value for name, value in document.items() if not _is_rows(value)})
    for name, value in document.items():
        if _is_rows(value):
            yield Text(name, style="bold")
            yield from _columns(value)


def _version(document: Document, everything: bool) -> Lines:
    yield f"cdc {document['version']}"


def _facts(facts: Document) -> Lines:
    """A line each, values one below the other."""
    width = max(map(len, facts), default=0)
    for name, value in facts.items():
        yield Text.assemble((name.ljust(width), "bold"), f"  {said(name, value)}")


def _columns(rows: Sequence[Document]) -> Lines:
    """A line each; what no row has is no column, and the last one is as long as it is."""
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if any(map(_has(name), rows))]
    cells = [names, *([said(name, row.get(name)) if _has(name)(row) else "" for name in names] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(names))]
    for at, line in enumerate(cells):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        yield Text(f"  {text}", style="" if at else "dim")


def _has(name: str) -> Callable[[Document], bool]:
    return lambda row: row.get(name) not in (None, "")


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _named(rows: Iterable[tuple[str, str, str]]) -> Iterator[Text]:
    """State, table and what is to be said of it, one below the other."""
    found = list(rows)
    states = max((len(state) for state, _, _ in found), default=0)
    names = min(_NAMES_WIDTH, max((len(name) for _, name, _ in found), default=0))
    for state, name, what in found:
        line = Text.assemble((state.ljust(states), _COLOURS.get(state, "")), f"  {name.ljust(names)}  {what}")
        line.rstrip()
        yield line


def _doctor(document: Document, everything: bool) -> Lines:
    for (level, code), group in groupby(document["findings"], lambda one: (one["level"], one["code"])):
        found = list(group)
        shown = found if everything else found[:_FEW]
        for one in shown:
            yield Text.assemble((level, _COLOURS[level]), f" [{code}] {one['place']}: {one['rule']}")
            if one["hint"]:
                yield f"    {one['hint']}" if _SQL.match(one["hint"]) else f"    hint: {one['hint']}"
        if len(found) > len(shown):
            yield f"    .. and {len(found) - len(shown)} more of [{code}]: cdc doctor --all"
    source, target = document["source"], document["target"]
    about = "source not asked" if source is None else f"source {source['flavour']} {source['version']}"
    about += ", target not asked" if target is None else f", target PostgreSQL {target['version']}"
    yield f"{about}, {several(len(document['tables']), 'table')}, codec {document['codec']}"
    yield _doctors_verdict(document["errors"], document["warnings"])


def _doctors_verdict(errors: int, warnings: int) -> Text:
    beside = several(warnings, "warning") if warnings else "no warning"
    if errors:
        return Text(f"NOT READY: {several(errors, 'error')} to mend before a start, {beside}", style="bold red")
    return Text(f"READY: nothing stands in the way of a start, {beside}", style="bold green")


def _reconcile(document: Document, everything: bool) -> Lines:
    worst_first = sorted(document["tables"], key=lambda one: (_VERDICTS.index(one["state"]), one["reason"]))
    tables = [one for one in worst_first if everything or one["state"] != "equal"]
    lines = _named((one["state"], one["source"], _judged(one)) for one in tables)
    for (state, reason), group in groupby(zip(tables, lines), lambda pair: (pair[0]["state"], pair[0]["reason"])):
        found = list(group)
        few = found if everything or state == "different" else found[: 3 * _FEW]
        for table, line in few:
            yield line
            yield from _rows_that_differ(table, everything)
        if len(found) > len(few):
            yield f"    .. and {len(found) - len(few)} more {state} ({reason}): --all lists them"
    for one in document["repairs"]:
        what = several(one["keys"], "row") if one["kind"] == "keys" else "the whole table"
        yield f"read again: {one['source']}, {what}: {one['outcome']} {one['reason']}".rstrip()
    if ended := document["ended"]:
        yield Text.assemble(("not finished", "bold red"), f" [{ended['code']}] {ended['place']}: {ended['rule']}")
        yield from _hint(ended["hint"])
    yield _reconciles_verdict(document)


def _judged(table: Document) -> str:
    """What is to be said of one table beside its name and its state."""
    rows = several(table["rows_source"], "row")
    into = "" if table["target"] == table["source"] else f"  -> {table['target']}"
    if table["state"] == "equal":
        return f"{rows}{into}"
    if table["state"] == "different":
        if not table["differences"]:
            return f"as a whole: {rows} at the source, {table['rows_target']:,} in the target{into}"
        kinds = groupby(sorted(one["kind"].replace("_", " ") for one in table["differences"]))
        more = "" if table["complete"] else ", perhaps more"
        return "rows: " + ", ".join(f"{len(list(some)):,} {kind}" for kind, some in kinds) + more + into
    what = _REASONS.get(table["reason"]) or table["detail"]
    return f"{table['reason']}: {what}" if what else str(table["reason"])


def _rows_that_differ(table: Document, everything: bool) -> Lines:
    found = table["differences"]
    shown = found if everything else found[: 3 * _FEW]
    for one in shown:
        yield f"    {one['key_hash']}  {one['kind'].replace('_', ' ')}  {', '.join(one['columns'])}".rstrip()
    if len(found) > len(shown):
        yield f"    .. and {len(found) - len(shown)} more: --all lists them"
    if table["find"]:
        yield "    a row by its hash, at the source and in the target:"
        yield from (f"    {query}" for query in (table["find"]["source"], table["find"]["target"]))


def _reconciles_verdict(document: Document) -> Text:
    totals, took = document["totals"], duration(document["seconds"])
    tables = several(totals["tables"], "table")
    if document["equal"]:
        return Text(f"EQUAL: {tables}, {several(totals['rows_source'], 'row')}, compared in {took}", style="bold green")
    words = {"different": "different", "unsettled": "not settled", "refused": "not compared", "equal": "equal"}
    counted = ", ".join(f"{totals[state]:,} {word}" for state, word in words.items() if totals[state])
    verdict = "DIFFERENT" if totals["different"] else "NOT PROVEN"
    return Text(f"{verdict}: of {tables} {counted}; {took}", style="bold red" if totals["different"] else "yellow")


def _status(document: Document, everything: bool) -> Lines:
    """Who runs, and then what the tables are like."""
    yield from status_text.lines(document)
    rest = {name: value for name, value in document.items() if name not in status_text.SAID}
    yield from _tables(rest, everything, "; --all lists them")


def _tables(document: Document, everything: bool, hint: str = "") -> Lines:
    """Facts, and the tables that are not as they shall be."""
    yield from _facts({name: value for name, value in document.items() if name != "tables"})
    tables = document["tables"]
    shown = [one for one in tables if everything or _needs_an_eye(one)]
    yield from _named((one["state"], one["source"], _standing(one)) for one in shown)
    settled = sum(one["state"] in _SETTLED for one in tables)
    hidden = hint if len(shown) < len(tables) else ""
    yield Text(f"{settled:,} of {several(len(tables), 'table')} copied and followed{hidden}", style="bold")


def _needs_an_eye(table: Document) -> bool:
    return table["state"] not in _SETTLED or any(map(table.get, ("copying", "quarantined", "reason")))


def _standing(table: Document) -> str:
    going = table.get("copying")
    rows = going["rows"] if going else table.get("rows_loaded", table.get("rows"))
    parts = [f"{rows:,} rows" if rows is not None else ""]
    if going:
        parts.append(said("copying", {name: value for name, value in going.items() if name != "rows"}))
    if table["target"] != table["source"]:
        parts.append(f"-> {table['target']}")
    if table.get("quarantined"):
        parts.append(f"{table['quarantined']:,} quarantined")
    return "  ".join(filter(None, [*parts, table["reason"]]))


def _quarantine(document: Document, everything: bool) -> Lines:
    for one in document["keys"]:
        since = said("first_at", one["first_at"])
        yield f"{one['table']}  {one['key']}  {several(one['changes'], 'change')} since {since}"
        yield f"    [{one['reason']}] {one['rule']}"
    yield Text(
        f"{several(document['total_keys'], 'key')} in quarantine, {several(document['total_changes'], 'change')}",
        style="bold",
    )


def _error(document: Document, everything: bool) -> Lines:
    head, problems = (
        Text.assemble(("error", "bold red"), f" [{document['code']}] {document['place']}:"),
        document.get("problems"),
    )
    yield head if problems else Text.assemble(head, f" {document['rule']}")
    for one in problems or ():
        yield f"  {one['key']}{' = ' + one['value'] if one['value'] else ''}: {one['rule']}"
    yield from _hint(document["hint"])


def _hint(text: str) -> Lines:
    """SQL stands on a line of its own."""
    if text:
        yield Text.assemble(("hint:", "bold"), "\n    " if _SQL.match(text) else " ", text)


_LAYOUTS: dict[str, Callable[[Document, bool], Lines]] = {
    "error": _error,
    "version": _version,
    "doctor": _doctor,
    "reconcile": _reconcile,
    "status": _status,
    "snapshot": _tables,
    "quarantine_list": _quarantine,
}
