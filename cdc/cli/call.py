"""What every command does around the one function that it calls:
read the configuration, take signals, choose the exit code."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from cdc.cli.output import Outcome, Output
from cdc.config.load import Config, load
from cdc.runtime import logs
from cdc.runtime.shutdown import Shutdown

VALUED = ("--config", "--log-level", "--log-format")
"""Options with a value that are understood before and after the command."""
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("plain", "json")
DIFFERENCES = 3
"""Exit code of a command that worked and found differences or errors."""


@dataclass(slots=True)
class Call:
    """What holds for the whole call, whichever command it is."""

    as_json: bool = False
    version: bool = False
    path: Path = Path("pipeline.toml")
    log_level: str = "info"
    log_format: str = ""
    """plain or json; "": plain on a terminal, json elsewhere."""
    stop: Shutdown = field(default_factory=Shutdown)
    output: Output = field(init=False)

    def take(self, option: str, value: str) -> bool:
        """Keep the value of an option that is understood before and after the command; whether it can be one."""
        if option == "--config":
            self.path = Path(value)
        elif option == "--log-level" and value in LOG_LEVELS:
            self.log_level = value
        elif option == "--log-format" and value in LOG_FORMATS:
            self.log_format = value
        else:
            return False
        return bool(value)

    def log(self) -> None:
        """Have log lines look as was asked."""
        terminal = self.log_format == "plain" if self.log_format else None
        logs.configure(level=getattr(logging, self.log_level.upper()), terminal=terminal)

    def config(self) -> Config:
        """The pipeline's file, read and checked."""
        return load(self.path)


def call_of(ctx: typer.Context) -> Call:
    """The call that this command belongs to."""
    call = ctx.obj
    assert isinstance(call, Call)
    return call


def patterns_of(tables: list[str] | None) -> tuple[str, ...]:
    """Patterns of tables, each given by itself or several parted by commas."""
    return tuple(name.strip() for group in tables or () for name in group.split(",") if name.strip())


def streaming(ctx: typer.Context) -> tuple[Config, threading.Event]:
    """For work that goes on until it is asked to stop: the configuration, and what is set then.

    From here on the process ends soon after a signal, whatever its threads wait for.
    """
    call = call_of(ctx)
    config = call.config()
    call.stop.forces_an_end()
    return config, call.stop.event


def asking(ctx: typer.Context) -> Config:
    """For a question, which a signal breaks off: the configuration."""
    call = call_of(ctx)
    config = call.config()
    call.stop.breaks_off()
    return config


def judged(kind: str, document: dict[str, Any], everything: bool = False) -> Outcome:
    """The outcome of a command whose document decides the exit code; `everything`: people are shown all of it."""
    verdict = _VERDICTS.get(kind)
    return Outcome(kind, document, verdict(document) if verdict else 0, everything)


def _reconciled(found: dict[str, Any]) -> int:
    if found["outcome"] == "different":
        return DIFFERENCES
    return 1 if found["ended"] else 0 if found["equal"] else DIFFERENCES


_VERDICTS: dict[str, Callable[[dict[str, Any]], int]] = {
    "copy": lambda found: 0 if found["outcome"] in ("done", "asked") else 1,
    "copy_stop": lambda found: 0 if found["outcome"] in ("stopped", "asked") else 1,
    "status": lambda found: 0 if found["source"]["flavour"] else 1,
    "wait": lambda found: 0 if found["reached"] else 1,
    "quarantine_replay": lambda found: 0 if found["complete"] else 1,
    "doctor": lambda found: DIFFERENCES if found["errors"] else 0,
    "reconcile": _reconciled,
    "demo": lambda found: 0 if found["equal"] else DIFFERENCES,
}
