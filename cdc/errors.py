"""Errors that say where, which rule, and how to mend it; the class is the decision.

No error ever carries a row's value: the data are health records. Configuration values may be shown, secrets never.
"""

from __future__ import annotations

from collections.abc import Sequence


class CdcError(Exception):
    """A stop with a reason.

    `code` is a closed, lower-case word list (a metric label and the `code` of the JSON error); `place` names the file,
    key, table, column or position; `rule` says what does not hold; `hint` says what to do about it.
    """

    exit_code = 1

    def __init__(self, code: str, place: str, rule: str, hint: str = "") -> None:
        self.code, self.place, self.rule, self.hint = code, place, rule, hint
        super().__init__(f"{place}: {rule}" + (f" ({hint})" if hint else ""))

    def document(self) -> dict[str, dict[str, str]]:
        """The JSON form that every command prints with `--json`."""
        return {"error": {"code": self.code, "place": self.place, "rule": self.rule, "hint": self.hint}}


class Refused(CdcError):
    """Mended by editing configuration, credentials, privileges or server settings;
    found before anything was written."""

    exit_code = 2


class AllRefused(Refused):
    """Several refusals of one kind, told at once: the code is the first one's."""

    def __init__(self, parts: Sequence[Refused]) -> None:
        self.parts = tuple(parts)
        said = "; ".join(f"{one.place}: {one.rule}" for one in self.parts[1:])
        first = self.parts[0]
        super().__init__(first.code, first.place, f"{first.rule}; {said}", "cdc doctor lists each with its mend")


class Halt(CdcError):
    """The process stops: going on could lose or invent a row. A restart alone does not help."""


class RowSuspected(Halt):
    """The target refused a statement for what may be a row's content or a definition: whoever wrote rows finds out
    which (`sinks/postgres/bisect.py`); for everybody else it is a halt."""

    def __init__(self, code: str, place: str, rule: str, hint: str = "", sqlstate: str = "") -> None:
        super().__init__(code, place, rule, hint)
        self.sqlstate = sqlstate
        """PostgreSQL's; empty when no statement was sent because the value has no form there."""


class RowRefused(RowSuspected):
    """The target cannot hold a row: the row's key is quarantined; where that is not allowed, the process stops."""


class Retry(CdcError):
    """A server is away or busy: the work is undone and tried again, visibly, for as long as it takes."""


class Malformed(Halt):
    """Bytes of the log or of a record that do not obey their format."""


def own_words(text: object) -> str:
    """What a server, or a driver, says of a connection that did not come about: one line, at most 300 characters.

    There no statement has been sent yet, so no value of a row can be in it; names of hosts and accounts are.
    """
    return " ".join(str(text).split())[:300]
