"""The page of guarantees names only what exists, and all that it must."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
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
    laid = {(path.name, name) for path in (ROOT / "tests" / "binlog").glob("test_traps*.py") for name in defined_tests(path)}
    assert 20 < len(laid)
    assert set() == laid - {(Path(path).name, name) for path, name in TESTS.findall(PAGE)}


CLAIM = re.compile(r"^\*\*(?P<said>(?:[^*\n]|\n(?!\n))+)\*\*\n\n(?P<held>(?:- .+\n|  .+\n)+)", re.MULTILINE)
LONGEST_LINE = 160


class Claim(NamedTuple):
    """A claim as the page has it, and the lines of each kind beneath it."""

    said: str
    held: dict[str, list[str]]


def claims() -> list[Claim]:
    """Every claim of the page: in bold, and beneath it a list of "Kept in: ..", "Guarded by: .." and "Locked by: .."."""
    found = []
    for one in CLAIM.finditer(PAGE):
        held: dict[str, list[str]] = {}
        for item in f"\n{one['held']}".split("\n- ")[1:]:
            kind, _, text = " ".join(item.split()).partition(": ")
            held.setdefault(kind, []).append(text)
        found.append(Claim(" ".join(one["said"].split()), held))
    return found


def test_a_claim_without_a_test_is_no_claim() -> None:
    assert 60 < len(claims())
    kinds = {"Kept in": range(1, 2), "Guarded by": range(1, 2), "Locked by": range(1, 99)}
    assert [] == [claim.said for claim in claims() if set(kinds) != set(claim.held)]
    assert [] == [claim.said for claim in claims() for kind, texts in claim.held.items() if len(texts) not in kinds[kind] or "" in texts]
    assert [] == [(claim.said, text) for claim in claims() for text in claim.held["Locked by"] if not TESTS.fullmatch(text)]


def test_nothing_that_looks_like_a_claim_is_passed_over() -> None:
    """Whatever is bold, and whatever is kept, guarded or locked, belongs to a claim that was read."""
    assert len(claims()) == len(re.findall(r"^\*\*", PAGE, re.MULTILINE)) == PAGE.count("**") / 2
    for kind in ("Kept in", "Guarded by", "Locked by"):
        assert len(re.findall(f"^- {kind}: ", PAGE, re.MULTILINE)) == sum(len(claim.held[kind]) for claim in claims())
    assert not re.search(r"^\|", PAGE, re.MULTILINE), "a table's row is no claim: CONTRIBUTING.md says how one is added"


def test_the_page_can_be_read_in_a_diff() -> None:
    assert [] == [line for line in PAGE.splitlines() if len(line) > LONGEST_LINE]


@cache
def run_by_make_test() -> dict[str, list[str]]:
    """The named tests of which `make test` runs a case, and the kinds of source of those cases ("": none is needed)."""
    files = sorted({path for path, _ in TESTS.findall(PAGE + IDENTITY)})
    done = subprocess.run([sys.executable, "-m", "tests.helpers.collected", *files], cwd=ROOT, check=True, stdout=subprocess.PIPE)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def promises() -> list[tuple[str, list[str]]]:
    """Each claim, trap and situation, with the tests that are named for it."""
    rows = [(claim.said, " ".join(claim.held["Locked by"])) for claim in claims()]
    rows += [(line.split(" | ")[0], line) for line in IDENTITY.splitlines() if line.startswith("| ")]
    traps = PAGE.split("\n# The traps")[1]
    return [
        (said, [f"{path}::{name}" for path, name in TESTS.findall(text)])
        for said, text in (*rows, *((item, item) for item in traps.split("\n- ")[1:]))
        if TESTS.search(text)
    ]


def test_a_promise_is_held_by_a_test_that_make_test_runs() -> None:
    """One that only `make soak` runs may stand beside it."""
    assert 120 < len(promises())
    assert [] == [said[:100] for said, tests in promises() if not set(tests) & set(run_by_make_test())]


def test_a_promise_about_one_kind_of_source_is_held_by_a_test_on_that_kind() -> None:
    spoken = {"mysql": re.compile(r"\bMySQL\b"), "mariadb": re.compile(r"\bMariaDB\b")}
    ran = run_by_make_test()
    missing = [
        (kind, said[:100])
        for said, tests in promises()
        for kind, word in spoken.items()
        if word.search(said) and not {kind, ""} & {kind for test in tests for kind in ran.get(test, ())}
    ]
    assert [] == missing


IDENTITY = (ROOT / "docs" / "identity.md").read_text()


def test_every_situation_of_the_source_s_identity_is_held_by_a_test_and_names_its_code_and_its_way_out() -> None:
    rows = [line.split(" | ") for line in IDENTITY.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert 20 < len(rows)
    for row in rows:
        assert 5 == len(row), row[0]
        held = TESTS.findall(row[4])
        assert held, row[0]
        assert [] == [name for path, name in held if name not in names(path)], row[0]
        goes_on = row[1].startswith("goes on")
        assert goes_on == (row[2] == "-"), row[0]
        assert goes_on == (row[3] == "-") or "goes back" in row[1], row[0]


FAILURES = (ROOT / "docs" / "failures.md").read_text()
MAKERS = {
    "Halt": 0,
    "Refused": 0,
    "Retry": 0,
    "Rewound": 0,
    "Malformed": 0,
    "RowRefused": 0,
    "_halt": 0,
    "stop": 0,
    "_demand": 2,
    "Finding": 1,
    "_Demand": 2,
}
"""What makes an error, and the place of the code among its arguments."""
TABLES_OF_CODES = {
    "cdc/postgres/errors.py": "CAUSES", "cdc/transport/kafka/broker.py": "_SETUP_ERRORS", "cdc/binlog/event_types.py": "FATAL",
}  # fmt: skip


def reason_codes() -> dict[str, str]:
    """Every reason code that the program can say, and a file that says it."""
    found: dict[str, str] = {}
    for path in sorted(file for package in ("cdc", "sinks", "snapshot") for file in (ROOT / package).rglob("*.py")):
        place = str(path.relative_to(ROOT))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                maker = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                found |= dict.fromkeys(texts(node.args[MAKERS[maker] : MAKERS[maker] + 1]), place) if maker in MAKERS else {}
            elif isinstance(node, ast.AnnAssign | ast.Assign) and node.value is not None and place in TABLES_OF_CODES:
                named = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                if isinstance(named, ast.Name) and named.id == TABLES_OF_CODES[place]:
                    found |= {code: place for code in texts([node.value]) if re.fullmatch(r"[a-z]+(_[a-z]+)*", code)}
    return found


def texts(nodes: list[ast.expr]) -> list[str]:
    return [one.value for node in nodes for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]


def test_every_reason_code_has_an_entry_in_the_failures() -> None:
    codes = reason_codes()
    assert 140 < len(codes)
    assert {"target_auth", "broker_tls", "incident", "over_wide"} <= set(codes), "the tables of codes are read too"
    assert {} == {code: place for code, place in codes.items() if f"`{code}`" not in FAILURES}


def test_every_code_of_the_failures_is_one_that_the_program_says() -> None:
    tables = FAILURES.split("# Every reason code")[1]
    told = {code for line in tables.splitlines() if line.startswith("| `") for code in re.findall(r"`([a-z_]+)`", line.split(" | ")[0])}
    assert {"target_error"} == told - set(reason_codes()), "what an SQLSTATE without a rule is called"
