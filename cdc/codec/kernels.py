"""Which form of the kernels runs: the compiled one when it was built from exactly these sources,
the source itself when told so."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES, SourceFileLoader
from pathlib import Path
from types import ModuleType

from cdc.errors import Refused

PLACE = Path(__file__).resolve().parent
KERNELS = (
    "_buffer",
    "_plan",
    "_wire",
    "_json",
    "_image",
    "_log",
    "_select",
    "_pgstamp",
    "_pgfield",
    "_copy",
    "_open",
)  # each after those it uses
REBUILD = "build it again (python setup.py build_ext --inplace), or set CDC_PURE=1 to run the slow uncompiled form"


def sources_sha256() -> str:
    """The hash over name and content of every kernel source and declaration file,
    as setup.py writes it into the extension."""
    digest = hashlib.sha256()
    kernels = (path for path in PLACE.glob("_*.py") if path.name != "__init__.py")
    for path in sorted([*kernels, *PLACE.glob("*.pxd")]):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def load() -> str:
    """Load the kernels; "compiled" or "pure". Refused where the extension is stale or only partly there."""
    compiled = [name for name in KERNELS if any((PLACE / (name + suffix)).exists() for suffix in EXTENSION_SUFFIXES)]
    if os.environ.get("CDC_PURE") == "1" or not compiled:
        for name in KERNELS:
            _from_source(name)
        return "pure"
    if len(compiled) < len(KERNELS):
        raise Refused("codec_build", str(PLACE), "only some of the codec's modules are compiled", REBUILD)
    expected = sources_sha256()
    for name in KERNELS:
        module = importlib.import_module(f"cdc.codec.{name}")
        if getattr(module, "SOURCES_SHA256", "") != expected:
            raise Refused("codec_build", str(PLACE / name), "the compiled codec was built from other sources", REBUILD)
    return "compiled"


def _from_source(name: str) -> ModuleType:
    """The uncompiled module, even when an extension lies beside it."""
    full = f"cdc.codec.{name}"
    if importlib.util.find_spec("cython") is None:
        raise Refused(
            "codec_build", full, "the uncompiled codec needs Cython", "pip install Cython, or build the extension"
        )
    path = PLACE / f"{name}.py"
    spec = importlib.util.spec_from_file_location(full, path, loader=SourceFileLoader(full, str(path)))
    if spec is None or spec.loader is None:
        raise Refused("codec_build", full, "its source is missing", REBUILD)
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    spec.loader.exec_module(module)
    return module
