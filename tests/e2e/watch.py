"""Waiting for what a pipeline is to become, and reading what it says about itself."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar

from cdc.stack import probe
from tests.helpers.documents import faults
from tests.helpers.pipelines import Pipeline, Running, said

T = TypeVar("T")
HALVES = {"direct": ("run",), "kafka": ("run",), "split": ("capture", "apply")}
"""By way of running: the commands that stream. "split" is Kafka with its two halves as processes of their own."""
_LINE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def until(condition: Callable[[], T], seconds: float = 60.0, what: str = "", *needed: Running) -> T:
    """Ask until the answer is true, and return it; fails after `seconds`, or when a process that it needs has ended."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"{what or condition} did not come true within {seconds:g} s\n{said(*needed)}"
        assert all(one.alive for one in needed), f"a process ended before {what}\n{said(*needed)}"
        time.sleep(0.05)
    return found


def listening() -> dict[str, str]:
    """A [metrics] section with a port that this test knows."""
    return {"listen": f"127.0.0.1:{probe.free_port()}"}


class Metrics:
    """What the endpoint of one process says at one moment."""

    def __init__(self, listen: str) -> None:
        with urllib.request.urlopen(f"http://{listen}/metrics", timeout=5) as answer:
            self.lines = [m.groups() for line in answer.read().decode().splitlines() if (m := _LINE.match(line))]

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples that bear these labels."""
        return sum(
            float(v) for n, labelled, v in self.lines if n == name and labels.items() <= dict(_LABEL.findall(labelled or "")).items()
        )

    def has(self, name: str) -> bool:
        return any(name == line[0] for line in self.lines)

    def states(self) -> dict[str, str]:
        """The state that each component is in."""
        found = [dict(_LABEL.findall(labelled or "")) for n, labelled, v in self.lines if n == "cdc_state" and float(v) == 1.0]
        return {labels["component"]: labels["state"] for labels in found}


def metrics(listen: str) -> Metrics | None:
    """The metrics, or None while nobody serves them."""
    try:
        return Metrics(listen)
    except (urllib.error.URLError, OSError):
        return None


def caught_up(pipeline: Pipeline, seconds: float = 90.0) -> None:
    """Everything that the source had written at the call is in the target."""
    done = pipeline.run("--json", "wait", "--timeout", str(seconds), timeout_seconds=seconds + 30)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-2000:]}\n{said(*pipeline.running)}"


def equal(pipeline: Pipeline) -> Any:
    """`cdc reconcile` finds every table equal; its document."""
    done = pipeline.run("--json", "reconcile")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    document = json.loads(done.stdout)
    assert document["equal"] is True
    assert [] == faults("reconcile", document)
    return document
