"""Runs the tests of one module on mutants of it: `python -m tests.mutation.worker sinks/cuts.py 0/2` does every second one.

Tests are collected once. For each mutant the process is forked, the function's code is replaced in the fork, and only the tests that
run the changed lines are run, until one fails. A mutant of what is run at import is imported instead, in a fork that has imported nothing
of ours yet. Prints one JSON document a line: how the unchanged module did, then each mutant with what became of it.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import json
import os
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

import pytest

from tests.mutation.operators import Mutant, mutants
from tests.mutation.plan import ROOT, Module, plan

SERVERS = {"mariadb", "mariadb114", "mysql", "postgres", "kafka"}
LOADED = ("hypothesis", "fastavro", "pymysql", "psycopg", "confluent_kafka", "pydantic", "prometheus_client", "sqlglot", "structlog",
          "tenacity", "numpy", "starlette", "jsonschema", "yaml")  # fmt: skip
OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=no", "--assert=plain", "--no-header", "-o", "timeout=0", "--durations=0")
LEAST_SECONDS, PATIENCE = 3.0, 10.0
MEMORY = 3 << 30
IMPORTED_SECONDS = 60.0
KILLED, TIMEOUT, SURVIVED, UNSEEN, BROKEN = "killed", "timeout", "survived", "unseen", "broken"
"""What becomes of a mutant; unseen: no test runs its lines. (Broken: the unchanged module fails its tests.)"""
AGAIN = "again"
"""To be imported instead."""
INVALID = "invalid"
"""No program: a change of an expression that only stands where it does, as `yield`."""


def main() -> int:
    """Does the part of a module's mutants that the command line names."""
    module = plan()[sys.argv[1]]
    part, parts = map(int, sys.argv[2].split("/"))
    source = module.path.read_bytes()
    chosen = mutants(source, module.only)[part::parts]
    out = os.fdopen(os.dup(1), "w", buffering=1)
    with tempfile.TemporaryDirectory(prefix="cdc-mutants-") as folder:
        os.environ["CDC_TEST_RUN"] = folder  # no server is started, and none is lent
        _prepare()
        for line in _outcomes(module, source, chosen):
            out.write(json.dumps(line) + "\n")
    return 0


def _prepare() -> None:
    for name in LOADED:
        with suppress(ImportError):
            importlib.import_module(name)
    hypothesis = importlib.import_module("hypothesis")
    hypothesis.settings.register_profile("mutants", derandomize=True, database=None, deadline=None)
    hypothesis.settings.load_profile("mutants")


def _outcomes(module: Module, source: bytes, chosen: list[Mutant]) -> Iterator[dict[str, Any]]:
    """What becomes of each; of a module whose tests fail unchanged that only."""
    if not module.tests:
        yield from (_said(one, UNSEEN) for one in chosen)
        return
    inside = {one: number for number, one in enumerate(chosen) if one.function}
    left = [number for number, one in enumerate(chosen) if not one.function]
    for line in _forked(lambda tell: _collected(module, source, inside, tell)):
        if line["outcome"] == AGAIN:
            left.append(line["number"])
        else:
            yield line
            if line["outcome"] == BROKEN:
                return
    for one in (chosen[number] for number in sorted(left) if _code(module.path, chosen[number].applied(source)) is not None):
        code = _ended(lambda one=one: _imported(module, one.applied(source)), IMPORTED_SECONDS)  # type: ignore[misc]
        yield _said(one, TIMEOUT if code is None else KILLED if code else SURVIVED)


def _said(one: Mutant, outcome: str, by: str = "") -> dict[str, Any]:
    return {"function": one.function, "line": one.line, "before": one.before, "after": one.after, "outcome": outcome, "by": by}


# Processes


def _silent() -> None:
    """Nothing that a run of tests prints is wanted."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)


def _forked(work: Callable[[Callable[[dict[str, Any]], None]], None]) -> Iterator[dict[str, Any]]:
    """What work tells, in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(reading)
            if not os.environ.get("CDC_MUTANTS_LOUD"):
                _silent()
            with os.fdopen(writing, "w", buffering=1) as pipe:
                work(lambda line: print(json.dumps(line), file=pipe))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        yield from map(json.loads, pipe)
    os.waitpid(child, 0)


def _ended(work: Callable[[], int], seconds: float) -> int | None:
    """What work gives, in a process of its own that prints nothing; None: it took longer than so many seconds."""
    child = os.fork()
    if not child:
        code = 255
        try:
            _silent()
            resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            code = work()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None if os.WTERMSIG(status) == signal.SIGALRM else 255
    return os.WEXITSTATUS(status)


# Tests that are collected once


class Fast:
    """Leaves out the tests that need a server or that are long."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if _is_fast(item)]


def _is_fast(item: pytest.Item) -> bool:
    names = set(getattr(item, "fixturenames", ()))
    params = getattr(getattr(item, "callspec", None), "params", {})
    wants = names & {*SERVERS, *(f"{kind}_server" for kind in SERVERS), "source", "every_source", "private", "own"}
    if "transport" in params and params["transport"] in SERVERS:
        wants.add("transport")
    return not wants and not any(item.get_closest_marker(name) for name in ("slow", "soak"))


class Lines:
    """Which lines of one file are run."""

    def __init__(self, path: Path) -> None:
        self._path, self._mine, self.run = str(path), dict[CodeType, bool](), set[int]()

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        """To be given to `sys.settrace`."""
        code = frame.f_code
        mine = self._mine.get(code)
        if mine is None:
            mine = self._mine[code] = code.co_filename.endswith(self._path)
        if not mine:
            return None
        self.run.add(frame.f_lineno)
        return self

    def start(self) -> None:
        sys.settrace(self)
        threading.settrace(self)


@dataclass
class Judged(Fast):
    """A run of pytest that does the mutants instead of the tests."""

    module: Module
    source: bytes
    chosen: Mapping[Mutant, int]
    tell: Callable[[dict[str, Any]], None]
    lines: Lines
    seconds: dict[str, float] = field(default_factory=dict)
    seen: dict[str, set[int]] = field(default_factory=dict)
    killers: dict[str, str] = field(default_factory=dict)
    """By function: the test that killed the last mutant of it."""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        at_import = set(self.lines.run)
        sys.settrace(None)
        threading.settrace(None)
        for line in _forked(lambda tell: self._unchanged(session, tell)):
            if line["failed"]:
                self.tell({"outcome": BROKEN, "test": line["test"]})
                return True
            self.seconds[line["test"]], self.seen[line["test"]] = line["seconds"], set(line["lines"])
        if len(self.seen) < len(session.items) or not session.items:
            self.tell({"outcome": BROKEN, "test": "no test, or one that ended the process"})
            return True
        for one, number in self.chosen.items():
            items = self._that_run(session, one)
            again = not items and at_import & set(range(one.line, one.upto + 1))
            outcome, by = (AGAIN, "") if again else self._judge(session, one, items) if items else (UNSEEN, "")
            self.tell({**_said(one, outcome, by), "number": number})
        return True

    def _unchanged(self, session: pytest.Session, tell: Callable[[dict[str, Any]], None]) -> None:
        self.lines.start()
        for at, item in enumerate(session.items):
            self.lines.run, began = set(), time.monotonic()
            _run(session, [item, *session.items[at + 1 : at + 2]], 1)
            passed = time.monotonic() - began
            tell({"test": item.nodeid, "seconds": passed, "lines": sorted(self.lines.run), "failed": session.testsfailed > 0})

    def _that_run(self, session: pytest.Session, one: Mutant) -> list[pytest.Item]:
        """The tests that run the changed lines, the likeliest to see it first, then the quickest."""
        lines = set(range(one.line, one.upto + 1))
        items = [item for item in session.items if self.seen[item.nodeid] & lines]
        return sorted(items, key=lambda item: (item.nodeid != self.killers.get(one.function), self.seconds[item.nodeid]))

    def _judge(self, session: pytest.Session, one: Mutant, items: list[pytest.Item]) -> tuple[str, str]:
        module = sys.modules[self.module.dotted]
        code = _code(self.module.path, one.applied(self.source))
        if code is None:
            return INVALID, ""
        pairs = _pairs(module, code, one.function)
        if not pairs:
            return AGAIN, ""

        def work() -> int:
            for function, code in pairs:
                function.__code__ = code
            for value in vars(module).values():  # what was found before the change is not to be found again
                if hasattr(value, "cache_clear"):
                    value.cache_clear()
            return _run(session, items, len(items))

        limit = LEAST_SECONDS + PATIENCE * sum(self.seconds[item.nodeid] for item in items)
        failed = _ended(work, limit)
        if failed is None:
            return TIMEOUT, ""
        if not failed:
            return SURVIVED, ""
        by = items[failed - 1].nodeid if failed <= len(items) else ""
        self.killers[one.function] = by
        return KILLED, by


def _run(session: pytest.Session, items: Sequence[pytest.Item], count: int) -> int:
    """Runs the first so many of them, until one fails; its number from 1, or 0."""
    for at, item in enumerate(items[:count]):
        follows = items[at + 1] if at + 1 < len(items) else None
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=follows)
        if session.testsfailed:
            return min(at + 1, 250)
    return 0


def _collected(module: Module, source: bytes, chosen: Mapping[Mutant, int], tell: Callable[[dict[str, Any]], None]) -> None:
    lines = Lines(Path(module.name))
    lines.start()
    pytest.main([*module.tests, *OPTIONS, f"--rootdir={ROOT}"], plugins=[Judged(module, source, chosen, tell, lines)])


# A function's code in place of another


def _code(path: Path, source: bytes) -> CodeType | None:
    """The module's code; None for a text that is no program."""
    try:
        return compile(source, str(path), "exec", dont_inherit=True)
    except SyntaxError:
        return None


def _pairs(module: ModuleType, code: CodeType, name: str) -> list[tuple[FunctionType, CodeType]]:
    """The functions of this name, each with its code in another text of the module; empty where one cannot take it."""
    new = sorted((one for one in _codes(code) if one.co_qualname == name), key=lambda one: one.co_firstlineno)
    old = sorted(_functions(module, name), key=lambda one: one.__code__.co_firstlineno)
    fit = len(new) == len(old) and all(a.co_freevars == b.__code__.co_freevars for a, b in zip(new, old))
    return list(zip(old, new)) if fit else []


def _codes(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from _codes(each)


def _functions(module: ModuleType, name: str) -> list[FunctionType]:
    holder, found = module, dict[int, FunctionType]()
    for part in name.split(".")[:-1]:
        holder = vars(holder).get(part, holder)
    for value in vars(holder).values():
        parts = [value, *(getattr(value, part, None) for part in ("fget", "fset", "fdel", "__func__", "func"))]
        for part in parts:
            while hasattr(part, "__wrapped__"):
                part = part.__wrapped__
            if isinstance(part, FunctionType) and part.__qualname__ == name and part.__code__.co_filename == module.__file__:
                found[id(part)] = part
    return list(found.values())


# A module in place of another


class Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a module from another text than its file's."""

    def __init__(self, module: Module, source: bytes) -> None:
        self._module, self._source = module, source

    def find_spec(self, name: str, path: object, target: object = None) -> Any:
        if name != self._module.dotted:
            return None
        return importlib.util.spec_from_file_location(name, self._module.path, loader=self)

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, str(self._module.path), "exec", dont_inherit=True), vars(module))


def _imported(module: Module, source: bytes) -> int:
    """Runs the module's tests on another text of it; 0 when all pass."""
    sys.meta_path.insert(0, Instead(module, source))
    return int(pytest.main([*module.tests, *OPTIONS, "-x", f"--rootdir={ROOT}"], plugins=[Fast()]))


if __name__ == "__main__":
    sys.exit(main())
