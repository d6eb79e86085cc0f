"""Which halves of a pipeline run, since when, and why those stopped that do not; pure, from what the target knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cdc.state.processes import ABANDONED, APPLY, CAPTURE, GOES_ON, RUN, SNAPSHOT, PipelineProcess

_MAKES = {
    CAPTURE: (RUN, CAPTURE),
    APPLY: (RUN, APPLY),
    SNAPSHOT: (RUN, SNAPSHOT),
}
"""By half, the commands that are it."""
_UNSAID = {
    "code": "ended_unsaid",
    "place": "",
    "rule": "it ended without a word: it was killed, or the target was away when it ended",
    "hint": "its log may say more; start it again",
}


def halves(
    processes: Sequence[PipelineProcess], loading: bool, owners: Mapping[int, str], *, here: bool
) -> list[dict[str, Any]]:
    """Each half: whether it runs, the processes that are it, and else how its last one ended.

    `processes`: the newest first. `loading`: the first copy was begun and is not complete. `owners`: of the shards, who
    has each. `here`: whether the target takes the first copy straight from the source.
    """
    copies = any(one.runs and one.command == SNAPSHOT for one in processes)
    names = [CAPTURE, APPLY, *([SNAPSHOT] if (loading and here) or copies else [])]
    found = [_half(name, processes, owners if name == APPLY else {}) for name in names]
    for half in found:
        if half["half"] == SNAPSHOT and not half["runs"] and half["stopped"] is None:
            half["stopped"] = {"at": None, "process": "", "command": SNAPSHOT, "code": ABANDONED[0],
                               "place": "", "rule": ABANDONED[1], "hint": GOES_ON}  # fmt: skip
    return found


def all_run(found: Sequence[Mapping[str, Any]]) -> bool:
    """Whether nothing is missing: each half runs, or was never started while the first copy is made."""
    copied = any(half["half"] == SNAPSHOT and half["runs"] for half in found)
    return all(half["runs"] or (copied and half["stopped"] is None) for half in found)


def _half(name: str, processes: Sequence[PipelineProcess], owners: Mapping[int, str]) -> dict[str, Any]:
    mine = [one for one in processes if one.command in _MAKES[name]]
    live = [_running(one, name, owners) for one in mine if one.runs]
    unowned = sorted(set(owners) - {shard for one in live for shard in one["shards"]})
    last = next((_ended(one) for one in mine if not one.runs), None)
    return {
        "half": name,
        "runs": bool(live) and not unowned,
        "processes": live,
        "unowned_shards": unowned,
        "stopped": None if live else last,
    }


def _running(one: PipelineProcess, half: str, owners: Mapping[int, str]) -> dict[str, Any]:
    doing = one.doing.get(half) or {}
    return {
        "process": one.owner,
        "command": one.command,
        "since": _text(one.started_at),
        "heard_seconds": None if one.heard_seconds is None else max(0.0, one.heard_seconds),
        "state": doing.get("state") or "starting",
        "reason": doing.get("reason"),
        "shards": sorted(shard for shard, owner in owners.items() if owner == one.owner),
    }


def _ended(one: PipelineProcess) -> dict[str, Any]:
    at = one.ended_at if one.ended is not None else one.heard_at
    return {"at": _text(at), "process": one.owner, "command": one.command, **(one.ended or _UNSAID)}


def _text(at: datetime | None) -> str | None:
    return None if at is None else at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
