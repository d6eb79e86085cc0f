"""What `make test` runs of some files: `python -m tests.helpers.collected FILE ..` prints tests with the fixtures of their cases, as JSON.

Run from a test, in a process of its own: pytest collects once per process.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable

import pytest

from cdc.stack import SOURCES
from tests import run

RUN_BY_MAKE_TEST = "not soak"


class Collected:
    """Notes the cases of each test."""

    def __init__(self) -> None:
        self.tests: dict[str, set[str]] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            name, _, case = item.nodeid.partition("[")
            self.tests.setdefault(name, set()).update(flavours([*re.split(r"[-\]]", case), *getattr(item, "fixturenames", ())]))


def flavours(words: Iterable[str]) -> set[str]:
    """The kinds of source that a case speaks of, by its name and its fixtures; "" where it needs no source."""
    return set(words) & set(SOURCES) or {""}


def main() -> int:
    """Prints the document."""
    os.environ.setdefault(run.FOLDER, os.devnull)  # nothing is run, so no server is
    found = Collected()
    out = os.dup(1)
    os.dup2(2, 1)
    code = pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", "-m", RUN_BY_MAKE_TEST, *sys.argv[1:]], plugins=[found])
    os.write(out, json.dumps({name: sorted(kinds) for name, kinds in found.tests.items()}).encode())
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
