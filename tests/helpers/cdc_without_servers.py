"""The `cdc` command over an application without servers: what it answers is chosen by the environment.

It stands in for the modules of the commands to show what the command line makes of each answer; the real one is tested with real servers.
"""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

from cdc.errors import Halt, Refused, Retry
from cdc.runtime import logs

SECRET = "row-value-4711"


def stream(config: Any, stop: Any, progress: Any = None) -> dict[str, Any]:
    """Until stopped; noisy in every way that libraries and children are."""
    print("a library prints")
    subprocess.run(["echo", "a child prints"], check=True)
    logging.getLogger("driver").error("a library logs %s", SECRET)
    warnings.warn(f"a library warns {SECRET}", stacklevel=1)
    logs.logger("app").info("started", value=SECRET.encode(), error=ValueError(SECRET))
    if progress is not None:
        progress("a.b", 1, 2)
    while not stop.wait(0.2) or os.environ.get("CDC_TEST") == "stuck":
        pass
    return {"pipeline": config.pipeline.name}


def run(config: Any, stop: Any, bars: Any) -> dict[str, Any]:
    with bars() as progress:
        return stream(config, stop, progress)


def reconciled(config: Any, *words: Any, **named: Any) -> dict[str, Any]:
    """As far as the command line looks into it."""
    return {**answer(config), "outcome": "", "ended": None}


def answer(config: Any, *_: Any, **__: Any) -> dict[str, Any]:
    kind = os.environ.get("CDC_TEST", "")
    if kind == "defect":
        raise KeyError(SECRET)
    if kind == "slow":
        logs.logger("app").info("started")
        stop_never()
    if kind in ERRORS:
        raise ERRORS[kind]
    well = kind == "yes"
    source = {"flavour": None if kind == "away" else "mariadb"}
    return {
        "reached": well,
        "equal": well,
        "errors": int(not well),
        "running": kind != "no",
        "source": source,
        "pipeline": config.pipeline.name,
    }


def stop_never() -> None:
    import time

    time.sleep(60)  # interrupted by the signal that the test sends


ERRORS = {
    "refused": Refused("source_auth", "127.0.0.1:3306", "the password is wrong", "mend it"),
    "halt": Halt("row_image", "bin.000001:4", "the image is not full"),
    "retry": Retry("source_unreachable", "127.0.0.1:3306", "nobody listens"),
}

ANSWERS: dict[str, dict[str, Callable[..., Any]]] = {
    "cdc.commands.run": {"run": run},
    "cdc.commands.capture": {"capture": stream},
    "cdc.commands.apply": {"apply": stream},
    "cdc.commands.snapshot": {"snapshot": stream},
    "cdc.commands.doctor": {"doctor": answer},
    "cdc.commands.reconcile": {"reconcile": reconciled},
    "cdc.monitoring.status": {"status": answer},
    "cdc.monitoring.wait": {"wait": answer},
}
"""Module by module, what a command calls."""

if __name__ == "__main__":
    for name, functions in ANSWERS.items():
        module = types.ModuleType(name)
        for function, stand_in in functions.items():
            setattr(module, function, stand_in)
        sys.modules[name] = module
        package, _, last = name.rpartition(".")
        setattr(importlib.import_module(package), last, module)
    from cdc.cli.main import main

    main()
