"""Does a logged statement touch a followed table? Irrelevant only when that is proven; everything else is unsupported.
Pure.

The statement's own words decide what it is and which tables it names (`cdc/ddl/tokens.py`); sqlglot is asked only for
the tables of an UPDATE or DELETE that names none with its database. Not seen: what a statement-format DML on another
table does through a trigger, a stored function, a view or a MERGE table (`binlog_format` must be ROW, `doctor` checks
it), and rows that REPAIR TABLE drops (`reconcile` finds them).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import sqlglot
from sqlglot import expressions
from sqlglot.errors import SqlglotError

from cdc.ddl.alterations import keeps_rows, switches_keys
from cdc.ddl.tokens import UnreadableError, Words, rendered, tokens
from cdc.model.selection import Selection
from cdc.model.table import TableName

logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # its warnings quote the statement, values and all


Unless = Literal["", "exists", "same"]


@dataclass(frozen=True, slots=True)
class Irrelevant:
    """No followed table changes in rows or shape."""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """Capture must stop here: `reason` is one of created, changed, dropped, renamed, truncated, written, database,
    unknown."""

    reason: str
    tables: tuple[TableName, ...] = ()
    unless: Unless = ""
    """What the tables may show that lets it go on all the same: they are there already, and it makes none that is
    ("exists"); they have the columns and the key that they had, and it changes no row ("same")."""


# fmt: off
_HARMLESS = frozenset({
    "GRANT", "REVOKE", "FLUSH", "OPTIMIZE", "REPAIR", "CHECK", "CHECKSUM", "INSTALL", "UNINSTALL", "KILL", "SAVEPOINT",
    "RELEASE", "COMMIT", "ROLLBACK", "USE",
})
"""First words of statements that change neither a table's rows nor its shape."""
_HARMLESS_PAIRS = frozenset({
    ("SET", "PASSWORD"), ("SET", "ROLE"), ("SET", "DEFAULT"), ("BEGIN", ""), ("BEGIN", "WORK"), ("ANALYZE", "TABLE"),
    ("ANALYZE", "TABLES"), ("ANALYZE", "LOCAL"), ("ANALYZE", "NO_WRITE_TO_BINLOG"), ("ANALYZE", "PERSISTENT"),
})
"""The same, where the second word decides."""
_OTHER_OBJECTS = frozenset({
    "USER", "ROLE", "VIEW", "PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE", "SERVER", "LOGFILE", "SEQUENCE",
    "RESOURCE", "REFERENCE", "INSTANCE", "LIBRARY",
})
_OBJECTS = _OTHER_OBJECTS | {"TABLE", "TABLES", "DATABASE", "SCHEMA", "INDEX", "TABLESPACE"}
_BEFORE_OBJECT = frozenset({
    "OR", "REPLACE", "DEFINER", "ALGORITHM", "UNDEFINED", "MERGE", "TEMPTABLE", "SQL", "SECURITY", "INVOKER",
    "AGGREGATE", "TEMPORARY", "UNIQUE", "FULLTEXT", "SPATIAL", "VECTOR", "ONLINE", "OFFLINE", "IGNORE", "BODY", "UNDO",
    "EXTERNAL", "JSON", "RELATIONAL", "DUALITY",
})
"""Words that may stand between CREATE, ALTER or DROP and the kind of object."""
_OPTIONS = ("IF", "NOT", "EXISTS")
_INSERT_OPTIONS = ("LOW_PRIORITY", "DELAYED", "HIGH_PRIORITY", "IGNORE", "INTO")
# fmt: on


def classify(
    sql: str, default_db: str, wants: Callable[[str, str], bool], *, sql_mode: int = 0
) -> Irrelevant | Unsupported:
    """Whether a statement of the log is proven irrelevant for the tables that `wants` selects; `sql_mode` is that of
    its session.

    Text in `/*! */` may or may not have run, by the server's version: both readings must be irrelevant.
    `wants` may be a `Selection`: it also knows in which databases a followed table can be.
    """
    readings = [_judged(Words(tokens(sql, sql_mode, conditional=how), default_db), wants) for how in (True, False)]
    found = sorted((one for one in readings if isinstance(one, Unsupported)), key=lambda one: one.unless)
    if not found:
        return Irrelevant()
    return found[0] if found[0] == found[-1] else replace(found[0], unless="")


def _judged(words: Words, wants: Callable[[str, str], bool]) -> Irrelevant | Unsupported:
    try:
        found = _verdict(words, wants)
    except (UnreadableError, SqlglotError):
        return Unsupported("unknown")
    if isinstance(found, Irrelevant | Unsupported):
        return found
    reason, names, unless = found
    if not names:
        return Unsupported("unknown")
    if reason == "database":
        return _of_database(names[0][0], wants)
    wanted = tuple(dict.fromkeys(name for name in names if wants(*name)))
    return Unsupported(reason, wanted, unless) if wanted else Irrelevant()


Verdict = Irrelevant | Unsupported | tuple[str, list[TableName], Unless]
"""Decided, or a reason that holds if one of the named tables is followed, and what speaks against it."""


def _of_database(db: str, wants: Callable[[str, str], bool]) -> Irrelevant | Unsupported:
    if isinstance(wants, Selection) and not wants.may_be_in(db):
        return Irrelevant()
    return Unsupported("database", ((db, ""),))


def _verdict(words: Words, wants: Callable[[str, str], bool]) -> Verdict:
    first = words.word()
    if not first:
        return Irrelevant() if words.over() else Unsupported("unknown")
    words.at += 1
    if first in _HARMLESS or (first, words.word()) in _HARMLESS_PAIRS:
        return Irrelevant()
    if first in ("CREATE", "ALTER", "DROP"):
        return _of_object(first, words)
    if first in ("SET", "ANALYZE"):
        return _verdict(words, wants) if _at_inner_statement(first, words) else Unsupported("unknown")
    return _VERDICTS.get(first, _unknown)(words, wants)


def _at_inner_statement(first: str, words: Words) -> bool:
    """Stand at the statement that MariaDB's SET STATEMENT .. FOR runs, or its ANALYZE [FORMAT = JSON]:
    both execute it."""
    if first == "ANALYZE":
        if words.skip("FORMAT"):
            words.at += 2
        return True
    if not words.skip("STATEMENT"):
        return False
    depth = 0
    while not words.over():
        depth += {"(": 1, ")": -1}.get(words.word(), 0)
        if not depth and words.skip("FOR"):
            return True
        words.at += 1
    return False


def _unknown(words: Words, wants: Callable[[str, str], bool]) -> Verdict:
    return Unsupported("unknown")


def _truncated(words: Words, wants: Callable[[str, str], bool]) -> Verdict:
    words.skip("TABLE")
    return "truncated", [words.name()], ""


def _loaded(words: Words, wants: Callable[[str, str], bool]) -> Verdict:
    return "written", [words.name() for _ in words.find("INTO", "TABLE")][:1], ""


def _inserted(words: Words, wants: Callable[[str, str], bool]) -> Verdict:
    words.skip_any(*_INSERT_OPTIONS)
    return "written", [words.name()], ""


def _of_object(verb: str, words: Words) -> Verdict:
    said, kind = _object(words)
    if kind in _OTHER_OBJECTS:
        return Irrelevant()
    if kind in ("DATABASE", "SCHEMA"):
        words.skip_any(*_OPTIONS)
        return ("database", [(words.name()[1], "")], "") if verb == "DROP" or "REPLACE" in said else Irrelevant()
    if kind == "TABLESPACE":
        return Irrelevant()  # where rows lie, never which; a server drops only an empty one
    if kind == "INDEX":
        return "changed", [words.name() for _ in words.find("ON")][:1], "" if "IGNORE" in said else "same"
    if kind not in ("TABLE", "TABLES"):
        return Unsupported("unknown")
    if_absent = words.skip("IF", "NOT", "EXISTS")
    words.skip_any(*_OPTIONS)
    if verb == "ALTER":
        return _altered_table(words, ignoring="IGNORE" in said)
    if "TEMPORARY" in said:
        return Irrelevant()
    if verb == "DROP":
        return "dropped", words.names(), ""
    name = words.name()
    keeps = if_absent and "REPLACE" not in said and not any(True for _ in words.find("SELECT"))
    return "created", [name], "exists" if keeps else ""


def _altered_table(words: Words, *, ignoring: bool) -> Verdict:
    at = words.at
    words.left()  # to the end: what is not readable there raises here
    name = words.name()
    behind = words.at
    if switches_keys(words):
        return Irrelevant()
    words.at = behind
    try:
        keeps = not ignoring and keeps_rows(words)
    except UnreadableError:
        keeps = False
    if keeps:
        return "changed", [name], "same"
    words.at = at
    return "changed", _altered(words), ""


def _object(words: Words) -> tuple[set[str], str]:
    """What was said before the kind of object, and that; the account in DEFINER = and ALGORITHM = are passed over."""
    said: set[str] = set()
    while not words.over() and words.word() not in _OBJECTS:
        said.add(words.word())
        if words.word() not in _BEFORE_OBJECT and not words.skip("="):
            return said, ""
        if words.skip("DEFINER", "="):
            _pass_account(words)
        else:
            words.at += 1
    kind = words.word()
    words.at += 1
    return said, kind


def _pass_account(words: Words) -> None:
    """An account: CURRENT_USER, a role, or user@host, whose parts come as one token or several."""
    while not words.over() and words.word() not in _OBJECTS and words.word() not in ("SQL", "AGGREGATE"):
        words.at += 1


def _altered(words: Words) -> list[TableName]:
    """The table, what it is renamed to, the one it exchanges a partition with, takes in as one, or makes of one."""
    found = [words.name()]
    for _ in words.find("RENAME"):
        if words.word() not in ("COLUMN", "INDEX", "KEY"):
            words.skip_any("TO", "AS", "=", *_OPTIONS)
            found.append(words.name())
    for phrase in (("WITH", "TABLE"), ("CONVERT", "TABLE"), ("TO", "TABLE")):
        found += [words.name() for _ in words.find(*phrase)]
    return found


def _renamed(words: Words, wants: Callable[[str, str], bool]) -> Verdict:
    """RENAME TABLE a TO b, c TO d; RENAME USER."""
    if words.word() in ("USER", "ROLE"):
        return Irrelevant()
    words.at += 1
    words.skip_any(*_OPTIONS)
    found = []
    while not words.over():
        found.append(words.name())
        if words.skip("WAIT"):
            words.at += 1  # the seconds
        words.skip("NOWAIT")
        if not words.skip("TO"):
            return Unsupported("unknown")
        found.append(words.name())
        words.skip(",")
    return "renamed", found, ""


def _changed_rows(words: Words, wants: Callable[[str, str], bool]) -> Verdict:
    """UPDATE, DELETE and WITH: every table named, read or written."""
    wanted = [name for name in words.dotted() if wants(*name)]
    if wanted:
        return "written", wanted, ""
    if not any(wants(*name) for name in words.bare()):
        return Irrelevant()
    words.at -= 1
    [tree] = sqlglot.parse(rendered(words.left()), dialect="mysql")
    tables = (
        []
        if tree is None
        else [(table.db or words.default_db, table.name) for table in tree.find_all(expressions.Table)]
    )
    return ("written", tables, "") if tables and not isinstance(tree, expressions.Command) else Unsupported("unknown")


_VERDICTS: Mapping[str, Callable[[Words, Callable[[str, str], bool]], Verdict]] = {
    "RENAME": _renamed,
    "TRUNCATE": _truncated,
    "LOAD": _loaded,
    **dict.fromkeys(("INSERT", "REPLACE"), _inserted),
    **dict.fromkeys(("UPDATE", "DELETE", "WITH"), _changed_rows),
}
