"""Directories that a command is to write into."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile

from cdc.errors import Refused


def folder(path: Path) -> None:
    """Make a directory that is not there, and see that files can be made in it; Refused where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path):
            pass
    except OSError as error:
        rule = f"cannot be written into: {error.strerror or type(error).__name__}"
        raise Refused("directory", str(path), rule, "give a directory that this account may write into") from None
