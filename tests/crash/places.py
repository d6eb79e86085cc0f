"""Whether a stored position is at or behind another one, by code that shares nothing with the product's."""

from __future__ import annotations

import re
from typing import Any


def advanced(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Whether `after` holds everything that `before` holds."""
    if before.get("server") == after.get("server") and before.get("file") and after.get("file") and file_of(after) < file_of(before):
        return False
    have, want = _gtids(after), _gtids(before)
    return all(
        any(low <= first and last <= high for low, high in have.get(source, ()))
        for source, ranges in want.items()
        for first, last in ranges
    )


def file_of(position: dict[str, Any]) -> tuple[int, int]:
    """The number of the log's file, and the offset within it."""
    number = re.search(r"\.(\d+)$", position.get("file") or "")
    return (int(number.group(1)) if number else 0, int(position.get("offset") or 0))


def _gtids(position: dict[str, Any]) -> dict[str, list[tuple[int, int]]]:
    """MariaDB's `domain-server-number` as the range up to that number of the domain; MySQL's `uuid:1-5:7` as it is."""
    found: dict[str, list[tuple[int, int]]] = {}
    for item in filter(None, re.sub(r"\s", "", position.get("gtids") or "").split(",")):
        if position["flavour"] == "mariadb":
            domain, _, number = item.split("-")
            found.setdefault(domain, []).append((1, int(number)))
            continue
        source, *ranges = item.split(":")
        for text in ranges:
            if not text[0].isdigit():
                source = f"{source}:{text}"
                continue
            first, _, last = text.partition("-")
            found.setdefault(source, []).append((int(first), int(last or first)))
    return found
