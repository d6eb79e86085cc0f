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

from cdc.errors import CdcError, Halt, Refused, Retry, RowRefused
from cdc.postgres.patience import Silent

P = ParamSpec("P")
R = TypeVar("R")


def decide(error: psycopg.Error, place: str, *, starting: bool = False) -> CdcError:
    """What a driver's error means, by SQLSTATE alone; nothing of its text is kept."""
    state = error.sqlstate or ""
    if isinstance(error, Silent):
        return Retry("target_lost", place, str(error), LATER)
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
    "53": (Cause.AWAY, "target_resources"),
    "55": (Cause.AWAY, "target_locked"),
    "55000": (
        Cause.DENIED,
        "target_denied",
    ),  # the table is not as the statement needs it: published, and without a replica identity
    "57": (Cause.AWAY, "target_stopped"),
    "40": (Cause.CONFLICT, "target_conflict"),
    "22": (Cause.ROW, "target_value"),
    "23": (Cause.ROW, "target_value"),
    "54000": (
        Cause.ROW,
        "target_value",
    ),  # a key that is too large for an index, a row for a page: nothing of the target can be mended
    "28": (Cause.DENIED, "target_auth"),
    "3D": (Cause.DENIED, "target_database"),
    "3F": (Cause.DENIED, "target_denied"),
    "42": (Cause.DENIED, "target_denied"),
}
_DENIED = "check the role's privileges, the database and the table's definition"
_NO_RIGHT = "give the role of target.url what it lacks: ALTER TABLE .. OWNER TO it, and GRANT ALL ON the table TO it"
LATER = "it passes by itself: what runs always tries again for as long as it takes, a command is to be started again"


def cause(state: str, *, lost: bool = False) -> tuple[Cause, str]:
    """What to do about an SQLSTATE, or its class, and the reason code;
    `lost`: the driver knows only that the connection is gone."""
    otherwise = (Cause.AWAY, "target_lost") if lost and not state else (Cause.UNKNOWN, "target_error")
    return CAUSES.get(state) or CAUSES.get(state[:2], otherwise)


def verdict(state: str, place: str, said: str, *, lost: bool = False, starting: bool = False) -> CdcError:
    """The error to raise. `said` names SQLSTATE and objects, never values; `starting`: nothing was written yet."""
    kind, code = cause(state, lost=lost)
    if kind in (Cause.AWAY, Cause.CONFLICT):
        return Retry(code, place, said, LATER)
    if kind is Cause.ROW:
        return RowRefused(code, place, said, "mend the target's definition, or the row on the source", state)
    if kind is Cause.DENIED:
        return (Refused if starting else Halt)(code, place, said, _NO_RIGHT if state == "42501" else _DENIED)
    return Halt(
        code, place, said, "an SQLSTATE class that no rule is known for: mend the cause on the target and start again"
    )
