"""What PostgreSQL's refusals mean, by SQLSTATE class and nothing else: the one table that every user of the target asks.

The classes are those of https://www.postgresql.org/docs/current/errcodes-appendix.html; a class that is not here stops.
"""

from __future__ import annotations

from enum import StrEnum

from cdc.errors import CdcError, Halt, Refused, Retry, RowRefused


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
    "57": (Cause.AWAY, "target_stopped"),
    "40": (Cause.CONFLICT, "target_conflict"),
    "22": (Cause.ROW, "target_value"),
    "23": (Cause.ROW, "target_value"),
    "28": (Cause.DENIED, "target_auth"),
    "3D": (Cause.DENIED, "target_database"),
    "3F": (Cause.DENIED, "target_denied"),
    "42": (Cause.DENIED, "target_denied"),
}
LATER = "it passes by itself: what runs always tries again for as long as it takes, a command is to be started again"


def cause(state: str, *, lost: bool = False) -> tuple[Cause, str]:
    """What to do about an SQLSTATE, and the reason code; `lost`: the driver knows only that the connection is gone."""
    return CAUSES.get(state[:2], (Cause.AWAY, "target_lost") if lost and not state else (Cause.UNKNOWN, "target_error"))


def verdict(state: str, place: str, said: str, *, lost: bool = False, starting: bool = False) -> CdcError:
    """The error to raise. `said` names SQLSTATE and objects, never values; `starting`: nothing was written yet."""
    kind, code = cause(state, lost=lost)
    if kind in (Cause.AWAY, Cause.CONFLICT):
        return Retry(code, place, said, LATER)
    if kind is Cause.ROW:
        return RowRefused(code, place, said, "mend the target's definition, or the row on the source", state)
    if kind is Cause.DENIED:
        return (Refused if starting else Halt)(code, place, said, "check the role's privileges, the database and the table's definition")
    return Halt(code, place, said, "an SQLSTATE class that no rule is known for: mend the cause on the target and start again")
