"""Which tests judge which module: tests/mutation/plan.toml."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the product under mutation."""

    name: str
    """Its path, as in sinks/cuts.py."""
    tests: tuple[str, ...]
    """What pytest is given: files, folders or single tests. Those that need a server, or are marked slow or soak, are left out."""
    only: tuple[str, ...] = ()
    """Names of the module to which the mutants are kept."""

    @property
    def path(self) -> Path:
        return ROOT / self.name

    @property
    def dotted(self) -> str:
        return self.name.removesuffix(".py").replace("/", ".")


@dataclass(frozen=True, slots=True)
class Equivalent:
    """A mutant that nothing could tell from the module itself."""

    module: str
    function: str
    before: str
    after: tuple[str, ...]
    """What the line becomes, in each of the changes that the reason holds for."""
    reason: str


def plan() -> dict[str, Module]:
    """Every module under mutation, by path."""
    read = tomllib.loads((HERE / "plan.toml").read_text())
    return {name: Module(name, tuple(one["tests"]), tuple(one.get("only", ()))) for name, one in read.items()}


def equivalents() -> list[Equivalent]:
    """The mutants that are known to change nothing, with the reason."""
    return [
        Equivalent(**one | {"after": tuple(one["after"])})
        for one in tomllib.loads((HERE / "equivalent.toml").read_text()).get("mutant", [])
    ]
