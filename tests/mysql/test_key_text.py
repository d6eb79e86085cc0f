"""Keys as somebody says them: in the column's own form, or no key at all."""

from __future__ import annotations

import pytest

from cdc.model.digest import Key
from cdc.model.table import Column, Table
from cdc.mysql import key_text

REASONS = ("not a number", "no text of this type", "no date", "no time", "more digits than the column has", "no bytes", "no bits")
TIME = Column("k", "time", scale=3)


@pytest.mark.parametrize(
    ("column", "text", "expected"),
    [
        (TIME, "-838:59:59", "'-838:59:59.000'"),
        (TIME, "001:02:03.45", "'01:02:03.450'"),
        (TIME, "-1500000", "'-00:00:01.500'"),
        (Column("k", "time"), "3020399000000", "'838:59:59'"),
        (Column("k", "datetime", scale=2), "2024-02-29 01:02:03.040000", "'2024-02-29 01:02:03.04'"),
        (Column("k", "datetime"), "2024-02-29", "'2024-02-29 00:00:00'"),
        (Column("k", "date"), "2024-02-29", "'2024-02-29'"),
        (Column("k", "binary", length=3), "0xAb", "X'Ab0000'"),
        (Column("k", "varbinary", length=3), "0x", "X''"),
        (Column("k", "bit", length=9), "101", "X'0005'"),
    ],
)
def test_a_text_becomes_what_a_select_of_the_column_sends(column: Column, text: str, expected: str) -> None:
    assert expected == key_text.expression(column, text)


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (TIME, "1:02:03"),
        (TIME, "00:60:00"),
        (TIME, "00:00:00.1234"),
        (Column("k", "datetime", scale=2), "2024-02-29 01:02:03.045"),
        (Column("k", "binary", length=1), "0x0102"),
        (Column("k", "blob"), "61"),
        (Column("k", "blob"), "0x6"),
        (Column("k", "bit", length=2), "101"),
        (Column("k", "bit", length=64), "1" * 65),
        (Column("k", "int"), "1 OR 1"),
        (Column("k", "text", charset="utf8mb4"), "x" * 70_000),
        (Column("k", "double"), "1"),
    ],
)
def test_a_text_that_is_none_of_its_column_is_no_key(column: Column, text: str) -> None:
    with pytest.raises(ValueError) as bad:
        key_text.expression(column, text)
    assert str(bad.value) in REASONS
    assert text not in str(bad.value)


def test_hashes_are_no_keys_that_can_be_told_and_what_is_said_is() -> None:
    """What reconcile knows of a long text is its hash: such a table it has copied whole."""

    def table(kind: str, key: Key = ("k",)) -> Table:
        return Table("d", "t", (Column("k", kind),), (0,) if key else ())

    told = {kind: (key_text.are_tellable(table(kind)), key_text.can_be_said(table(kind))) for kind in ("time", "blob", "text", "double")}
    assert {"time": (True, True), "blob": (False, True), "text": (False, True), "double": (False, False)} == told
    assert not key_text.can_be_said(table("int", ()))


@pytest.mark.parametrize("size", [0, 250, 251, 65_535, 65_536])
def test_a_packet_holds_a_value_of_any_length(size: int) -> None:
    packet = key_text.packet(Table("d", "t", (Column("v", "int"), Column("k", "blob")), (1,)), [b"x" * size])
    head = {0: b"\x00", 250: b"\xfa", 251: b"\xfc\xfb\x00", 65_535: b"\xfc\xff\xff", 65_536: b"\xfd\x00\x00\x01"}[size]
    assert b"\xfb" + head + b"x" * size == packet[4:]
    assert len(packet) - 4 == int.from_bytes(packet[:3], "little")
