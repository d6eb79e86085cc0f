"""What PostgreSQL's refusals mean, by SQLSTATE and nothing else: the one table that every user of the target asks.

The classes are those of https://www.postgresql.org/docs/current/errcodes-appendix.html; a class that is not here stops.
Where one SQLSTATE means another thing than its class, it stands here itself. A decision names SQLSTATE, table and
constraint, never the server's message, detail or context: those carry values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from enum import StrEnum
from typing import ParamSpec, TypeVar

import psycopg

from cdc.errors import CdcError, Halt, Refused, Retry, RowRefused, RowSuspected

P = ParamSpec("P")
R = TypeVar("R")


def decide(error: psycopg.Error, place: str, *, starting: bool = False) -> CdcError:
    """What a driver's error means, by SQLSTATE alone; nothing of its text is kept."""
    state = error.sqlstate or ""
    lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    if lost and not state:
        return verdict(state, place, "the connection to PostgreSQL is lost", lost=True)
    return verdict(
        state,
        place,
        f"PostgreSQL says {state or 'nothing'} ({type(error).__name__})" + _named(error),
        starting=starting,
    )


def _named(error: psycopg.Error) -> str:
    """Names of the objects concerned: definitions, never values."""
    diag = error.diag
    names = (("table", diag.table_name), ("column", diag.column_name), ("constraint", diag.constraint_name))
    return "".join(f", {word} {name}" for word, name in names if name)


def guarded(place: str, *, starting: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Turn the driver's errors into decisions, leaving no chain to the original: its text holds values."""

    def wrap(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except psycopg.Error as error:
                decision = decide(error, place, starting=starting)
            raise decision

        return run

    return wrap


class Cause(StrEnum):
    """What is done about an error."""

    AWAY = "away"
    """The server, or what it needs, is not there now: tried again for as long as it takes."""
    CONFLICT = "conflict"
    """Two transactions met: this one is done again at once, a few times, and then like AWAY."""
    ROW = "row"
    """The target cannot hold a row: its key goes into quarantine."""
    DENIED = "denied"
    """Somebody has to change a privilege, a name or a definition: stops."""
    UNKNOWN = "unknown"
    """Stops."""


CAUSES: dict[str, tuple[Cause, str]] = {
    "08": (Cause.AWAY, "target_lost"),
    "25": (Cause.AWAY, "target_lost"),  # 25P03: cut while idle in a transaction; 25006: read-only, a standby: both pass
    "53": (Cause.AWAY, "target_resources"),  # 53200 too: a server with more memory holds the same row
    "55": (Cause.AWAY, "target_locked"),
    "55000": (
        Cause.DENIED,
        "target_denied",
    ),  # the table is not as the statement needs it: published, and without a replica identity
    "57": (Cause.AWAY, "target_stopped"),
    "40": (Cause.CONFLICT, "target_conflict"),
    "20": (Cause.ROW, "target_value"),  # a CASE of a function that has no branch for it
    "21": (Cause.ROW, "target_value"),  # a subquery of a function that found more than one row
    "22": (Cause.ROW, "target_value"),
    "23": (Cause.ROW, "target_value"),
    "44": (Cause.ROW, "target_value"),  # WITH CHECK OPTION
    "54": (Cause.ROW, "target_value"),  # too large for an index or a page, a text for tsvector, a document too deep
    "P0": (Cause.ROW, "target_value"),  # RAISE, ASSERT, STRICT of PL/pgSQL: somebody's trigger, check or index
    "28": (Cause.DENIED, "target_auth"),
    "3D": (Cause.DENIED, "target_database"),
    "3F": (Cause.DENIED, "target_denied"),
    "42": (Cause.DENIED, "target_denied"),
}
_SUSPECTED = frozenset({"09", "0A", "10", "27", "2F", "38", "39", "42", "HV"})
"""Classes that a row's content brings about too, in functions that the table's owner hung on it: a text that is no
tsquery is 42601."""
_NEVER = frozenset({"42501", "42P01", "42P05"})
"""Of these classes: a privilege, a table, a session that a pooler gave away."""
_OWN = frozenset(
    "00 01 02 03 08 09 0A 0B 0F 0L 0P 0Z 10 20 21 22 23 24 25 26 27 28 2B 2D 2F 34 38 39 3B 3D 3F 40 42 44 53 54 55"
    " 57 58 72 F0 HV P0 XX".split()
)
"""PostgreSQL's own classes: any other is raised by a function that somebody wrote."""
ROW_HINT = "mend the target's definition, or the row on the source"
_DENIED = "check the role's privileges, the database and the table's definition"
_NO_RIGHT = "give the role of target.url what it lacks: ALTER TABLE .. OWNER TO it, and GRANT ALL ON the table TO it"
LATER = "it passes by itself: what runs always tries again for as long as it takes, a command is to be started again"


def cause(state: str, *, lost: bool = False) -> tuple[Cause, str]:
    """What to do about an SQLSTATE, or its class, and the reason code;
    `lost`: the driver knows only that the connection is gone."""
    otherwise = (Cause.AWAY, "target_lost") if lost and not state else (Cause.UNKNOWN, "target_error")
    return CAUSES.get(state) or CAUSES.get(state[:2], otherwise)


def may_be_row(state: str) -> bool:
    """Whether an SQLSTATE that does not name a row may still be about what one holds."""
    if state in _NEVER:
        return False
    return state == "XX000" or state[:2] in _SUSPECTED or (bool(state) and state[:2] not in _OWN)


def verdict(state: str, place: str, said: str, *, lost: bool = False, starting: bool = False) -> CdcError:
    """The error to raise. `said` names SQLSTATE and objects, never values; `starting`: nothing was written yet."""
    kind, code = cause(state, lost=lost)
    if kind in (Cause.AWAY, Cause.CONFLICT):
        return Retry(code, place, said, LATER)
    if kind is Cause.ROW:
        return RowRefused(code, place, said, ROW_HINT, state)
    if kind is Cause.DENIED:
        hint = _NO_RIGHT if state == "42501" else _DENIED
        if starting:
            return Refused(code, place, said, hint)
    else:
        hint = "an SQLSTATE class that no rule is known for: mend the cause on the target and start again"
    return RowSuspected(code, place, said, hint, state) if may_be_row(state) else Halt(code, place, said, hint)
