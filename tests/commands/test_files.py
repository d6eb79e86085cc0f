"""Directories that commands are asked to write into, before they have worked for an hour."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc.commands.files import folder
from cdc.errors import Refused


def test_a_directory_is_made_and_left_empty(tmp_path: Path) -> None:
    folder(tmp_path / "a" / "b")
    folder(tmp_path / "a" / "b")
    assert [] == list((tmp_path / "a" / "b").iterdir())


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nope", "/dev/null"])
def test_what_is_no_directory_is_refused_by_name(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / place
    with pytest.raises(Refused) as refused:
        folder(path)
    assert ("directory", str(path)) == (refused.value.code, refused.value.place)
