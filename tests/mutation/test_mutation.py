"""The mutation tool itself: what it changes, that it sees what a test sees, and that its lists name what exists."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutation.operators import mutants
from tests.mutation.plan import HERE, ROOT, equivalents, plan
from tests.mutation.worker import KILLED, SURVIVED, UNSEEN

SAMPLE = '''"""Docs: 1 < 2."""

LIMIT = 5


class Box:
    """A box."""

    size: int = 3

    def holds(self, count: int, kind: str = "a") -> bool:
        """Whether."""
        if count < LIMIT and not self.full:
            self.count += count
            return True
        for _ in self.left:
            break
        crash.point("box")
        return kind == "b" or any(self.left)
'''


def changes(source: str) -> list[str]:
    return [f"{one.function}: {one.after}" for one in mutants(source.encode())]


@pytest.mark.parametrize(
    "change",
    [
        ": size: int = 4",
        "Box.holds: if (count <= LIMIT) and not self.full:",
        "Box.holds: if (count < LIMIT or not self.full):",
        "Box.holds: if count < LIMIT and self.full:",
        "Box.holds: if True:",
        "Box.holds: self.count -= count",
        "Box.holds: self.count = count",
        "Box.holds: return False",
        "Box.holds: for _ in ():",
        "Box.holds: continue",
        "Box.holds: return kind == '' or any(self.left)",
        'Box.holds: return kind == "b" or all(self.left)',
        "Box.holds: return (kind == 'b')",
    ],
)
def test_a_small_wrong_change_is_made(change: str) -> None:
    assert change in changes(SAMPLE)


def test_words_annotations_named_numbers_and_crash_points_are_left_alone() -> None:
    assert [] == [one for one in changes(SAMPLE) if "LIMIT =" in one or "crash" in one or "Docs" in one or "Whether" in one]


def test_every_mutant_compiles_and_keeps_the_lines_of_what_follows() -> None:
    source = (ROOT / "sinks/cuts.py").read_bytes()
    for one in mutants(source)[::20]:
        changed = one.applied(source)
        compile(changed, "mutant", "exec")
        assert source.count(b"\n") == changed.count(b"\n")


def test_the_lists_name_what_exists() -> None:
    modules = plan()
    assert [] == [test for one in modules.values() for test in one.tests if not (ROOT / test.partition("::")[0]).exists()]
    assert [] == [name for name, one in modules.items() if not one.path.is_file()]
    made = {name: {(m.function, m.before, m.after) for m in mutants(one.path.read_bytes(), one.only)} for name, one in modules.items()}
    stale = [
        (one.function, text) for one in equivalents() for text in one.after if (one.function, one.before, text) not in made[one.module]
    ]
    assert [] == stale, "the module has changed: is the reason still true?"
    assert [] == [one for one in equivalents() if len(one.reason) < 10]


def test_what_a_test_sees_is_killed_and_what_no_test_runs_is_unseen(tmp_path: Path) -> None:
    """In a tree of its own: a module, a test of it that is too weak in one place, and a server test that does not count."""
    package = tmp_path / "tests" / "mutation"
    package.mkdir(parents=True)
    for name in ("operators.py", "plan.py", "worker.py"):
        (package / name).write_text((HERE / name).read_text())
    (tmp_path / "thing.py").write_text(
        "START = True\n\n\ndef more(a):\n    return a + 1\n\n\ndef loose(a):\n    return a < 5\n\n\ndef nobody():\n    return not START\n"
    )
    (tmp_path / "test_thing.py").write_text(
        "import thing\n\n\ndef test_more():\n    assert thing.START\n    assert 3 == thing.more(2)\n    assert thing.loose(1)\n"
    )
    (package / "plan.toml").write_text('["thing.py"]\ntests = ["test_thing.py"]\n')
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutation.worker", "thing.py", "0/1"], cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True
    )
    told = {(one["function"], one["after"]): one["outcome"] for one in map(json.loads, done.stdout.splitlines())}
    assert KILLED == told["more", "return (a - 1)"]
    assert KILLED == told["", "START = False"]
    assert KILLED == told["loose", "return (a >= 5)"]
    assert SURVIVED == told["loose", "return (a <= 5)"]
    assert UNSEEN == told["nobody", "return START"]
