"""Images of some columns, by hand: what they say of the row, in the form of a table that has no other columns."""

from __future__ import annotations

import pytest

from cdc.binlog.events import Kind, TableMap
from cdc.binlog.partial_images import Bitmaps, Reduced, bitmaps, reduced
from cdc.errors import Halt, Malformed
from cdc.model.position import Flavour
from cdc.model.table import Column, Table

COLUMNS = Column("id", "int", nullable=False), Column("name", "varchar", length=40), Column("note", "blob"), Column("n", "int")
RAW = b"\x02db\0\x01t\0" + b"\x04\x03\x0f\xfc\x03" + b"\x03\xa0\0\x02" + b"\x0e"
"""The map's fixed part: an INT, a VARCHAR(160 bytes), a BLOB and an INT."""
ID, NAME, NOTE, N, ALL = 0, 1, 2, 3, (0, 1, 2, 3)


def number(value: int) -> bytes:
    return value.to_bytes(4, "little")


def said(
    before: tuple[int, ...], after: tuple[int, ...], images: bytes, kind: Kind = "u", flavour: Flavour = "mysql", key: bool = True
) -> Reduced:
    table = Table("db", "t", COLUMNS, (0,) if key else ())
    return reduced(Bitmaps(4, before, after), TableMap(1, "db", "t", b"", RAW, lambda raw: table), images, kind, flavour, "db.t")


def test_the_columns_of_an_event_are_read_where_they_stand() -> None:
    assert (Bitmaps(4, (0,), (1, 3)), 4) == bitmaps(b"!\x04\xf1\x0a", 1, "u")
    assert (Bitmaps(9, (0, 8), (0, 8)), 3) == bitmaps(b"\x09\x01\x01", 0, "d")


def test_an_update_says_its_key_and_the_columns_that_it_carries() -> None:
    """Of two rows; nulls keep their places among the columns that are there."""
    first = b"\0" + number(1) + b"\x01" + number(7)
    second = b"\0" + number(2) + b"\0" + b"\x03abc" + number(8)
    found = said((ID,), (NAME, N), first + second)
    assert ("p", (ID, NAME, N)) == (found.kind, found.columns)
    assert b"\x02" + number(1) + number(7) + b"\0" + number(2) + b"\x03abc" + number(8) == found.body


def test_what_stands_before_fills_what_is_left_out_after() -> None:
    """NOBLOB: what is no blob is in both; of a whole row before, or of a table without a key, both rows are known."""
    before = b"\0" + number(1) + b"\x01x" + number(7)
    found = said((ID, NAME, N), (N,), before + b"\x01")
    assert (("p", (ID, NAME, N)), b"\x04" + number(1) + b"\x01x") == (found[0:3:2], found.body)
    whole = b"\0" + number(1) + b"\x01x" + b"\x01\0y" + number(7)
    found = said(ALL, (N,), whole + b"\x01", key=False)
    assert ("u", whole + b"\x08" + number(1) + b"\x01x" + b"\x01\0y", ALL) == found


def test_a_delete_needs_its_key_alone() -> None:
    images = b"\0" + number(1) + b"\0" + number(2)
    assert Reduced("d", images, (ID,)) == said((ID,), (ID,), images, "d", "mariadb")


def test_an_update_that_is_whole_after_needs_no_more_than_the_key_before() -> None:
    after = b"\0" + number(1) + b"\x01x" + b"\x01\0y" + number(7)
    assert Reduced("p", after, ALL) == said((ID,), ALL, b"\0" + number(1) + after, flavour="mariadb")


@pytest.mark.parametrize(
    ("before", "after", "kind", "flavour", "key", "rule"),
    [
        ((ID, N), (ID, N), "c", "mysql", True, "defaults"),
        ((ID,), (N,), "u", "mariadb", True, "REPLACE"),
        ((NAME,), (N,), "u", "mysql", True, "found"),
        ((NAME,), (NAME,), "d", "mysql", True, "found"),
        ((ID, NAME, N), ALL, "u", "mysql", False, "found"),
        ((ID, NAME, N), (ID, NAME, N), "d", "mysql", False, "found"),
    ],
)
def test_what_is_not_said_exactly_stops_by_name(
    before: tuple[int, ...], after: tuple[int, ...], kind: Kind, flavour: Flavour, key: bool, rule: str
) -> None:
    with pytest.raises(Halt, match=rule) as caught:
        said(before, after, b"", kind, flavour, key)
    assert ("row_image", "db.t") == (caught.value.code, caught.value.place)


def test_a_key_that_is_changed_without_the_row_before_stops() -> None:
    with pytest.raises(Halt, match="key is changed"):
        said((ID,), (ID, N), b"\0" + number(1) + b"\0" + number(2) + number(7))
    same = said((ID,), (ID, N), b"\0" + number(1) + b"\0" + number(1) + number(7))
    assert b"\0" + number(1) + number(7) == same.body


def test_an_image_that_ends_within_a_value_is_malformed() -> None:
    with pytest.raises(Malformed):
        said((ID,), (NAME,), b"\0" + number(1) + b"\0\x09abc")
