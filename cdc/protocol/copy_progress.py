"""How far copies are that are made while the log is followed: values that travel in cuts and bases, and that the sink
stores; pure.

Docs: docs/decisions/017-copy-while-streaming.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from cdc.model.table import TableName

WHOLE, WHERE, KEYS = "whole", "where", "keys"
DONE, STOPPED, REFUSED = "done", "stopped", "refused"


@dataclass(frozen=True, slots=True)
class Active:
    """The copy under way."""

    id: str
    """Of this attempt: that of its barrier."""
    request: str
    """The id that the request has; "" for a table that was added to the selection."""
    db: str
    table: str
    kind: str
    """whole, where or keys."""
    after: tuple[str, ...]
    """SQL literals of the key up to which its chunks count; of a list of keys: how many of them do."""
    rows: int
    swap: bool = False


@dataclass(frozen=True, slots=True)
class Copies:
    """What a cut says of copies; it holds as of that cut."""

    next: int = 0
    """The first request that is not done."""
    read: int = 0
    """How far the requests are read; those between `next` and here are read again after a restart."""
    last: TableName | None = None
    """The last table of request `next` that is done."""
    paused: bool = False
    active: Active | None = None
    channel: str = ""
    """The log in which requests are numbered so, where it can be told from another one of its name."""

    def to_json(self) -> dict[str, Any]:
        """The document that `from_json` turns back."""
        active = self.active and {name: getattr(self.active, name) for name in Active.__slots__}
        return {"next": self.next, "read": self.read, "last": self.last and list(self.last), "paused": self.paused,
        "active": active,
                "channel": self.channel}  # fmt: skip

    @classmethod
    def from_json(cls, document: Mapping[str, Any] | None) -> Copies:
        """The value that `to_json` wrote; nothing is nothing."""
        if document is None:
            return cls()
        fields = dict(document)
        last, active = fields.pop("last", None), fields.pop("active", None)
        made = active and Active(**{**active, "after": tuple(active["after"])})
        return cls(**fields, last=last and (last[0], last[1]), active=made or None)


NOTHING = Copies()


class Ended(NamedTuple):
    """A copy of one table that ends with a cut."""

    request: str
    db: str
    table: str
    kind: str
    outcome: str
    """done, stopped or refused."""
    rows: int
    reason: str = ""
    """Why it was refused, in words without a value."""
    copy: str | None = None
    """The id of the attempt, as its barrier bears it; "" for one that never began. None:
    an earlier version did not say."""
