"""Packages of another suite, unpacked into a folder: nothing is installed, nothing of the system's is touched.

Debian's stable suites carry no MySQL, its unstable one does; the archive is the one this machine's own sources name.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

from cdc.errors import Halt, Refused
from cdc.stack import install

SUITES = {"debian": "sid"}  # elsewhere (Ubuntu) the machine's own suite carries the server


def unpacked(what: str, pattern: str, folder: Path) -> Path:
    """The newest package matching `pattern`, with all it needs, unpacked into `folder`; there whole or not at all."""
    if folder.is_dir():
        return folder
    install.allowed(what, f"{what}'s server")
    with install.alone():
        if not folder.is_dir():
            _fill(what, pattern, folder)
    return folder


def _fill(what: str, pattern: str, folder: Path) -> None:
    root, draft = folder.with_name(f".{folder.name}-apt"), folder.with_name(f".{folder.name}-new")
    for place in (root, draft):
        shutil.rmtree(place, ignore_errors=True)
    options = _private(root)
    install._must("update", what, options=options)
    install._must("install", what, "--download-only", _newest(what, pattern, options), options=options)
    draft.mkdir()
    for package in sorted((root / "cache" / "archives").glob("*.deb")):
        _unpack(package, draft)
    draft.rename(folder)
    shutil.rmtree(root)


def _unpack(package: Path, draft: Path) -> None:
    done = subprocess.run(
        ["dpkg", "-x", package, draft], check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode != 0:
        raise Halt("stack_install", package.name, f"dpkg ended with exit code {done.returncode}", done.stderr.strip())


def _private(root: Path) -> tuple[str, ...]:
    """An apt root of its own, in which nothing is installed: so everything that is needed gets downloaded."""
    for place in ("etc/preferences.d", "lists/partial", "state", "cache/archives/partial"):
        (root / place).mkdir(parents=True)
    (root / "state" / "status").touch()
    (root / "etc" / "sources.list").write_text(_source_line() + "\n")
    settings = {
        "Dir::Etc": root / "etc",
        "Dir::Etc::sourcelist": root / "etc" / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        # the keys this machine trusts, where a source names none of its own
        "Dir::Etc::trusted": "/etc/apt/trusted.gpg",
        "Dir::Etc::trustedparts": "/etc/apt/trusted.gpg.d",
        "Dir::State": root / "state",
        "Dir::State::lists": root / "lists",
        "Dir::State::status": root / "state" / "status",
        "Dir::Cache": root / "cache",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "true",
    }
    return tuple(part for name, value in settings.items() for part in ("-o", f"{name}={value}"))


def _newest(what: str, pattern: str, options: tuple[str, ...]) -> str:
    done = subprocess.run(
        ["apt-cache", *options, "--names-only", "search", pattern],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    names = [line.split()[0] for line in done.stdout.splitlines() if re.fullmatch(pattern, line.split()[0])]
    if not names:
        raise Refused(
            "stack_missing", what, f"this machine's package archive has no {pattern}", "put the server on PATH"
        )
    return max(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)] or [1 << 30])


def _source_line() -> str:
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text(), re.MULTILINE))
    codename, keys, archive = release.get("VERSION_CODENAME", ""), "", ""
    for archive, suites, keys in sources():  # noqa: B007 - the first that fits is what is wanted
        if codename in suites:
            break
    else:
        raise Refused(
            "stack_missing", "apt sources", "no source of this machine names its own suite", "put the server on PATH"
        )
    signed = f" signed-by={keys}" if keys.startswith("/") else ""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    parts = "main" if release.get("ID") in SUITES else "main universe"
    return f"deb [arch={machine}{signed}] {archive} {SUITES.get(release.get('ID', ''), codename)} {parts}"


def sources(etc: Path = Path("/etc/apt")) -> list[tuple[str, list[str], str]]:
    """(archive, suites, key file) of every source of packages this machine has, in either of apt's two formats."""
    found = []
    for place in sorted((etc / "sources.list.d").glob("*.sources")):
        for stanza in re.split(r"\n\s*\n", place.read_text()):
            fields = {
                name.lower(): value.strip()
                for name, value in re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", stanza, re.MULTILINE)
            }
            if "deb" in fields.get("types", "").split() and fields.get("uris"):
                found.append((fields["uris"].split()[0], fields.get("suites", "").split(), fields.get("signed-by", "")))
    for place in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.list"))]:
        lines = place.read_text() if place.exists() else ""
        for options, archive, suite in re.findall(r"^deb\s+(\[[^]]*\]\s+)?(\S+)\s+(\S+)", lines, re.MULTILINE):
            key = re.search(r"signed-by=([^\s\]]+)", options)
            found.append((archive, [suite], key.group(1) if key else ""))
    return found
