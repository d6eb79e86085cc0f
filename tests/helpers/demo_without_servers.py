"""`cdc demo` in a terminal, without servers: what it calls stands still or is told by hand, what it shows is its own."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

from cdc.cli.main import main
from cdc.demo import demo
from cdc.runtime import logs

TABLES = [f"opendental.a_table_with_a_name_that_is_long_{n:02}" for n in range(12)]


def snapshot(config: Any, stop: Any, progress: Any) -> dict[str, Any]:
    """Several tables at once; what the estimates say is never reached."""
    for table in TABLES:
        progress(table, 0, 123_456_789)
    for step in range(1, 5):
        for table in TABLES[:4]:
            progress(table, step * 12_345_678, 123_456_789)
        logs.logger("snapshot").info("copy_progress", step=step)
        time.sleep(0.15)  # the bars are drawn anew ten times a second
    return {"rows": 300, "tables": TABLES, "seconds": 1.5}


def reconcile(config: Any, *_: Any, told: Any) -> dict[str, Any]:
    for compared in range(1, 4):
        told(compared, 3, TABLES[0], 1000 * compared)
        time.sleep(0.15)
    return {"equal": True, "tables": TABLES, "totals": {"rows_target": 300}}


def watch(config: Any, seconds: float, stop: threading.Event, say: Any, alive: Any) -> list[float]:
    for _ in range(3):
        say("lag 0.20 s, cut 7")
        time.sleep(0.15)
    return [0.2]


if __name__ == "__main__":
    idle = SimpleNamespace(run=lambda closing: closing.wait(), report=lambda: SimpleNamespace(total=5))
    stand_ins = {
        "stack": SimpleNamespace(lent=lambda *_, **__: nullcontext(SimpleNamespace(environ={}))),
        "opendental": SimpleNamespace(Workload=lambda *_: idle),
        "_config": lambda *_: SimpleNamespace(transport=SimpleNamespace(kind="direct")),
        "_connection": lambda servers: {},
        "_practice": lambda *_: 300,
        "_streaming": lambda *_: nullcontext(lambda: None),
        "_watch": watch,
        "snapshot": snapshot,
        "reconcile": reconcile,
        "wait": lambda *_: {"reached": True, "seconds": 0.1},
        "status": lambda config: {"lag_seconds": {"total": 0.2}},
    }
    for name, stand_in in stand_ins.items():
        setattr(demo, name, stand_in)
    main(["demo"])
