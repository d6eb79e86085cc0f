"""Builds the codec's kernels as an optional extension; everything else is in pyproject.toml.

The kernels are plain Python files in Cython's pure Python mode, so a build without Cython or a C compiler still
succeeds: the codec then runs uncompiled, and the build says so. `CDC_PURE=1` at build time leaves the extension out on
purpose. All kernels are compiled or none is: a mixture would be refused when it is loaded.

Each compiled module carries `SOURCES_SHA256`, a hash over all kernel sources: whoever loads it can tell that it was
built from exactly the files beside it (one hash for all, since a kernel may inline what another one declares).
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, CompileError, ExecError, LinkError, PlatformError
from setuptools.extension import Extension

KERNELS = "cdc/codec/_*.py"  # the one place that names what is compiled
ROOT = Path(__file__).resolve().parent
STAGE = Path("build/cython")
NO_COMPILER = (CCompilerError, CompileError, ExecError, LinkError, PlatformError)


class CompileAll(build_ext):
    """Compiles every kernel, or, where the C compiler or Python's headers are missing, leaves none behind."""

    def run(self) -> None:
        """Compile, and put the extensions where they belong."""
        made = self._files()
        try:
            super().run()
        except NO_COMPILER as error:
            print(
                f"cdc: the codec was not compiled and will run uncompiled (slow, correct): {error}\n"
                "cdc: for the compiled form install a C compiler and Python's headers, then install again "
                "(Debian: apt-get install gcc libc6-dev python3-dev)",
                file=sys.stderr,
            )
            for path in made:
                path.unlink(missing_ok=True)
            self.extensions = []  # whoever asks for the outputs finds none

    def _files(self) -> list[Path]:
        """What this command makes: in the build folder and, in place, beside the sources."""
        built = [Path(self.build_lib, self.get_ext_filename(one.name)) for one in self.extensions or ()]
        beside = [Path(self.get_ext_fullpath(one.name)) for one in self.extensions or ()]
        return built + beside


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
    return Extension(name, [str(STAGE / place)], extra_compile_args=["-O3"])


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


setup(ext_modules=extensions(), cmdclass={"build_ext": CompileAll})
