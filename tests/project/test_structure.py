"""The layout of the code, held by its syntax trees: rooms, importers of drivers, and the size budget."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cdc", "snapshot", "sinks")

# A room imports from itself and from the rooms to its left, never to its right; rooms joined by | stand side by side and do not know
# each other. A new file needs no line here, a new room needs one word.
ROOMS = tuple(
    frozenset(group.split("|"))
    for group in (
        "errors model config protocol|ddl runtime codec transport|postgres state mysql binlog capture|sinks snapshot "
        "checks|monitoring|stack commands demo cli __main__"
    ).split()
)
FLOOR = {room: floor for floor, group in enumerate(ROOMS) for room in group}

# The rooms that are there for a driver.
DRIVERS = {
    "pymysql": ("cdc/mysql/", "cdc/binlog/", "snapshot/reconcile/", "cdc/demo/opendental/"),
    "pymysqlreplication": ("cdc/binlog/",),
    "confluent_kafka": ("cdc/transport/kafka/",),
    "psycopg": ("cdc/postgres/", "cdc/state/", "sinks/postgres/"),
}

KERNELS = "cdc/codec/_*.py"  # their opcode switches are exempt from the length of functions
LONGEST, NINETIETH, MEDIAN, MODULE_LINES = 60, 25, 6, 400


def modules() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {dotted(path) for path in modules()}


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it; `from cdc import errors` names cdc.errors."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.relative_to(ROOT)}:{node.lineno} imports relatively"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in NAMES else base
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute) and node.args:
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
            first = node.args[0]
            if name in {"import_module", "__import__"} and isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value


def room(module: str) -> str:
    """The room of one of our modules: the package of a stage, else the name below `cdc`; "" for the root."""
    package, _, rest = module.partition(".")
    return package if package in ("sinks", "snapshot") else rest.partition(".")[0]


def ours(path: Path) -> list[str]:
    return [name for name in imported(path) if name.partition(".")[0] in PACKAGES]


def test_every_module_is_in_a_room():
    assert [] == sorted(name for name in NAMES - {"cdc"} if room(name) not in FLOOR)


def test_imports_go_to_the_left():
    found = [
        f"{dotted(path)} imports {name}"
        for path in modules()
        for name in ours(path)
        if name != "cdc" and (here := room(dotted(path))) != (there := room(name)) and FLOOR[there] >= FLOOR[here]
    ]
    assert [] == found


def test_the_page_of_the_rooms_shows_the_rule_and_names_each_room():
    page = (ROOT / "docs" / "architecture.md").read_text()
    shown = " ".join(line.strip() for line in page.splitlines() if line.startswith("    ") and "|" in line)
    rule = [frozenset(group.split("|")) for group in shown.split()]
    assert [group for group in ROOMS if group != {"__main__"}] == rule
    named = set(re.findall(r"^\| `(?:cdc/)?(\w+)(?:\.py)?` \|", page, re.MULTILINE))
    assert set(FLOOR) - {"__main__"} == named


def test_the_glossary_names_files_that_are_there():
    rows = [line.split(" | ") for line in (ROOT / "docs" / "glossary.md").read_text().splitlines() if line.startswith("| ")][2:]
    assert 25 < len(rows)
    assert [] == [row[0] for row in rows if len(row) != 4 or not (ROOT / row[3].strip("| `")).is_file()]


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_driver_is_imported_in_its_rooms(driver: str):
    strangers = [
        str(path.relative_to(ROOT))
        for path in modules()
        if driver in {name.partition(".")[0] for name in imported(path)} and not str(path.relative_to(ROOT)).startswith(DRIVERS[driver])
    ]
    assert [] == strangers


def test_a_public_class_has_a_name_of_its_own():
    """The same word in two rooms would be two things; kernels keep the names that their builds and corpora hang on."""
    places: dict[str, list[str]] = {}
    for path in modules():
        for node in tree(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not kernel(path):
                places.setdefault(node.name, []).append(dotted(path))
    assert {} == {name: found for name, found in places.items() if len(found) > 1}


WHOLE = {"config", "capture", "monitoring", "commands", "demo", "cli"}
"""Rooms that take a pipeline's whole configuration: they put things together, or answer a command."""


def test_only_who_puts_things_together_takes_the_whole_configuration():
    found = [
        dotted(path)
        for path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cdc.config")
        if "Config" in {one.name for one in node.names}
    ]
    assert [] == [name for name in found if room(name) not in WHOLE]
    assert {"cdc.capture.run"} == {name for name in found if room(name) == "capture"}


def test_every_room_says_what_it_is_for():
    faces = [path for path in modules() if path.name == "__init__.py"]
    assert [] == [str(path.relative_to(ROOT)) for path in faces if not ast.get_docstring(tree(path))]


def test_no_module_imports_in_a_circle():
    edges = {dotted(path): {name for name in ours(path) if name in NAMES} - {dotted(path)} for path in modules()}
    done: set[str] = set()
    while ready := {name for name, needs in edges.items() if name not in done and needs <= done}:
        done |= ready
    left = sorted(set(edges) - done)
    assert [] == [f"{name} -> {sorted(edges[name] - done)}" for name in left]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """(place, length) of every function: its lines without its docstring, those of functions within it included."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path.relative_to(ROOT)}:{node.name}", (node.end_lineno or 0) - node.lineno + 1 - _docstring_lines(node)


def _docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is None:
        return 0
    return (first.end_lineno or 0) - first.lineno + 1


def kernel(path: Path) -> bool:
    return fnmatchcase(str(path.relative_to(ROOT)), KERNELS) and path.name != "__init__.py"


def test_functions_are_short():
    lengths = [length for path in modules() for _, length in functions(path)]
    assert MEDIAN >= statistics.median(lengths)
    assert NINETIETH >= statistics.quantiles(lengths, n=10)[-1]


def test_no_function_is_long():
    assert [] == [f"{place}: {length}" for path in modules() if not kernel(path) for place, length in functions(path) if length > LONGEST]


def test_no_module_is_long():
    lines = {path: len(path.read_text().splitlines()) for path in modules()}
    assert {} == {str(path.relative_to(ROOT)): count for path, count in lines.items() if count > MODULE_LINES}


def test_every_module_says_what_it_promises():
    assert [] == [dotted(path) for path in modules() if path.read_text().strip() and ast.get_docstring(tree(path)) is None]


def test_nothing_unfinished_is_left():
    words = ("TO" + "DO", "FIX" + "ME", "X" * 3, "NotImplemented" + "Error")
    found = [f"{path.relative_to(ROOT)}: {word}" for path in modules() for word in words if word in path.read_text()]
    assert [] == found


def test_no_except_is_bare():
    bare = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ExceptHandler) and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "Exception"))
    ]
    assert [] == bare


def test_no_test_is_ever_skipped():
    banned = ("pytest." + "skip", "mark." + "skip", "import" + "orskip", "mark." + "xfail")
    tests = {path: path.read_text() for path in (ROOT / "tests").rglob("*.py")}
    assert [] == [f"{path.relative_to(ROOT)}: {word}" for path, text in tests.items() for word in banned if word in text]


def tracked() -> list[Path]:
    """The files of the repository, those not yet committed included; of a copy without git, all of them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], check=False, cwd=ROOT, capture_output=True, text=True
    )
    names = listed.stdout.split("\0") if listed.returncode == 0 else [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")]
    made = re.compile(r"(\.venv|\.git|\.cdc|build|.*_cache|[^/]*\.egg-info)/|.*\.(pyc|so|c)\Z")
    return [ROOT / name for name in names if name and (ROOT / name).is_file() and not made.match(name)]


HOSTS = (
    ("pypi", "org"), ("pythonhosted", "org"), ("maven", "org"), ("maven.apache", "org"), ("deb.debian", "org"), ("security.debian", "org"),
    ("ftp.debian", "org"), ("archive.ubuntu", "com"), ("npmjs", "org"), ("npmjs", "com"), ("crates", "io"), ("golang", "org"),
    ("docker", "io"), ("ghcr", "io"), ("quay", "io"), ("gcr", "io"), ("mcr.microsoft", "com"),
)  # fmt: skip


def test_no_file_names_a_registry_or_a_place_outside_the_project():
    banned = [".".join(parts) for parts in HOSTS] + ["/work" + "/shared", "/work/" + ".library", "/tmp" + "/dev/"]
    found = []
    for path in tracked():
        content = path.read_bytes()
        found += [f"{path.relative_to(ROOT)}: {word}" for word in banned if word.encode() in content]
    assert [] == found
