"""Clauses of ALTER TABLE that keep every row and every column, told by the statement's own words. Pure.

https://dev.mysql.com/doc/refman/8.4/en/alter-table.html and https://mariadb.com/kb/en/alter-table/. A clause that is
not here may change anything. A key may become another by some that are: that is told by the table, not by the words.
"""

from __future__ import annotations

from cdc.ddl.tokens import Words

# fmt: off
_OPTIONS = frozenset({
    "COMMENT", "AUTO_INCREMENT", "ROW_FORMAT", "KEY_BLOCK_SIZE", "STATS_PERSISTENT", "STATS_AUTO_RECALC",
    "STATS_SAMPLE_PAGES", "AVG_ROW_LENGTH", "MAX_ROWS", "MIN_ROWS", "CHECKSUM", "TABLE_CHECKSUM", "PAGE_CHECKSUM",
    "DELAY_KEY_WRITE", "PACK_KEYS", "ALGORITHM", "LOCK",
})
"""Each is followed by its value, with or without a sign between."""
_ENGINES = frozenset({"INNODB", "MYISAM", "ARIA"})
"""Those that keep rows; a BLACKHOLE does not."""
_KINDS = ("INDEX", "KEY")
# fmt: on


def switches_keys(words: Words) -> bool:
    """Whether DISABLE KEYS or ENABLE KEYS is all that follows: what a dump writes around the rows of each table."""
    return (words.skip("DISABLE", "KEYS") or words.skip("ENABLE", "KEYS")) and words.over()


def keeps_rows(words: Words) -> bool:
    """Whether all that follows the table's name keeps its rows and columns."""
    _wait(words)
    while True:
        if _option(words):
            if words.over():
                return True
            words.skip(",")  # between options there may be none
        elif not _index(words):
            return False
        elif words.over():
            return True
        elif not words.skip(","):
            return False


def _wait(words: Words) -> None:
    if words.skip("WAIT"):
        words.at += 1
    words.skip("NOWAIT")


def _option(words: Words) -> bool:
    if words.skip("FORCE") or words.skip("DISABLE", "KEYS") or words.skip("ENABLE", "KEYS"):
        return True
    if words.skip("ENGINE"):
        words.skip("=")
        known = words.word() in _ENGINES
        words.at += 1
        return known
    if words.word() not in _OPTIONS:
        return False
    words.at += 1
    words.skip("=")
    return _value(words)


def _value(words: Words) -> bool:
    """One token: a number, a word or a string."""
    found = words.left()
    words.at += 1
    return bool(found) and found[0].kind in ("word", "text")


def _index(words: Words) -> bool:
    if words.skip("ADD"):
        return _added(words)
    verb = words.word()
    if verb not in ("DROP", "RENAME", "ALTER") or words.word(1) not in _KINDS:
        return False
    words.at += 2
    words.skip("IF", "EXISTS")
    words.name()
    if verb == "ALTER":
        return _seen(words)
    if verb == "RENAME":
        if not words.skip("TO"):
            return False
        words.name()
    return True


def _seen(words: Words) -> bool:
    words.skip("NOT")
    return any(words.skip(one) for one in ("VISIBLE", "INVISIBLE", "IGNORED"))


def _added(words: Words) -> bool:
    """An index, or a UNIQUE key; a PRIMARY KEY may change its columns, a foreign key what the server does to rows."""
    if words.skip("CONSTRAINT") and words.word() != "UNIQUE":
        words.name()
    special = any(words.skip(one) for one in ("UNIQUE", "FULLTEXT", "SPATIAL"))
    if not any(words.skip(kind) for kind in _KINDS) and not special:
        return False
    words.skip("IF", "NOT", "EXISTS")
    if words.word() not in ("(", "USING"):
        words.name()
    _using(words)
    return _parenthesis(words) and _index_options(words)


def _using(words: Words) -> None:
    if words.skip("USING") or words.skip("TYPE"):
        words.at += 1


def _parenthesis(words: Words) -> bool:
    """Step over what stands in parentheses here."""
    depth = 0
    while words.word() == "(" or depth:
        if words.over():
            return False
        depth += {"(": 1, ")": -1}.get(words.word(), 0)
        words.at += 1
        if not depth:
            return True
    return False


def _index_options(words: Words) -> bool:
    while not words.over() and words.word() != ",":
        before = words.at
        _using(words)
        if words.skip("COMMENT") or words.skip("KEY_BLOCK_SIZE"):
            words.skip("=")
            if not _value(words):
                return False
        if words.skip("WITH", "PARSER"):
            words.name()
        _seen(words)
        if words.at == before:
            return False
    return True
