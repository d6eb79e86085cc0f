"""What `cdc status` says to people before anything else: who runs, since when, and why whoever ended did."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cdc.runtime import timing

_SILENT_TURNS = 4
_INDENT = " " * 10
Document = Mapping[str, Any]


SAID = frozenset(("running", "halves", "reset"))
"""The parts of the document that these lines say."""


def lines(document: Document) -> Iterator[str]:
    """Who runs by the document of `cdc status`, line by line: each can be folded to any width."""
    if not any(half["processes"] for half in document["halves"]):
        yield f"nothing runs of pipeline {document['pipeline']}"
    for half in document["halves"]:
        yield from _half(half)
    if document["reset"]:
        yield f"reset     begun {_shown(document['reset']['at'])} and not finished: nothing starts before it is"
        yield f"{_INDENT}hint: {document['reset']['hint']}"


def _half(half: Document) -> Iterator[str]:
    if not half["processes"]:
        yield f"{half['half']:<9} does not run{_since(half['stopped'])}"
        yield from _why(half["stopped"] or {})
    for one in half["processes"]:
        shards = f", shards {', '.join(map(str, one['shards']))}" if one["shards"] else ""
        who = f"{one['process']}, cdc {one['command']}".removeprefix(", ")
        yield f"{half['half']:<9} runs since {_shown(one['since'])} ({who}{shards}): {one['state']}"
        if (one["heard_seconds"] or 0) > _SILENT_TURNS * timing.TIMES.presence_seconds:
            yield f"{_INDENT}not heard of for {one['heard_seconds']:.0f} s: does it hang?"
        yield from _why(one["reason"] or {})
    if half["processes"] and half["unowned_shards"]:
        yield f"{_INDENT}nobody that runs has the shards {', '.join(map(str, half['unowned_shards']))}"


def _since(stopped: Document | None) -> str:
    if stopped is None:
        return ": none was ever seen here"
    if stopped["code"] == "ended_unsaid":
        return f"; last heard of {_shown(stopped['at'])}"
    return f": ended {_shown(stopped['at'])}" if stopped["at"] else ""


def _why(reason: Document) -> Iterator[str]:
    if not reason:
        return
    code = f"[{reason['code']}] " if reason["code"] else ""
    place = f"{reason['place']}: " if reason["place"] else ""
    yield f"{_INDENT}{code}{place}{reason['rule']}"
    if reason["hint"]:
        yield f"{_INDENT}hint: {reason['hint']}"


def _shown(at: str | None) -> str:
    return (at or "at an unknown time").replace("T", " ").replace("Z", " UTC")
