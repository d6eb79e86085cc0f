"""The distribution: its name, what is in it, and that it needs what the product imports, no more and no less."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from email import message_from_string
from pathlib import Path
from typing import Any

import pytest

import cdc
from tests.project.test_structure import PACKAGES, ROOT, imported, modules

PROJECT: Any = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_YET = {"web": {"starlette", "uvicorn"}, "schedule": {"apscheduler"}}
"""Extras of what is to come: nothing imports them. What does is moved from here to the dependencies, or named with its extra."""
PLUGINS = {"pytest-timeout", "pytest-xdist", "coverage", "docker", "testcontainers"}
"""Of the extra `test`, what is not imported by name: pytest loads plugins, processes are measured, engines are asked where they run."""
TOOLS = {"ruff", "mypy", "setuptools", "wheel"}


def name_of(requirement: str) -> str:
    """The distribution's name in a requirement, as names are compared."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def declared(extra: str = "") -> set[str]:
    return set(map(name_of, PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]))


def distributions(paths: list[Path]) -> set[str]:
    """The distributions of everything that these files import and that is neither Python's nor ours."""
    tops = {name.partition(".")[0] for path in paths for name in imported(path)}
    known = importlib.metadata.packages_distributions()
    others = tops - set(sys.stdlib_module_names) - {*PACKAGES, "tests", "bench", "__future__"}
    return {re.sub(r"[-_.]+", "-", of).lower() for top in others for of in known.get(top, [top])}


def test_everything_that_the_product_imports_is_declared() -> None:
    assert set() == distributions(modules()) - declared()


def test_every_dependency_is_imported_by_the_product() -> None:
    assert 10 < len(declared())
    assert set() == declared() - distributions(modules())


@pytest.mark.parametrize("extra", NOT_YET)
def test_what_an_extra_for_later_brings_is_imported_by_nothing(extra: str) -> None:
    assert NOT_YET[extra] == declared(extra)
    assert set() == NOT_YET[extra] & distributions(modules())


def test_the_tests_import_what_they_declare_and_declare_what_they_import() -> None:
    files = [path for folder in ("tests", "bench") for path in (ROOT / folder).rglob("*.py")]
    found = distributions([path for path in files if "cython" not in path.name])
    assert set() == declared("test") - PLUGINS - found
    allowed = declared() | declared("test") | declared("dev")
    assert set() == found - allowed


def test_every_extra_is_held_here() -> None:
    assert {"web", "schedule", "test", "dev"} == set(PROJECT["optional-dependencies"])
    stubs = {name for name in declared("dev") if name.startswith("types-")}
    assert TOOLS | stubs | {PROJECT["name"]} == declared("dev")


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The metadata of a wheel, made from a copy of what is in it."""
    copy = tmp_path_factory.mktemp("package")
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, copy / name)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    script = "import sys; from setuptools import build_meta; print(build_meta.prepare_metadata_for_build_wheel(sys.argv[1]))"
    made = subprocess.run(
        [sys.executable, "-c", script, str(copy)], cwd=copy, check=True, capture_output=True, text=True, env={**os.environ, "CDC_PURE": "1"}
    )
    return copy / made.stdout.splitlines()[-1]


def test_the_distribution_has_a_name_of_its_own_and_command_and_imports_keep_theirs(metadata: Path) -> None:
    said = message_from_string((metadata / "METADATA").read_text())
    assert ("cdc-mysql-postgres", cdc.__version__, ">=3.11") == (said["Name"], said["Version"], said["Requires-Python"])
    assert declared() == {name_of(one) for one in said.get_all("Requires-Dist", []) if "extra ==" not in one}
    assert set(PROJECT["optional-dependencies"]) == set(said.get_all("Provides-Extra", []))
    assert "cdc = cdc.cli.main:main" in (metadata / "entry_points.txt").read_text().splitlines()
    assert sorted(PACKAGES) == (metadata / "top_level.txt").read_text().split()


def test_the_readme_says_how_the_distribution_is_called() -> None:
    assert f"`{PROJECT['name']}`" in (ROOT / "README.md").read_text()
