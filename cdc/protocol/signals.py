"""What people ask of capture while it runs, in the form of Debezium's signals; pure.

A signal is `{"id", "type", "data"}` (https://debezium.io/documentation/reference/stable/configuration/signalling.html).
What cannot be understood comes out as a reason: a bad signal never stops anything. Neither conditions nor keys are
shown: they hold values. Docs: docs/decisions/018-copy-requests.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from cdc.model.table import TableName
from cdc.protocol.copy_progress import KEYS, WHERE, WHOLE, Copies

EXECUTE, STOP, PAUSE, RESUME = "execute-snapshot", "stop-snapshot", "pause-snapshot", "resume-snapshot"
TYPES = (EXECUTE, STOP, PAUSE, RESUME)
MOST_KEYS = 100_000
Key = tuple[str, ...]


class Channel(Protocol):
    """An ordered, numbered log of requests that keeps what was read."""

    stage: str
    """Of the lag: whose silence one waits for here."""

    def resume(self, known: Copies) -> Copies:
        """How far requests are read by the numbers that this log gives now:
        it may have been made anew since `known` was said."""

    def seek(self, number: int) -> None:
        """Read from this number on, or from the first one that is held."""

    def take(self) -> Sequence[tuple[int, bytes | None, bytes]]:
        """The numbers, keys and values of what has come since; does not wait."""

    def close(self) -> None:
        """Give up the connection."""


@dataclass(frozen=True, slots=True)
class CopyJob:
    """One table to copy."""

    number: int
    """Of its request; -1: nobody asked, the table was added to the selection."""
    request: str
    db: str
    table: str
    kind: str = WHOLE
    where: str = field(default="", repr=False)
    keys: tuple[Key, ...] = field(default=(), repr=False)
    swap: bool = False

    @property
    def name(self) -> TableName:
        return self.db, self.table


@dataclass(frozen=True, slots=True)
class Signal:
    """One understood signal."""

    number: int
    type: str
    id: str
    tables: tuple[TableName, ...]
    """The followed tables that it names, by name; all of them where a stop names none."""
    data: Mapping[str, Any] = field(repr=False)

    def jobs(self) -> list[CopyJob]:
        """What an execute-snapshot asks for, table by table."""
        keys = tuple(tuple(key) for key in self.data.get("keys", ()))
        conditions = {one["data-collection"]: one["filter"] for one in self.data.get("additional-conditions") or ()}
        found = []
        for db, table in self.tables:
            where = next((text for pattern, text in conditions.items() if matches(pattern, (db, table))), "")
            kind = KEYS if keys else WHERE if where else WHOLE
            found.append(
                CopyJob(
                    self.number, self.id, db, table, kind, where, keys, bool(self.data.get("swap")) and kind == WHOLE
                )
            )
        return found


class BadSignal(Exception):
    """A signal is not obeyed; `reason` is a closed word, `type` what it said it is where that is known."""

    def __init__(self, reason: str, type_: str = "other", id_: str = "") -> None:
        super().__init__(reason)
        self.reason, self.type, self.id = reason, type_, id_


def matches(pattern: str, name: TableName) -> bool:
    """Whether a collection is meant: its whole name, or a regular expression of it, as Debezium has it."""
    text = ".".join(name)
    if pattern == text:
        return True
    try:
        return re.fullmatch(pattern, text) is not None
    except (re.error, OverflowError, RecursionError):
        return False


def understood(number: int, key: bytes | None, value: bytes, prefix: str, followed: Sequence[TableName]) -> Signal:
    """The signal that a record holds; BadSignal where there is none for us."""
    if key is None or key.decode("utf-8", "replace") != prefix:
        raise BadSignal("foreign_key")
    document = _object(value, "not_json")
    kind = document.get("type")
    if kind not in TYPES:
        raise BadSignal("type_unknown")
    id_ = str(document.get("id") or number)[:100]
    if "\0" in id_:
        raise BadSignal("id_malformed", kind)
    try:
        data = _data(document.get("data"))
        tables = _tables(kind, data, followed)
        if kind == EXECUTE:
            _check_execute(data, tables)
    except BadSignal as bad:
        raise BadSignal(bad.reason, kind, id_) from None
    return Signal(number, kind, id_, tables, data)


def _object(value: bytes | str, reason: str) -> dict[str, Any]:
    try:
        document = json.loads(value)
        json.dumps(document, ensure_ascii=False).encode()  # half a character is none that a server takes
    except (ValueError, RecursionError):
        raise BadSignal(reason) from None
    if not isinstance(document, dict):
        raise BadSignal(reason)
    return document


def _data(data: Any) -> dict[str, Any]:
    """The parameters: an object, or the text of one, as in Debezium's table; none for none."""
    if data is None or data == "":
        return {}
    return _object(data, "data_malformed") if isinstance(data, str) else _object(json.dumps(data), "data_malformed")


def _tables(kind: str, data: Mapping[str, Any], followed: Sequence[TableName]) -> tuple[TableName, ...]:
    patterns = data.get("data-collections")
    if patterns is None and kind != EXECUTE:
        return tuple(sorted(followed))
    if not isinstance(patterns, list) or not patterns or not all(isinstance(one, str) for one in patterns):
        raise BadSignal("collections_missing")
    found = tuple(sorted(name for name in followed if any(matches(one, name) for one in patterns)))
    if not found:
        raise BadSignal("not_followed")
    return found


def _check_execute(data: Mapping[str, Any], tables: tuple[TableName, ...]) -> None:
    if str(data.get("type") or "INCREMENTAL").upper() != "INCREMENTAL":
        raise BadSignal("not_incremental")
    if data.get("surrogate-key"):
        raise BadSignal("surrogate_key")
    conditions = data.get("additional-conditions") or []
    if not isinstance(conditions, list) or not all(_is_condition(one) for one in conditions):
        raise BadSignal("conditions_malformed")
    keys = data.get("keys", [])
    if not isinstance(keys, list) or not all(
        isinstance(key, list) and key and all(isinstance(x, str) for x in key) for key in keys
    ):
        raise BadSignal("keys_malformed")
    if keys and (len(tables) != 1 or conditions or len(keys) > MOST_KEYS):
        raise BadSignal("keys_malformed")


def _is_condition(one: Any) -> bool:
    return isinstance(one, dict) and all(
        isinstance(one.get(name), str) and one[name] for name in ("data-collection", "filter")
    )


def execute(id_: str, table: str, *, where: str = "", keys: Sequence[Key] = (), swap: bool = False) -> dict[str, Any]:
    """The signal by which `cdc copy` asks for one table, whose name is taken as it is."""
    data: dict[str, Any] = {"data-collections": [table], "type": "INCREMENTAL"}
    if where:
        data["additional-conditions"] = [{"data-collection": table, "filter": where}]
    if keys:
        data["keys"] = [list(key) for key in keys]
    if swap:
        data["swap"] = True
    return {"id": id_, "type": EXECUTE, "data": data}


def stop(id_: str, table: str) -> dict[str, Any]:
    """The signal by which `cdc copy --stop` takes back what was asked for one table."""
    return {"id": id_, "type": STOP, "data": {"data-collections": [table], "type": "INCREMENTAL"}}
