"""Does a logged statement touch a followed table? Irrelevant only when that is proven; everything else is unsupported. Pure.

The statement's own words decide what it is and which tables it names; sqlglot's lexer finds the words, its parser only the
tables of a DML statement. Not seen: what a statement-format DML on another table does through a trigger or a stored function
(`binlog_format` must be ROW, `doctor` checks it), and rows that REPAIR TABLE drops (`reconcile` finds them).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import sqlglot
from sqlglot import Token, TokenType, expressions
from sqlglot.errors import SqlglotError

from cdc.columns import Selection

logging.getLogger("sqlglot").setLevel(logging.CRITICAL)  # its warnings quote the statement, values and all

Name = tuple[str, str]
"""Database and table."""


@dataclass(frozen=True, slots=True)
class Irrelevant:
    """No followed table changes in rows or shape."""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """Capture must stop here: `reason` is one of created, changed, dropped, renamed, truncated, written, database, unknown."""

    reason: str
    tables: tuple[Name, ...] = ()


_LEX = re.compile(
    r"""(?P<quoted>'(?:[^'\\]|\\.|'')*'|`(?:[^`]|``)*`)|(?P<double>"(?:[^"\\]|\\.|"")*")"""
    r"|(?P<gone>\#[^\n]*|--(?=[\s]|$)[^\n]*|/\*(?!M?!).*?\*/)|(?P<open>/\*M?!\d*)(?P<inside>.*?)\*/",
    re.DOTALL,
)
# fmt: off
_HARMLESS = frozenset({
    "GRANT", "REVOKE", "FLUSH", "ANALYZE", "OPTIMIZE", "REPAIR", "CHECK", "CHECKSUM", "INSTALL", "UNINSTALL", "KILL", "SAVEPOINT",
    "RELEASE", "BEGIN", "COMMIT", "ROLLBACK", "USE",
})
"""First words of statements that change neither a table's rows nor its shape."""
_SET_HARMLESS = frozenset({"PASSWORD", "ROLE", "DEFAULT"})
_OTHER_OBJECTS = frozenset({
    "USER", "ROLE", "VIEW", "PROCEDURE", "FUNCTION", "TRIGGER", "EVENT", "PACKAGE", "SERVER", "LOGFILE", "SEQUENCE", "RESOURCE",
    "REFERENCE", "INSTANCE", "LIBRARY",
})
_OBJECTS = _OTHER_OBJECTS | {"TABLE", "TABLES", "DATABASE", "SCHEMA", "INDEX", "TABLESPACE"}
_BEFORE_OBJECT = frozenset({
    "OR", "REPLACE", "DEFINER", "ALGORITHM", "UNDEFINED", "MERGE", "TEMPTABLE", "SQL", "SECURITY", "INVOKER", "AGGREGATE", "TEMPORARY",
    "UNIQUE", "FULLTEXT", "SPATIAL", "VECTOR", "ONLINE", "OFFLINE", "IGNORE", "BODY", "UNDO", "EXTERNAL",
})
"""Words that may stand between CREATE, ALTER or DROP and the kind of object."""
_DML = frozenset({"INSERT", "REPLACE", "UPDATE", "DELETE", "WITH"})
_OPTIONS = frozenset({"IF", "NOT", "EXISTS", "TABLE", "WAIT", "NOWAIT"})
# fmt: on


def classify(sql: str, default_db: str, wants: Callable[[str, str], bool], *, ansi_quotes: bool = False) -> Irrelevant | Unsupported:
    """Whether a statement of the log is proven irrelevant for the tables that `wants` selects.

    Text in `/*! */` may or may not have run, by the server's version: both readings must be irrelevant.
    `wants` may be a `Selection`: it also knows in which databases a followed table can be.
    """
    for conditional in (True, False):
        found = _judged(_plain(sql, ansi_quotes, conditional), default_db, wants)
        if isinstance(found, Unsupported):
            return found
    return Irrelevant()


def _plain(sql: str, ansi_quotes: bool, conditional: bool) -> str:
    """The statement without comments; text in conditional ones stays or goes."""

    def replaced(found: re.Match[str]) -> str:
        if found["quoted"]:
            return found["quoted"]
        if found["double"]:
            return "`" + found["double"][1:-1].replace('""', '"').replace("`", "``") + "`" if ansi_quotes else found["double"]
        return f" {_plain(found['inside'], ansi_quotes, conditional)} " if found["open"] and conditional else " "

    return _LEX.sub(replaced, sql)


def _judged(sql: str, default_db: str, wants: Callable[[str, str], bool]) -> Irrelevant | Unsupported:
    try:
        words = _Words(_tokens(sql), default_db)
        found = _verdict(words, sql, default_db)
    except SqlglotError:
        return Unsupported("unknown")
    if isinstance(found, Irrelevant | Unsupported):
        return found
    reason, names = found
    if reason == "database":
        return _of_database(names[0][0], wants)
    wanted = tuple(dict.fromkeys(name for name in names if wants(*name)))
    return Unsupported(reason, wanted) if wanted else Irrelevant()


def _tokens(sql: str) -> list[Token]:
    """The statement's tokens. A word goes in front: at the start the lexer takes RENAME and others, with all that follows, for one."""
    return [token for token in sqlglot.tokenize(f"x {sql}", "mysql")[1:] if token.token_type is not TokenType.SEMICOLON]


Verdict = Irrelevant | Unsupported | tuple[str, list[Name]]
"""Decided, or a reason that holds if one of the named tables is followed."""


def _of_database(db: str, wants: Callable[[str, str], bool]) -> Irrelevant | Unsupported:
    if isinstance(wants, Selection) and not wants.may_be_in(db):
        return Irrelevant()
    return Unsupported("database", ((db, ""),))


class _Words:
    """A cursor over a statement's tokens."""

    def __init__(self, tokens: list[Token], default_db: str) -> None:
        self._tokens, self._db, self.at = tokens, default_db, 0

    def word(self, ahead: int = 0) -> str:
        """The word here in upper case; "" for anything quoted and at the end."""
        if self.at + ahead >= len(self._tokens):
            return ""
        token = self._tokens[self.at + ahead]
        return "" if token.token_type in (TokenType.IDENTIFIER, TokenType.STRING) else token.text.upper()

    def over(self) -> bool:
        return self.at >= len(self._tokens)

    def skip(self, *words: str) -> bool:
        """Step over these words if they stand here."""
        if any(self.word(ahead) != word for ahead, word in enumerate(words)):
            return False
        self.at += len(words)
        return True

    def skip_options(self) -> None:
        """IF NOT EXISTS and the like."""
        while self.word() in _OPTIONS:
            self.at += 1

    def name(self) -> Name:
        """The table named here; raises when no name can stand here."""
        parts = [self._part()]
        while self.word() == "." and len(parts) < 3:
            self.at += 1
            parts.append(self._part())
        return (self._db, parts[0]) if len(parts) == 1 else (parts[-2], parts[-1])

    def _part(self) -> str:
        if self.over() or self._tokens[self.at].token_type is TokenType.STRING or self.word() in (",", "(", ")", "."):
            raise SqlglotError
        self.at += 1
        return self._tokens[self.at - 1].text

    def names(self) -> list[Name]:
        """Names separated by commas."""
        found = [self.name()]
        while self.skip(","):
            found.append(self.name())
        return found

    def find(self, *words: str) -> Iterator[None]:
        """Stand behind each place where these words follow one another."""
        for at in range(len(self._tokens)):
            self.at = at
            if self.skip(*words):
                yield


def _verdict(words: _Words, sql: str, default_db: str) -> Verdict:
    first = words.word()
    if not first:
        return Irrelevant() if words.over() else Unsupported("unknown")
    words.at = 1
    if first in _HARMLESS or (first == "SET" and words.word() in _SET_HARMLESS):
        return Irrelevant()
    if first in ("CREATE", "ALTER", "DROP"):
        return _of_object(first, words)
    if first == "RENAME":
        return _renamed(words)
    if first == "TRUNCATE":
        words.skip_options()
        return "truncated", [words.name()]
    if first == "LOAD":
        return "written", [words.name() for _ in words.find("INTO", "TABLE")][:1]
    return ("written", _written(sql, default_db)) if first in _DML else Unsupported("unknown")


def _of_object(verb: str, words: _Words) -> Verdict:
    temporary, kind = _object(words)
    if kind in _OTHER_OBJECTS:
        return Irrelevant()
    if kind in ("DATABASE", "SCHEMA"):
        words.skip_options()
        return Irrelevant() if verb != "DROP" else ("database", [(words.name()[1], "")])
    if kind == "TABLESPACE":
        return Irrelevant() if verb == "CREATE" else Unsupported("unknown")
    if kind == "INDEX":
        return "changed", [words.name() for _ in words.find("ON")][:1] or [("", "")]
    if kind not in ("TABLE", "TABLES"):
        return Unsupported("unknown")
    words.skip_options()
    if verb == "DROP":
        return Irrelevant() if temporary else ("dropped", words.names())
    if verb == "CREATE":
        return Irrelevant() if temporary else ("created", [words.name()])
    return "changed", _altered(words)


def _object(words: _Words) -> tuple[bool, str]:
    """Whether TEMPORARY was said, and the kind of object; the account in DEFINER = and ALGORITHM = are passed over."""
    temporary = False
    while not words.over() and words.word() not in _OBJECTS:
        temporary = temporary or words.word() == "TEMPORARY"
        if words.word() not in _BEFORE_OBJECT and not words.skip("="):
            return temporary, ""
        if words.skip("DEFINER", "="):
            _pass_account(words)
        else:
            words.at += 1
    kind = words.word()
    words.at += 1
    return temporary, kind


def _pass_account(words: _Words) -> None:
    """An account: CURRENT_USER, a role, or user@host, whose parts come as one token or several."""
    while not words.over() and words.word() not in _OBJECTS and words.word() not in ("SQL", "AGGREGATE"):
        words.at += 1


def _altered(words: _Words) -> list[Name]:
    """The table, what it is renamed to, and the one it exchanges a partition with."""
    found = [words.name()]
    for _ in words.find("RENAME"):
        if words.word() not in ("COLUMN", "INDEX", "KEY"):
            while words.word() in ("TO", "AS", "=", "IF", "EXISTS"):
                words.at += 1
            found.append(words.name())
    for _ in words.find("WITH", "TABLE"):
        found.append(words.name())  # noqa: PERF401 - the cursor moves
    return found


def _renamed(words: _Words) -> Verdict:
    """RENAME TABLE a TO b, c TO d; RENAME USER."""
    if words.word() in ("USER", "ROLE"):
        return Irrelevant()
    words.at += 1
    words.skip_options()
    found = []
    while not words.over():
        found.append(words.name())
        words.skip_options()
        if not words.skip("TO"):
            return Unsupported("unknown")
        found.append(words.name())
        words.skip(",")
    return "renamed", found


def _written(sql: str, default_db: str) -> list[Name]:
    """Every table that a DML statement names, read or written."""
    tree = sqlglot.parse_one(re.sub(r"^\s*REPLACE\b", "INSERT", sql, flags=re.IGNORECASE), dialect="mysql")
    tables = [(table.db or default_db, table.name) for table in tree.find_all(expressions.Table)]
    if isinstance(tree, expressions.Command) or not tables:
        raise SqlglotError
    return tables
