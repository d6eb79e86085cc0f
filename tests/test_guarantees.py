"""The page of guarantees names only what exists, and all that it must."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
TESTS = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
SYMBOLS = re.compile(r"`((?:cdc|sinks|snapshot)/[\w/]+\.py)(?::([\w.]+))?`")


@cache
def names(path: str) -> frozenset[str]:
    """What a file defines: functions, classes and constants, and what its classes define, with a dot."""
    return frozenset(_names(ast.parse((ROOT / path).read_text()).body, ""))


def _names(body: list[ast.stmt], within: str) -> list[str]:
    found: list[str] = []
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append(within + node.name)
            if isinstance(node, ast.ClassDef):
                found += _names(node.body, f"{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found += [within + target.id for target in targets if isinstance(target, ast.Name)]
    return found


def defined_tests(path: Path) -> set[str]:
    return {name for name in names(str(path.relative_to(ROOT))) if name.startswith("test_")}


def test_everything_that_is_named_exists() -> None:
    missing = [f"{path}::{name}" for path, name in TESTS.findall(PAGE) if not (ROOT / path).is_file() or name not in names(path)]
    missing += [
        f"{path}:{name}" for path, name in SYMBOLS.findall(PAGE) if not (ROOT / path).is_file() or (name and name not in names(path))
    ]
    assert [] == missing
    assert 60 < len(TESTS.findall(PAGE)), "the page, or what this test makes of it, has become short"


def test_nothing_is_named_in_a_form_that_is_not_checked() -> None:
    quoted = re.findall(r"`([^`]+\.py[^`]*)`", PAGE)
    checked = {f"{path}::{name}" for path, name in TESTS.findall(PAGE)}
    checked |= {f"{path}:{name}" if name else path for path, name in SYMBOLS.findall(PAGE)}
    assert set() == set(quoted) - checked


def test_every_promise_of_the_readme_has_a_section() -> None:
    promised = re.findall(r"^(\d)\. ", (ROOT / "README.md").read_text().split("## What it promises")[1].split("\n## ")[0], re.MULTILINE)
    assert 7 == len(promised)
    assert promised == re.findall(r"^## (\d)\. ", PAGE, re.MULTILINE)


def test_every_trap_that_is_laid_is_on_the_page() -> None:
    laid = {(path.name, name) for path in (ROOT / "tests").glob("test_traps*.py") for name in defined_tests(path)}
    assert 20 < len(laid)
    assert set() == laid - {(Path(path).name, name) for path, name in TESTS.findall(PAGE)}


def test_a_claim_without_a_test_is_no_claim() -> None:
    rows = [line.split(" | ") for line in PAGE.split("\n# The traps")[0].splitlines() if line.startswith("| ") and "---" not in line]
    claims = [row for row in rows if row[0] != "| Claim"]
    assert 25 < len(claims)
    assert [] == [row[0] for row in claims if len(row) != 4 or not TESTS.search(row[3])]
