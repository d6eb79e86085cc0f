"""Log lines for machines and people: one JSON object per line on stderr (a coloured line on a terminal), no row value
ever.

An event's name is its reason code, a closed lower-case word; what else it says are facts that name things: table,
column, key hash, position, count. Values that could hold a row (bytes, arbitrary objects, messages of exceptions,
messages of libraries) are cut down to their type before a line is rendered.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import structlog

from cdc.errors import CdcError

OURS = ("cdc", "snapshot", "sinks")
_ROOT = Path(__file__).resolve().parent.parent
_DEPTH = 4


def configure(stream: TextIO | None = None, level: int = logging.INFO, *, terminal: bool | None = None) -> None:
    """Send every line, those of libraries included, to the stream (default: whatever stderr is by then).

    `terminal`: lines for people, else JSON; None: as the stream is one.
    """
    isatty = (stream or sys.stderr).isatty()
    plain = isatty if terminal is None else terminal
    structlog.configure(
        processors=[*_processors(plain), _plainly(isatty) if plain else structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # looked up for each line: while a bar is shown, what goes to stderr is written above it
        logger_factory=lambda *_: structlog.WriteLogger(stream or sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.captureWarnings(True)
    logging.basicConfig(level=logging.WARNING, handlers=[_Library()], force=True)
    threading.excepthook = _thread_died
    sys.unraisablehook = _unraisable


def logger(component: str) -> Any:
    """A logger whose lines name the component: `logger("capture").info("started", epoch=7)`."""
    return structlog.get_logger(component=component)


def failure(log: Any, error: BaseException, level: str = "error") -> None:
    """One line for an error: an error of ours with place, rule and hint;
    any other by type and place in our code alone."""
    facts = described(error)
    getattr(log, level)(facts.pop("code"), **facts)


class about:
    """A defect within the block is told with the name of what it was about, a table as people call it; the innermost
    one counts."""

    __slots__ = ("_parts",)

    def __init__(self, *parts: str) -> None:
        self._parts = parts

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            error.__dict__.setdefault("about", ".".join(self._parts))


def described(error: BaseException) -> dict[str, str]:
    """The four fields of an error's document. The message of a foreign exception may hold a row's values:
    it is left out. What the exception was `about` is said."""
    if isinstance(error, CdcError):
        return {"code": error.code, "place": error.place, "rule": error.rule, "hint": error.hint}
    return {
        "code": "internal",
        "place": ", ".join(filter(None, (error.__dict__.get("about", ""), place(error.__traceback__)))),
        "rule": type(error).__qualname__,
        "hint": "this is a defect: report it",
    }


def place(trace: TracebackType | None) -> str:
    """The innermost line of our own code, as module:line function; never the text of the line."""
    frames = [frame for frame in traceback.extract_tb(trace) if _module(frame.filename)]
    return f"{_module(frames[-1].filename)}:{frames[-1].lineno} {frames[-1].name}" if frames else "unknown"


def _module(filename: str) -> str:
    """Path below the project's root when the file is ours, else nothing."""
    path = Path(filename)
    if not path.is_relative_to(_ROOT):
        return ""
    inner = path.relative_to(_ROOT)
    return str(inner) if inner.parts[0] in OURS else ""


def _processors(plain: bool) -> list[Any]:
    times = structlog.processors.TimeStamper(fmt="%m-%dT%H:%M:%SZ" if plain else "iso", utc=True)
    return [structlog.processors.add_log_level, times, _discreet, *((_rounded,) if plain else ())]


def _plainly(colours: bool) -> Any:
    """A line for people, without blanks that fill columns."""
    return structlog.dev.ConsoleRenderer(0, colors=colours, pad_level=False)


def _rounded(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Figures with as many digits as a person reads."""
    return {
        name: round(value, 1 if abs(value) >= 1 else 3) if isinstance(value, float) else value
        for name, value in event.items()
    }


def _discreet(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Whatever is not plainly a name or a number goes by its type."""
    return {name: _plain(value) for name, value in event.items() if name not in ("exc_info", "stack_info")}


def _plain(value: Any, depth: int = _DEPTH) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, BaseException):
        return described(value)
    if isinstance(value, Mapping) and depth:
        return {str(name): _plain(inner, depth - 1) for name, inner in value.items()}
    if isinstance(value, list | tuple) and depth:
        return [_plain(inner, depth - 1) for inner in value]
    return f"<{type(value).__qualname__}>"


class _Library(logging.Handler):
    """A library's line, without its message: drivers and parsers quote statements, and statements hold values."""

    def emit(self, record: logging.LogRecord) -> None:
        where = f"{record.module}:{record.lineno} {record.funcName}"
        log = logger("library")
        facts = {"logger": record.name, "place": where}
        if record.exc_info and record.exc_info[0]:
            facts["rule"] = record.exc_info[0].__qualname__
        log.log(min(max(record.levelno, logging.DEBUG), logging.CRITICAL) // 10 * 10, "library", **facts)


def _thread_died(died: threading.ExceptHookArgs) -> None:
    if died.exc_value is not None:
        failure(logger("thread"), died.exc_value)


def _unraisable(what: Any) -> None:
    if what.exc_value is not None:
        failure(logger("cleanup"), what.exc_value, "warning")
