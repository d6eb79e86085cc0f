"""Finds the servers' programs: on PATH, where distributions keep them, else from packages into the system or a cache
folder.

One installation at a time, on the whole machine: package managers trip over each other, and each other's clean-up.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from cdc.errors import Halt, Refused

PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/opt/mysql/bin")
DENY_SERVICES = "#!/bin/sh\nexit 101\n"


def cache() -> Path:
    """The folder for what is not installed into the system; CDC_CACHE moves it."""
    folder = Path(os.environ.get("CDC_CACHE") or Path.home() / ".cache" / "cdc-stack")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def find(name: str, *places: str) -> Path | None:
    """A program on PATH or in the folders where servers usually live."""
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join([*places, *PLACES]))
    return Path(found).resolve() if found else None


def version_text(program: Path) -> str:
    """What `--version` says."""
    done = subprocess.run([program, "--version"], check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.stdout


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Holds the machine's installation lock; others wait."""
    place = Path("/var/lock" if os.geteuid() == 0 and Path("/var/lock").is_dir() else cache()) / "cdc-stack.lock"
    with place.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def allowed(what: str, package: str) -> None:
    """Refuses to install where that was ruled out (CDC_INSTALL=0) or cannot work."""
    _unless_forbidden(what, f"install {package}")
    if shutil.which("apt-get") is None:
        raise Refused(
            "stack_missing",
            what,
            "it is not on this machine, and there is no apt-get",
            f"install {package} and put it on PATH",
        )


def _unless_forbidden(what: str, mend: str) -> None:
    if os.environ.get("CDC_INSTALL") == "0":
        raise Refused("stack_missing", what, "it is not on this machine, and CDC_INSTALL=0 forbids installing it", mend)


def demand(lacking: Mapping[str, Iterable[str]]) -> None:
    """Refuses, naming at once all packages that servers lack, where this process may not install them."""
    servers = [name for name, packages in lacking.items() if packages]
    packages = list(dict.fromkeys(package for packages in lacking.values() for package in packages))
    if not packages or (os.geteuid() == 0 and shutil.which("apt-get") and os.environ.get("CDC_INSTALL") != "0"):
        return
    rule = (
        "CDC_INSTALL=0 forbids installing them"
        if os.environ.get("CDC_INSTALL") == "0"
        else "only root may install them"
    )
    raise Refused(
        "stack_missing",
        ", ".join(servers),
        f"not on this machine, and {rule}",
        f"apt-get install {' '.join(packages)}",
    )


def lacks_maven() -> tuple[str, ...]:
    """What `maven` has to install before it can bring anything."""
    return () if find("mvn") else ("maven", "default-jre-headless")


def apt(what: str, *packages: str) -> None:
    """Installs packages into the system, without starting any service."""
    allowed(what, " ".join(packages))
    if os.geteuid() != 0:
        raise Refused(
            "stack_missing",
            what,
            "it is not on this machine, and only root may install it",
            f"apt-get install {' '.join(packages)}",
        )
    with _services_denied():
        if _apt("install", "--no-install-recommends", *packages).returncode == 0:
            return
        _must("update", what)
        _must("install", what, "--no-install-recommends", *packages)


def _must(verb: str, what: str, *arguments: str, options: tuple[str, ...] = ()) -> None:
    done = _apt(verb, *arguments, options=options)
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        raise Halt("stack_install", what, f"apt-get {verb} ended with exit code {done.returncode}", tail)


def _apt(verb: str, *arguments: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    wait = ("-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=3")
    return subprocess.run(
        ["apt-get", "-q", "-y", *wait, *options, verb, *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environ,
    )


@contextlib.contextmanager
def _services_denied() -> Iterator[None]:
    """Debian's own switch: with it, no package starts its service while it is installed."""
    place = Path("/usr/sbin/policy-rc.d")
    if place.exists():
        yield
        return
    place.write_text(DENY_SERVICES)
    place.chmod(0o755)
    try:
        yield
    finally:
        place.unlink(missing_ok=True)


def maven(what: str, pom: Path, folder: Path) -> Path:
    """The jars that a pom names, in `folder`; there whole or not at all."""
    if folder.is_dir():
        return folder
    with alone():
        if folder.is_dir():
            return folder
        if find("mvn") is None:
            apt(what, *lacks_maven())
        draft = folder.with_name(f".{folder.name}-{os.getpid()}-{time.monotonic_ns()}")
        draft.mkdir(parents=True)
        shutil.copy(pom, draft / "pom.xml")
        _download(what, draft)
        (draft / "libs").rename(folder)
        shutil.rmtree(draft)
    return folder


def unzipped(what: str, pom: Path, inside: str, folder: Path) -> Path:
    """What the one jar of a pom holds beneath `inside`, in `folder`; programs can be run. There whole or not at all."""
    if folder.is_dir():
        return folder
    _unless_forbidden(what, "make servers")
    jars = maven(what, pom, folder.with_name(f"{folder.name}-jar"))
    with alone():
        if not folder.is_dir():
            draft = folder.with_name(f".{folder.name}-{os.getpid()}-{time.monotonic_ns()}")
            with zipfile.ZipFile(next(jars.glob("*.jar"))) as jar:
                jar.extractall(draft, [name for name in jar.namelist() if name.startswith(f"{inside}/")])
            for program in (path for part in ("bin", "scripts") for path in (draft / inside / part).iterdir()):
                program.chmod(0o755)
            (draft / inside).rename(folder)
            shutil.rmtree(draft)
            shutil.rmtree(jars)
    return folder


def _download(what: str, draft: Path) -> None:
    command = ["mvn", "-B", "-q", "dependency:copy-dependencies", "-DoutputDirectory=libs", "-DincludeScope=runtime"]
    done = subprocess.run(
        command,
        check=False,
        cwd=draft,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode != 0 or not (draft / "libs").is_dir():
        raise Halt(
            "stack_install",
            what,
            f"mvn ended with exit code {done.returncode}",
            "\n".join(done.stdout.splitlines()[-15:]),
        )
