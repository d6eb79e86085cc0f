"""A logged statement as words: comments gone, quotes understood by the statement's own sql_mode. Pure.

https://dev.mysql.com/doc/refman/8.4/en/lexical-structure.html and
https://dev.mysql.com/doc/refman/8.4/en/comments.html. Read as far as it is asked for: an INSERT of a gigabyte is judged
by its first words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from cdc.model.table import TableName

ANSI_QUOTES, NO_BACKSLASH_ESCAPES = 1 << 2, 1 << 20
"""Bits of sql_mode, as the log numbers them (MySQL and MariaDB alike): the two that change what a quote is."""


class UnreadableError(Exception):
    """The statement's words do not stand where they must; it carries nothing of the statement."""


class Token(NamedTuple):
    """`kind` is word, name (quoted), text (a string; its content is left out) or sign;
    `gap` says whether space stood before it."""

    kind: str
    text: str
    gap: bool


@cache
def _pattern(sql_mode: int, conditional: bool) -> re.Pattern[str]:
    escaped = "" if sql_mode & NO_BACKSLASH_ESCAPES else r"\\"
    text = [rf"{q}(?:[^{q}{escaped}]|{q}{q}{'|' + escaped + '.' if escaped else ''})*{q}" for q in "'\""]
    name = [r"`(?:[^`]|``)*`"]
    if sql_mode & ANSI_QUOTES:
        name.append(r'"(?:[^"]|"")*"')
        text.pop()
    comment = r"\s+|\#[^\n]*|--(?=[\x00-\x20\x7f]|\Z)[^\n]*|/\*(?!M?!).*?\*/"
    version = r"/\*M?!\d*|\*/" if conditional else r"/\*M?!.*?\*/"
    word = r"[\w$\x80-\U0010ffff]+"
    return re.compile(
        f"(?P<gap>{comment}|{version})|(?P<text>{'|'.join(text)})|(?P<name>{'|'.join(name)})|(?P<word>{word})|(?P<sign>.)",
        re.DOTALL,
    )


def tokens(sql: str, sql_mode: int, *, conditional: bool) -> Iterator[Token]:
    """The statement's tokens; what stands in `/*! */` is read with `conditional` and is a comment without."""
    gap = True
    for found in _pattern(sql_mode, conditional).finditer(sql):
        kind, text = found.lastgroup or "", found[0]
        if kind == "gap":
            gap = True
            continue
        if kind == "sign" and text in "'\"`":
            raise UnreadableError
        if kind == "name":
            text = text[1:-1].replace(text[0] * 2, text[0])
        yield Token(kind, "" if kind == "text" else text, gap)
        gap = False


def rendered(found: list[Token]) -> str:
    """Tokens as a statement again, without comments and strings: every string is '0'."""
    parts, before = [], ""
    for kind, text, gap in found:
        if gap or (before == text == "-"):  # two signs; side by side they would begin a comment
            parts.append(" ")
        parts.append("'0'" if kind == "text" else "`" + text.replace("`", "``") + "`" if kind == "name" else text)
        before = text if kind == "sign" else ""
    return "".join(parts)


class Words:
    """A cursor over a statement's tokens."""

    def __init__(self, found: Iterator[Token], default_db: str) -> None:
        self._rest, self._read = found, list[Token]()
        self.default_db, self.at = default_db, 0

    def _token(self, at: int) -> Token | None:
        while len(self._read) <= at:
            token = next(self._rest, None)
            if token is None:
                return None
            self._read.append(token)
        return self._read[at]

    def left(self) -> list[Token]:
        """Everything from here to the end."""
        self._read.extend(self._rest)
        return self._read[self.at :]

    def word(self, ahead: int = 0) -> str:
        """The word or sign here in upper case; "" for anything quoted and at the end."""
        token = self._token(self.at + ahead)
        return token.text.upper() if token and token.kind in ("word", "sign") else ""

    def over(self) -> bool:
        """Nothing follows but the semicolon of the end."""
        return self._token(self.at) is None or (self.word() == ";" and self._token(self.at + 1) is None)

    def skip(self, *words: str) -> bool:
        """Step over these words if they stand here."""
        if any(self.word(ahead) != word for ahead, word in enumerate(words)):
            return False
        self.at += len(words)
        return True

    def skip_any(self, *words: str) -> None:
        """Step over whichever of these words stand here."""
        while self.word() in words:
            self.at += 1

    def name(self) -> TableName:
        """The table named here; raises when no name can stand here."""
        parts = [self._part()]
        while len(parts) < 3 and self.skip("."):
            parts.append(self._part())
        return (self.default_db, parts[0]) if len(parts) == 1 else (parts[-2], parts[-1])

    def _part(self) -> str:
        token = self._token(self.at)
        if token is None or token.kind not in ("word", "name"):
            raise UnreadableError
        self.at += 1
        return token.text

    def names(self) -> list[TableName]:
        """Names separated by commas."""
        found = [self.name()]
        while self.skip(","):
            found.append(self.name())
        return found

    def find(self, *words: str) -> Iterator[None]:
        """Stand behind each place where these words follow one another."""
        self._read.extend(self._rest)
        for at in range(len(self._read)):
            self.at = at
            if self.skip(*words):
                yield

    def dotted(self) -> list[TableName]:
        """Every pair of names with a dot between them, from here on:
        a table with its database, or a column with its table."""
        found = self.left()
        return [
            (first.text, last.text)
            for first, dot, last in zip(found, found[1:], found[2:])
            if dot.text == "." and dot.kind == "sign" and {first.kind, last.kind} <= {"word", "name"}
        ]

    def bare(self) -> list[TableName]:
        """Every word from here on, as if it named a table of the default database."""
        return [(self.default_db, token.text) for token in self.left() if token.kind in ("word", "name")]
