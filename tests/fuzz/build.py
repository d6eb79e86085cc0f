"""Builds the driver, and the kernels for a sanitizer, in folders of their own: nothing in the source tree is replaced."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cdc.codec import kernels

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDER = ROOT / "build" / "fuzz"
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))
CHECKS = "address,shift,signed-integer-overflow,integer-divide-by-zero,bounds,float-cast-overflow"
FLAGS = {
    "plain": ("-O3", "-fwrapv", "-DNDEBUG"),  # as Python's own extensions are built
    "asan": ("-O1", "-g1", "-fno-omit-frame-pointer", f"-fsanitize={CHECKS}", "-fno-sanitize-recover=all"),
}
DRIVER = "fuzz_driver"
Plant = tuple[str, str, str]
"""A kernel, a piece of it, and what stands there instead."""


def built(form: str, plant: Plant | None = None) -> list[Path]:
    """Folders for the path: the driver's, and one with the package `cdc` and its kernels, each compiled once for its sources."""
    flags, sources = FLAGS[form], kernels.sources_sha256()
    place = FOLDER / f"{form}-{_hash(sources, flags, plant, sys.version)}"
    texts = {suffix: (HERE / f"driver.{suffix}").read_text() for suffix in ("py", "pxd")}
    driver = place / f"driver-{_hash(texts)}"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one build for all who want it
        shutil.copytree(ROOT / "cdc", place / "cdc", ignore=_MADE, copy_function=_copied, dirs_exist_ok=True)
        if not (place / "built").exists():
            _kernels(place, form, plant)
            (place / "built").touch()
        if not (driver / "built").exists():
            _driver(driver, place / "stage", texts, flags)
            (driver / "built").touch()
    return [driver, place]


_MADE = shutil.ignore_patterns("*.so", "*.c", "__pycache__")


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def _copied(source: str, target: str) -> str:
    """Copies what has changed, so that a process which runs from there is left alone."""
    if not Path(target).exists() or Path(source).read_bytes() != Path(target).read_bytes():
        shutil.copy(source, target)
    return target


def _kernels(place: Path, form: str, plant: Plant | None) -> None:
    """The kernels: of the plain form the tree's own extension where that is current, for what is fuzzed then is what runs."""
    stage = place / "stage"
    shutil.copytree(ROOT / "cdc" / "codec", stage / "cdc" / "codec", ignore=_MADE, dirs_exist_ok=True)
    names = [f"cdc/codec/{name}" for name in kernels.KERNELS]
    if form == "plain" and plant is None and _current():
        for name in names:
            shutil.copy(ROOT / f"{name}{SUFFIX}", place / f"{name}{SUFFIX}")
        return
    for name in names:
        path = stage / f"{name}.py"
        path.write_text(_planted(path, plant) + f'\nSOURCES_SHA256 = "{kernels.sources_sha256()}"\n')
    if plant is not None:  # all but the faulty one are as they are without it
        _, whole = built(form)
        for name in names:
            shutil.copy(whole / f"{name}{SUFFIX}", place / f"{name}{SUFFIX}")
        names = [name for name in names if name.endswith("/" + plant[0])]
    _compiled(place, stage, names, FLAGS[form])


def _current() -> bool:
    """Whether the tree's extension is loaded, and of these sources."""
    loaded = sys.modules.get("cdc.codec._log")
    return getattr(loaded, "SOURCES_SHA256", "") == kernels.sources_sha256() and str(getattr(loaded, "__file__", "")).startswith(
        str(ROOT / "cdc")
    )


def _planted(path: Path, plant: Plant | None) -> str:
    """The kernel's source with its planted fault, if it gets one."""
    text = path.read_text()
    if plant is None or path.stem != plant[0]:
        return text
    if text.count(plant[1]) != 1:
        raise ValueError(f"{plant[0]} does not hold that piece once")
    return text.replace(plant[1], plant[2])


def _driver(place: Path, stage: Path, texts: dict[str, str], flags: Iterable[str]) -> None:
    for suffix, text in texts.items():
        (stage / f"{DRIVER}.{suffix}").write_text(text)
    place.mkdir(exist_ok=True)
    _compiled(place, stage, [DRIVER], flags)


def _compiled(place: Path, stage: Path, names: list[str], flags: Iterable[str]) -> None:
    cython = [sys.executable, "-m", "cython", "-3", "-I", str(stage), "--module-name"]
    compiler = ["cc", "-shared", "-fPIC", "-w", f"-I{sysconfig.get_path('include')}", *flags]

    def one(name: str) -> None:
        source = (stage / name).with_suffix(".py")
        _run([*cython, name.replace("/", "."), str(source), "-o", str(source.with_suffix(".c"))], stage)
        _run([*compiler, str(source.with_suffix(".c")), "-o", str(place / f"{name}{SUFFIX}")], stage)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, names))


def _run(command: list[str], place: Path) -> None:
    done = subprocess.run(command, cwd=place, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
