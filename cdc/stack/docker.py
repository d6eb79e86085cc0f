"""The same servers by a Docker engine, where one runs. A client alone is not enough, and no engine is ever installed.

The client stays in the foreground as *our* process: its log is the server's log, a signal to it reaches the server, and
the container is removed when it ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Image:
    """How one image is told what the native server is told by its options."""

    name: str
    port: int
    """The port inside."""
    data: str
    """The folder inside that holds the data; a volume of ours is put there."""
    environ: dict[str, str] = field(default_factory=dict)
    files: dict[Path, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()


@cache
def engine() -> bool:
    """True when a Docker engine answers; CDC_DOCKER=0 says not to ask."""
    if os.environ.get("CDC_DOCKER") == "0" or shutil.which("docker") is None:
        return False
    try:
        return _docker("info", timeout_seconds=10.0) == 0
    except subprocess.TimeoutExpired:
        return False


def command(name: str, port: int, image: Image, secrets: Path) -> list[str | Path]:
    """The foreground client that runs the image; passwords go by a file, because a command line is public."""
    secrets.touch(mode=0o600)
    secrets.write_text("".join(f"{key}={value}\n" for key, value in image.environ.items()))
    mounts = [part for place, inside in image.files.items() for part in ("-v", f"{place}:{inside}:ro")]
    start = ["docker", "run", "--rm", "--name", name, "--label", "cdc.stack=1", "--env-file", str(secrets)]
    return [
        *start,
        "-p",
        f"127.0.0.1:{port}:{image.port}",
        "-v",
        f"{name}:{image.data}",
        *mounts,
        image.name,
        *image.arguments,
    ]


def remove(name: str) -> None:
    """Removes the container if it is still there (its client was killed)."""
    _docker("rm", "--force", name)


def forget(name: str) -> None:
    """Removes the container's data."""
    _docker("volume", "rm", "--force", name)


def _docker(*arguments: str, timeout_seconds: float = 60.0) -> int:
    command = ["docker", *arguments]
    done = subprocess.run(
        command,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=timeout_seconds,
    )
    return done.returncode
