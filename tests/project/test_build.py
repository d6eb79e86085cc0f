"""Without a C compiler the project is built and installed all the same: every kernel is compiled, or none is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KERNEL = "import cython\n\n\n@cython.cfunc\ndef one() -> cython.int:\n    return {0}\n\n\ndef two() -> int:\n    return one()\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The build of this project with two small kernels instead of its own: those take a minute to become C."""
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "README.md").write_text("")
    for package in ("cdc", "cdc/codec", "sinks", "snapshot"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    for number, name in enumerate(("_first", "_second")):
        (tmp_path / "cdc/codec" / f"{name}.py").write_text(KERNEL.format(number))
    return tmp_path


def lacking(tree: Path, what: str) -> dict[str, str]:
    """The environment of a build on a machine that lacks something: its PATH leads to what stands here, and to nothing else."""
    environ = {key: value for key, value in os.environ.items() if key not in {"CDC_PURE", "CFLAGS", "LDSHARED"}}
    programs = tree / "programs"
    programs.mkdir()
    if what == "no compiler":
        return {**environ, "PATH": str(programs), "CC": "cc"}
    cc = programs / "cc"
    cc.write_text(f'#!/bin/sh\ncase "$*" in *-shared*_second*) exit 1;; esac\nexec {shutil.which("cc")} "$@"\n')
    cc.chmod(0o755)
    return {**environ, "CC": str(cc), "LDSHARED": f"{cc} -shared"}


def build(tree: Path, environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "setup.py", "-q", *arguments], cwd=tree, env=environ, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("lacks", ["no compiler", "a linker for the second kernel"])
def test_without_a_compiler_the_build_holds_says_so_and_leaves_no_kernel_compiled(tree: Path, lacks: str) -> None:
    (tree / "cdc/codec" / f"_first{EXTENSION_SUFFIXES[0]}").write_text("of an earlier build")
    built = build(tree, lacking(tree, lacks), "build_ext", "--inplace")
    assert 0 == built.returncode, built.stderr
    assert [] == [*(tree / "cdc/codec").glob("*.so"), *(tree / "build").glob("lib*/**/*.so")]
    assert "will run uncompiled (slow, correct)" in built.stderr
    assert "apt-get install gcc libc6-dev python3-dev" in built.stderr


def test_a_wheel_without_a_compiler_holds_the_sources(tree: Path) -> None:
    built = build(tree, lacking(tree, "no compiler"), "bdist_wheel")
    assert 0 == built.returncode, built.stderr
    (wheel,) = (tree / "dist").glob("*.whl")
    kernels = sorted(name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("cdc/codec/_"))
    assert ["cdc/codec/__init__.py", "cdc/codec/_first.py", "cdc/codec/_second.py"] == kernels


def test_a_kernel_that_is_no_python_fails_the_build(tree: Path) -> None:
    """A wrong source is no missing compiler: it is not passed over."""
    (tree / "cdc/codec/_second.py").write_text("def wrong(:\n")
    assert 0 != build(tree, dict(os.environ), "build_ext", "--inplace").returncode
