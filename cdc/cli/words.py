"""Values as a person reads them: durations rounded, large numbers parted, positions by file and offset."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

_COUNTED = frozenset(
    "rows changes records commits transactions bytes rows_loaded rows_estimated rows_per_second".split()
)
"""Names of values that may be large, and are no number of a port or a process."""


def duration(seconds: float) -> str:
    """A duration with two digits that count: 40 ms, 1.2 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return _two(whole, 60, "min", 1, "s")
    if whole < 172_800:
        return _two(whole, 3600, "h", 60, "min")
    return _two(whole, 86_400, "d", 3600, "h")


def _two(seconds: int, size: int, unit: str, part: int, lesser: str) -> str:
    rest = seconds % size // part
    return f"{seconds // size} {unit}" + (f" {rest} {lesser}" if rest else "")


def several(count: int, word: str) -> str:
    """1 row, 2 rows, 1,234 rows."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def said(name: str, value: Any) -> str:
    """The value of a document's key of this name."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return _number(name, value)
    if isinstance(value, Mapping):
        return _mapping(name, value)
    if isinstance(value, list):
        return ", ".join(said(name, one) for one in value) or "-"
    return _moment(str(value)) if name.endswith(("_at", "_ts", "_through")) else str(value)


def _number(name: str, value: float) -> str:
    if name.endswith("seconds"):
        return duration(value)
    if name in _COUNTED:
        return f"{value:,.0f}"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _mapping(name: str, value: Mapping[str, Any]) -> str:
    """What is in it behind its name; a part has the unit of the whole, and what is unknown is left out."""
    if {"file", "offset"} <= set(value):
        return f"{value['file']}:{value['offset']}" if value["file"] else str(value.get("gtids", "-"))
    inner = "" if not name.endswith("seconds") else " seconds"
    parts = [f"{key} {said(key + inner, one)}" for key, one in value.items() if one not in (None, "")]
    return "  ".join(parts) or "-"


def _moment(text: str) -> str:
    """An RFC 3339 moment to the second; any other text as it is."""
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%SZ")
    except ValueError:
        return text
