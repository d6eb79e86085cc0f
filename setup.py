"""Builds the codec's kernels as an optional extension; everything else is in pyproject.toml.

The kernels are plain Python files in Cython's pure Python mode, so a build without Cython or a C compiler still
succeeds: the codec then runs uncompiled. `CDC_PURE=1` at build time leaves the extension out on purpose.

Each compiled module carries `SOURCES_SHA256`, a hash over all kernel sources: whoever loads it can tell that it was
built from exactly the files beside it (one hash for all, since a kernel may inline what another one declares).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from setuptools import setup
from setuptools.extension import Extension

KERNELS = "cdc/codec/_*.py"  # the one place that names what is compiled
ROOT = Path(__file__).resolve().parent
STAGE = Path("build/cython")


def kernels() -> list[Path]:
    """The kernel sources, in one order."""
    return sorted(path for path in ROOT.glob(KERNELS) if path.name != "__init__.py")


def sources_sha256() -> str:
    """The hash over name and content of every kernel source and declaration file."""
    digest = hashlib.sha256()
    for path in sorted([*kernels(), *(ROOT / KERNELS).parent.glob("*.pxd")]):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def staged(path: Path, sha256: str) -> Extension:
    """The extension of one kernel, from a copy that ends with the hash (at its end: line numbers stay true)."""
    place = path.relative_to(ROOT)
    copy = ROOT / STAGE / place
    copy.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text() + f'\nSOURCES_SHA256 = "{sha256}"\n'
    if not copy.exists() or copy.read_text() != text:
        copy.write_text(text)
    name = ".".join(place.with_suffix("").parts)
    return Extension(name, [str(STAGE / place)], extra_compile_args=["-O3"], optional=True)


def extensions() -> list[Extension]:
    """What to compile: nothing when told so, or where Cython is missing."""
    if os.environ.get("CDC_PURE") == "1" or not kernels():
        return []
    try:
        from Cython.Build import cythonize  # noqa: PLC0415 - a build without Cython must succeed
    except ImportError:
        print("cdc: Cython is missing, the codec will run uncompiled")
        return []
    sha256 = sources_sha256()
    for declarations in (ROOT / KERNELS).parent.glob("*.pxd"):
        target = ROOT / STAGE / declarations.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(declarations.read_bytes())
    made: list[Extension] = cythonize(
        [staged(path, sha256) for path in kernels()],
        compiler_directives={"language_level": 3},
        include_path=[str(STAGE)],
    )
    return made


setup(ext_modules=extensions())
