"""What `cdc status` makes of what the target knows about processes, and the lines for people."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from cdc.cli.status_text import lines
from cdc.monitoring.halves import all_run, halves
from cdc.state.processes import PipelineProcess

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
WHY = {"code": "log_purged", "place": "h:1", "rule": "files are gone", "hint": "cdc reset --all, and start again"}
RUN = PipelineProcess(1, "run", "h:1", AT, AT, {"apply": {"state": "streaming", "reason": None}}, runs=True, heard_seconds=0.1)
CAPTURE, APPLY, SNAPSHOT = (replace(RUN, number=n, command=name) for n, name in enumerate(("capture", "apply", "snapshot"), 2))


def gone(one: PipelineProcess, ended: Any = None) -> PipelineProcess:
    """The same when it has ended."""
    return replace(one, runs=False, ended=ended, ended_at=AT if ended else None)


def found(*processes: PipelineProcess, loading: bool = False, owners: Any = None, here: bool = True) -> list[dict[str, Any]]:
    return halves(processes, loading, owners or {}, here=here)


def runs(*processes: PipelineProcess, **more: Any) -> tuple[dict[str, bool], bool]:
    listed = found(*processes, **more)
    return {half["half"]: half["runs"] for half in listed}, all_run(listed)


def said(*processes: PipelineProcess, **more: Any) -> str:
    return "\n".join(lines({"pipeline": "od", "halves": found(*processes, **more), "reset": None}))


def test_which_halves_run_and_whether_that_is_all():
    both, none = {"capture": True, "apply": True}, {"capture": False, "apply": False}
    assert (none, False) == runs()
    assert (both, True) == runs(RUN) == runs(CAPTURE, APPLY)
    assert (both, True) == runs(gone(replace(RUN, number=9), WHY), RUN), "a second one that was refused does not hide the first"
    assert ({"capture": True, "apply": False}, False) == runs(CAPTURE)
    assert (none, False) == runs(gone(RUN)), "a row alone proves nothing"


def test_a_first_copy_is_a_half_of_its_own_for_as_long_as_it_is_made():
    assert ({"capture": True, "apply": True, "snapshot": True}, True) == runs(RUN, loading=True)
    copying = {"capture": False, "apply": False, "snapshot": True}
    assert (copying, True) == runs(SNAPSHOT, loading=True), "the halves were never started: they need not run yet"
    assert (copying, False) == runs(SNAPSHOT, gone(CAPTURE, WHY), loading=True)
    assert ({"capture": True, "apply": True}, True) == runs(CAPTURE, APPLY, loading=True, here=False), "through the topics capture makes it"
    left = found(CAPTURE, APPLY, loading=True)[2]
    assert (False, "copy_abandoned") == (left["runs"], left["stopped"]["code"])
    assert "log_purged" == found(CAPTURE, gone(SNAPSHOT, WHY), loading=True)[2]["stopped"]["code"], "its own reason comes first"
    assert not all_run(found(CAPTURE, APPLY, loading=True))


def test_why_one_ended_and_when_it_was_last_heard_of():
    newest = found(gone(RUN, WHY), gone(replace(RUN, number=9)))[0]["stopped"]
    assert ("log_purged", "2026-01-02T03:04:05Z", "h:1") == (newest["code"], newest["at"], newest["process"])
    assert "ended_unsaid" == found(gone(RUN))[0]["stopped"]["code"]
    assert None is found()[0]["stopped"]


def test_every_shard_has_a_member_that_runs_or_it_is_said():
    owners = {0: "h:1", 1: "h:7"}
    apply = found(CAPTURE, APPLY, owners=owners)[1]
    assert ([0], [1], False) == (apply["processes"][0]["shards"], apply["unowned_shards"], apply["runs"])
    assert found(CAPTURE, APPLY, replace(APPLY, number=9, owner="h:7"), owners=owners)[1]["runs"]
    assert "nobody that runs has the shards 1" in said(CAPTURE, APPLY, owners=owners)


def test_the_lines_say_first_that_nothing_runs_and_why():
    text = said(gone(RUN, WHY)).splitlines()
    assert "nothing runs of pipeline od" == text[0]
    assert "capture   does not run: ended 2026-01-02 03:04:05 UTC" == text[1]
    assert ["[log_purged] h:1: files are gone", "hint: cdc reset --all, and start again"] == [line.strip() for line in text[2:4]]
    assert "last heard of 2026-01-02 03:04:05 UTC" in said(gone(RUN))


def test_the_lines_of_what_runs_say_since_when_what_it_does_and_whether_it_hangs():
    assert "apply     runs since 2026-01-02 03:04:05 UTC (h:1, cdc run): streaming" in said(RUN)
    away = replace(RUN, doing={"capture": {"state": "degraded", "reason": {**WHY, "code": "source_lost"}}}, heard_seconds=75.0)
    assert "(h:1, cdc run): degraded\n          not heard of for 75 s: does it hang?\n          [source_lost] h:1" in said(away)
    unsaid = replace(RUN, owner="", doing={})
    assert "runs since 2026-01-02 03:04:05 UTC (cdc run): starting" in said(unsaid)


def test_a_reset_that_is_not_finished_is_said():
    document = {
        "pipeline": "od",
        "halves": found(RUN),
        "reset": {"at": "2026-01-02T03:04:05Z", "tables": [], "hint": "cdc reset --all finishes it"},
    }
    assert "not finished" in (text := "\n".join(lines(document)))
    assert "hint: cdc reset --all finishes it" in text
