"""What becomes of values that PostgreSQL, or the wire, cannot hold as they are: the named policies of one column, and
of a pipeline.

A policy is *lossy* when the target cannot tell afterwards what the source held. No key takes a lossy one: where a key's
value would have to be changed, the process stops, whatever is configured. Every other value that is changed is counted,
by table, column and reason. docs/decisions/009-policies.md says why each acts where it does.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Policy:
    """What holds for one column; the defaults change nothing that PostgreSQL can hold."""

    zero_date: str = "null"
    sentinel_date: str = "0001-01-01"
    invalid_text: str = "error"
    nul_text: str = "strip"
    json: str = "json"
    refused_json: str = "error"
    timestamp: str = "timestamptz"
    timestamp_zone: str = "UTC"
    tinyint1: str = "smallint"
    bigint_unsigned: str = "numeric"
    over_wide: str = "error"


DEFAULT = Policy()
UNSAID = replace(DEFAULT, nul_text="error")
"""What is meant where nothing is said of rows that are in a target or of a schema on the wire: the first version's
defaults, whatever the defaults are now."""
LOSSY: Mapping[str, frozenset[str]] = {
    "zero_date": frozenset({"null", "sentinel"}),
    "invalid_text": frozenset({"replace"}),
    "nul_text": frozenset({"strip", "replace"}),
    "refused_json": frozenset({"null", "string"}),
    "over_wide": frozenset({"null", "clamp"}),
}
"""Policies that give values up, by key."""
AT_CAPTURE = ("zero_date", "sentinel_date", "invalid_text")
"""Keys that act before the wire, which cannot hold such values; they travel in the schema of the records."""
NUL_SIGN = "␀"
REPLACEMENT = "�"
PARAMETER = "cdc.policy."
"""Prefix of the schema parameters that name the policies that capture used, where they are not the defaults."""

Chosen = Mapping[str, str]
"""The keys of a policy that matter to a column and differ from `UNSAID`."""


def chosen(policy: Policy, keys: Iterable[str]) -> dict[str, str]:
    """Of these keys, those that must be said (`UNSAID`); what hangs on another key that is not in use is left out."""
    found = {key: getattr(policy, key) for key in keys if getattr(policy, key) != getattr(UNSAID, key)}
    for key, needs, value in HANGS_ON:
        if getattr(policy, needs) != value:
            found.pop(key, None)
    if policy.tinyint1 == "smallint" and policy.bigint_unsigned == "numeric":
        found.pop("over_wide", None)
    return found


HANGS_ON = (
    ("sentinel_date", "zero_date", "sentinel"),
    ("timestamp_zone", "timestamp", "timestamp"),
    ("refused_json", "json", "jsonb"),
)
"""Keys that say nothing unless another key has this value."""


def mixed(before: Chosen, now: Chosen) -> str:
    """The first key by which rows written before and rows written now would not mean the same; empty when there is
    none.

    What stopped at such values wrote none of them, so `error` may become anything.
    """
    for key in sorted({*before, *now}):
        old, new = (found.get(key, getattr(UNSAID, key, "")) for found in (before, now))
        hangs = any(key == one and before.get(needs, getattr(UNSAID, needs)) == "error" for one, needs, _ in HANGS_ON)
        if old != new and old != "error" and not hangs:
            return key
    return ""


class Policies:
    """The policies of a pipeline: one for all columns, and what differs by pattern.

    Patterns are "database.table.column" with * and ?. All that match count, key by key: one with fewer wildcard parts
    over one with more, and of two alike the later. Columns are compared without case, as the servers do.
    """

    def __init__(self, default: Policy = DEFAULT, columns: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self.default = default
        self.entries = entries = [(pattern, dict(keys)) for pattern, keys in (columns or {}).items()]
        """What is said by pattern, in the order of the file."""
        self._entries = [
            (_expression(pattern), keys) for pattern, keys in sorted(entries, key=lambda one: -_wildcards(one[0]))
        ]

    def of(self, db: str, table: str, column: str) -> Policy:
        """The policy of one column."""
        name, changes = f"{db}.{table}.{column.lower()}", dict[str, str]()
        for expression, keys in self._entries:
            if expression.fullmatch(name):
                changes |= keys
        return replace(self.default, **changes) if changes else self.default

    def asks(self, db: str, table: str, column: str, key: str) -> bool:
        """Whether a pattern that means this column says the key, rather than the pipeline's own policy alone."""
        name = f"{db}.{table}.{column.lower()}"
        return any(key in keys and expression.fullmatch(name) for expression, keys in self._entries)

    def named(self, db: str, table: str, column: str) -> dict[str, str]:
        """The keys that are said of exactly this column, by a pattern without wildcards."""
        name, found = f"{db}.{table}.{column.lower()}", dict[str, str]()
        for expression, keys in self._entries:
            if expression.pattern == re.escape(name):
                found |= keys
        return found

    def matches(self, pattern: str, db: str, table: str, column: str) -> bool:
        """Whether a pattern means this column."""
        return _expression(pattern).fullmatch(f"{db}.{table}.{column.lower()}") is not None


def _parts(pattern: str) -> tuple[str, str, str]:
    db, _, rest = pattern.partition(".")
    table, _, column = rest.partition(".")
    return db, table, column.lower()


def _wildcards(pattern: str) -> int:
    return sum("*" in part or "?" in part for part in _parts(pattern))


@lru_cache(4096)
def _expression(pattern: str) -> re.Pattern[str]:
    return re.compile(r"\.".join(map(glob, _parts(pattern))), re.DOTALL)


def glob(part: str) -> str:
    """One part of a pattern of names as a regular expression: * is any characters, ? is one."""
    return "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in part)


# Naive times in a zone

_LAST_YEAR = 2107  # MariaDB's TIMESTAMP goes on until 2106-02-07


@lru_cache(32)
def transitions(zone: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Moments (seconds since 1970, UTC) at which a zone's offset changes, and the offsets, one more, in seconds.

    A TIMESTAMP is never before 1970; a sentinel may be, and passes with no offset at all: it stands for no moment.
    """
    info, moments, offsets = ZoneInfo(zone), [0], [0]
    day, step = datetime(1970, 1, 1, tzinfo=UTC), timedelta(days=1)
    offsets.append(_offset(info, day))
    while day.year < _LAST_YEAR:
        if _offset(info, day + step) != offsets[-1]:
            moments.append(_change(info, day, day + step, offsets[-1]))
            offsets.append(_offset(info, day + step))
        day += step
    return tuple(moments), tuple(offsets)


def _offset(info: ZoneInfo, moment: datetime) -> int:
    found = info.utcoffset(moment.astimezone(info))
    return 0 if found is None else int(found.total_seconds())


def _change(info: ZoneInfo, low: datetime, high: datetime, offset: int) -> int:
    """The first second at which the offset is another one."""
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        low, high = (middle, high) if _offset(info, middle) == offset else (low, middle)
    return int(high.timestamp())


def local(zone: str, micros: int) -> tuple[int, bool]:
    """The naive time that a moment is in a zone, both in microseconds, and whether another moment is the same naive
    time there.

    Where clocks are set back an hour comes twice, and the naive time does not say which one it was.
    """
    if zone == "UTC" or micros < 0:
        return micros, False
    moments, offsets = transitions(zone)
    at = bisect_right(moments, micros // 1_000_000)
    naive = micros + offsets[at] * 1_000_000
    twins = (
        naive - offsets[other] * 1_000_000
        for other in (at - 1, at + 1)
        if 0 < other < len(offsets) and offsets[other] != offsets[at]
    )
    return naive, any(twin >= 0 and twin != micros and _is(zone, twin, naive) for twin in twins)


def _is(zone: str, micros: int, naive: int) -> bool:
    moments, offsets = transitions(zone)
    return micros + offsets[bisect_right(moments, micros // 1_000_000)] * 1_000_000 == naive


def sentinel_micros(policy: Policy) -> int:
    """Midnight UTC of the sentinel, in microseconds since 1970."""
    return (date.fromisoformat(policy.sentinel_date).toordinal() - date(1970, 1, 1).toordinal()) * 86_400_000_000
