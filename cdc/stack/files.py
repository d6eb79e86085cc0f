"""Files that hold secrets: written whole or not at all, and for nobody else's eyes."""

from __future__ import annotations

import os
from pathlib import Path


def write_private(place: Path, text: str) -> None:
    """Writes a file that nobody else can read, whole or not at all."""
    draft = place.with_name(place.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(place)


def read_env(place: Path) -> dict[str, str]:
    """The NAME=value lines of an env file."""
    return dict(line.split("=", 1) for line in place.read_text().splitlines() if "=" in line)


def hidden(folder: Path, name: str, text: str) -> Path:
    """A file that any user may read, in a folder that only ours may enter: what a container is given to read."""
    folder.mkdir(mode=0o700, exist_ok=True)
    place = folder / name
    place.write_text(text)
    place.chmod(0o644)
    return place
