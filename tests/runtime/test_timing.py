"""Every duration has one place, and tests may set it."""

from __future__ import annotations

import ast
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from cdc.errors import Refused
from cdc.runtime import timing
from tests.project.test_structure import ROOT, modules, tree

_DURATION = re.compile(r"(^|_)(SECONDS?|MS|US|MINUTES|HOURS|DAYS)(_|$)|TIMEOUT|PATIENCE|INTERVAL", re.IGNORECASE)
_ELSEWHERE = ("cdc/runtime/timing.py", "cdc/demo/", "cdc/stack/", "cdc/config/settings.py", "cdc/cli/main.py", "cdc/codec/")
"""The durations' own place; what is no part of the product; what a user chooses; and the codec, whose units are those of values."""


def _judged() -> Iterator[tuple[str, ast.Module]]:
    for path in modules():
        place = str(path.relative_to(ROOT))
        if not place.startswith(_ELSEWHERE):
            yield place, tree(path)


def _number(node: ast.AST | None) -> bool:
    """Whether it is made of numbers alone, 0 aside: a multiple of something named is a duration of that one's."""
    parts = list(ast.walk(node or ast.Pass()))
    numbers = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, int | float) and part.value]
    return bool(numbers) and not any(isinstance(part, ast.Name) for part in parts)


def _constants(module: ast.Module) -> Iterator[str]:
    for node in (node for node in ast.walk(module) if isinstance(node, ast.Assign | ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for name in (part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)):
            if name.isupper() and _DURATION.search(name) and _number(node.value):
                yield f"{node.lineno} {name}"


def _literals(module: ast.Module) -> Iterator[str]:
    """Numbers given as a duration where a function is called or defined."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
            if called == "timedelta":  # arithmetic of values
                continue
            named = [word for word in node.keywords if word.arg and _DURATION.search(word.arg)]
            yield from (f"{word.value.lineno} {word.arg}" for word in named if _number(word.value))
            if called in ("sleep", "wait_fixed", "stop_after_delay") and any(map(_number, node.args)):
                yield f"{node.lineno} {called}"
        elif isinstance(node, ast.FunctionDef):
            positional = [*node.args.posonlyargs, *node.args.args]
            late = positional[len(positional) - len(node.args.defaults) :]
            pairs = [*zip(late, node.args.defaults, strict=True), *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)]
            yield from (f"{node.lineno} {name.arg}" for name, usual in pairs if _DURATION.search(name.arg) and _number(usual))


def test_no_other_module_has_a_duration_of_its_own():
    assert [] == [f"{place}:{found}" for place, module in _judged() for found in (*_constants(module), *_literals(module))]


def test_the_search_for_durations_finds_them():
    module = ast.parse("A_SECONDS = 2\n_X_MS, Y = 3, 4\ndef f(timeout: float = 60): sleep(0.1); g(timeout_seconds=5)\nB_SECONDS = T.b\n")
    assert {"1 A_SECONDS", "2 _X_MS"} == set(_constants(module))
    assert {"3 timeout", "3 sleep", "3 timeout_seconds"} == set(_literals(module))


def test_every_duration_says_its_unit_and_what_it_is():
    assert [] == [field.name for field in fields(timing.Timing) if field.name.rpartition("_")[2] not in ("seconds", "ms", "us")]
    (body,) = (node.body for node in tree(ROOT / "cdc/runtime/timing.py").body if isinstance(node, ast.ClassDef))
    after = [later for node, later in itertools.pairwise(body) if isinstance(node, ast.AnnAssign)]
    assert [True] * len(fields(timing.Timing)) == [isinstance(node, ast.Expr) for node in after]


def test_every_duration_is_used():
    used = "\n".join(path.read_text() for path in modules() if path.name != "timing.py")
    assert [] == [field.name for field in fields(timing.Timing) if not re.search(rf"\b(TIMES|times)\.{field.name}\b", used)]


def test_the_environment_sets_durations():
    assert timing.Timing() == timing.read(None) == timing.read("")
    assert (0.5, 3000, 0.05) == (
        (found := timing.read('{"full_cut_seconds": 0.5, "retention_ms": 3000}')).full_cut_seconds,
        found.retention_ms,
        found.cut_seconds,
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"full_cut": 1}', "timing_unknown"), ("[]", "timing_malformed"), ("{", "timing_malformed"),
        ('{"cut_seconds": "1"}', "timing_malformed"), ('{"cut_seconds": -1}', "timing_malformed"),
        ('{"cut_seconds": true}', "timing_malformed"),
        ('{"retention_ms": 0.5}', "timing_malformed"), ('{"cut_seconds": NaN}', "timing_malformed"),
        ('{"cut_seconds": Infinity}', "timing_malformed"),
    ],
)  # fmt: skip
def test_what_is_no_duration_is_refused(text: str, code: str):
    with pytest.raises(Refused) as refused:
        timing.read(text)
    assert code == refused.value.code


def test_a_process_with_an_unknown_duration_does_not_start(tmp_path: Path):
    told = subprocess.run(
        [sys.executable, "-c", "import cdc.capture.capture"], check=False, capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, timing.ENVIRONMENT: '{"cut": 1}'},
    )  # fmt: skip
    assert 1 == told.returncode
    assert "there is no such duration" in told.stderr
