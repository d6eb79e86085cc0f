"""Every character set that the servers ship: the same characters as the server's own conversion, for every sequence of bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest

from cdc import codec
from cdc.codec import charsets
from cdc.errors import Halt
from cdc.model.record import Record
from cdc.model.table import Column, Table
from tests.codec.test_types import described, rows_in, selection, stamp, value_plan
from tests.helpers import raw_log, source_log
from tests.helpers.servers import SourceDatabase

UNDEFINED = "\ufffd".encode()
ONE = [bytes([byte]) for byte in range(256)]
PAIRS = [bytes([lead, trail]) for lead in range(0x80, 256) for trail in range(256)]
EUC = [bytes([0x8F, row, cell]) for row in range(0xA0, 256) for cell in range(0xA0, 256)]
UNITS = [number.to_bytes(2, "big") for number in range(0x10000)]
SURROGATES = [(0xD800 + high).to_bytes(2, "big") + (0xDC00 + low).to_bytes(2, "big") for high in range(1024) for low in range(1024)]


def names(source: SourceDatabase) -> dict[str, int]:
    """The server's character sets and the bytes of their longest characters; `binary` is none."""
    rows = source.execute("SELECT CHARACTER_SET_NAME, MAXLEN FROM information_schema.CHARACTER_SETS WHERE CHARACTER_SET_NAME <> 'binary'")
    return {str(name): int(longest) for name, longest in rows}


def store(source: SourceDatabase, sequences: list[bytes]) -> None:
    source.execute("SET SESSION sql_mode = ''", "DROP TABLE IF EXISTS s", "CREATE TABLE s(b varbinary(4))")
    for at in range(0, len(sequences), 50_000):
        source.execute("INSERT INTO s VALUES " + ",".join(f"(x'{one.hex()}')" for one in sequences[at : at + 50_000]))


def disagreements(source: SourceDatabase, name: str) -> list[tuple[str, bytes | None, bytes | None]]:
    """Of the stored sequences: those that we read otherwise than the server, with our characters and the server's (None: no text)."""
    converted = f"CONVERT(b USING {name})"
    rows = source.execute(f"SELECT b, CAST({converted} AS BINARY), CAST(CONVERT({converted} USING utf8mb4) AS BINARY) FROM s")
    return [(b.hex(), ours, theirs) for b, back, text in rows if (ours := read(name, b)) != (theirs := shown(b, back, text, name))]


def shown(sequence: bytes, back: bytes | None, text: bytes | None, name: str) -> bytes | None:
    """What the server shows; None where it puts a question mark, a replacement, half a surrogate pair or nothing for a character."""
    if back != sequence or not text or text.count(b"?") > sequence.count(b"?"):
        return None
    if UNDEFINED in text and not name.startswith(("utf", "ucs", "gb18030")):
        return None
    return None if any(lead == 0xED and following >= 0xA0 for lead, following in pairwise(text)) else text


def read(name: str, value: bytes) -> bytes | None:
    charset = charsets.CHARSETS[name]
    if charset.kind == charsets.CODEC:
        return charsets.to_utf8(name, value)
    if charset.kind == charsets.TABLE:
        entries = [charsets.table(name)[byte * 4 : byte * 4 + 4] for byte in value]
        return b"".join(entry[1 : 1 + entry[0]] for entry in entries) if all(entry[0] for entry in entries) else None
    column = Column("v", "text", nullable=False, charset=name)
    try:
        return by_kernel(Table("db", "t", (column,)), len(value).to_bytes(2, "little") + value)
    except Halt:
        return None


def by_kernel(table: Table, image: bytes) -> bytes:
    """The text of a table's one column, from its image."""
    out: list[Record] = []
    codec.encode_rows(codec.RowPlan(table), b"\0" + image, 0, len(image) + 1, "c", stamp(), codec.Numbers(1, 1), out)
    row = rows_in(value_plan(table), out)[0]
    return row[1:]  # its length takes one byte


def test_every_character_set_of_the_server_is_known(every_source: SourceDatabase) -> None:
    theirs = names(every_source)
    assert theirs == {name: charsets.CHARSETS[name].max_bytes for name in charsets.CHARSETS if name in theirs}


def test_sets_of_one_byte_agree_with_the_server_on_every_byte(every_source: SourceDatabase) -> None:
    store(every_source, ONE)
    one_byte = [name for name, longest in names(every_source).items() if longest == 1]
    assert {} == {name: wrong for name in one_byte if (wrong := disagreements(every_source, name))}


def test_sets_of_several_bytes_agree_with_the_server_on_every_pair(source: SourceDatabase) -> None:
    store(source, ONE + PAIRS)
    several = [name for name, longest in names(source).items() if longest > 1 and not name.startswith(("utf", "ucs"))]
    assert {} == {name: wrong for name in several if (wrong := disagreements(source, name))}


def test_japanese_sets_agree_with_the_server_on_every_triple(source: SourceDatabase) -> None:
    store(source, EUC)
    assert {} == {name: wrong for name in ("ujis", "eucjpms") if (wrong := disagreements(source, name))}


def test_unicode_sets_of_two_bytes_agree_with_the_server_on_every_unit(source: SourceDatabase) -> None:
    store(source, UNITS)
    assert {} == {name: wrong for name in ("ucs2", "utf16", "utf16le") if (wrong := disagreements(source, name))}


def triples() -> Iterator[bytes]:
    """What could begin a UTF-8 character, and what could not."""
    yield from (bytes([lead, second]) for lead in range(0xC0, 0xE0) for second in range(0x70, 0xD0))
    yield from (bytes([lead, second, 0x80]) for lead in range(0xE0, 0xF0) for second in range(0x70, 0xD0))
    yield from (bytes([0xE1 + step % 15, 0x80 + step % 64, third]) for step in range(60) for third in range(0x70, 0xD0))
    yield from (bytes([lead, second, 0x80, 0xBF]) for lead in range(0xF0, 0xF8) for second in range(0x70, 0xD0))


@pytest.mark.parametrize("name", ["utf8mb3", "utf8mb4"])
def test_utf8_agrees_with_the_server_on_what_is_a_character(source: SourceDatabase, name: str) -> None:
    store(source, ONE + list(triples()))
    assert [] == disagreements(source, name)


@pytest.mark.soak
def test_mariadb_11_4_agrees_on_every_pair_and_triple(mariadb114: SourceDatabase) -> None:
    store(mariadb114, ONE + PAIRS + EUC)
    several = [name for name, longest in names(mariadb114).items() if longest > 1 and not name.startswith(("utf", "ucs"))]
    assert {} == {name: wrong for name in several if (wrong := disagreements(mariadb114, name))}


@pytest.mark.soak
def test_unicode_sets_agree_on_every_character_beyond_two_bytes(source: SourceDatabase) -> None:
    store(source, SURROGATES)
    assert [] == disagreements(source, "utf16")
    store(source, [number.to_bytes(4, "big") for number in range(0x112000)])
    assert [] == disagreements(source, "utf32")


@pytest.mark.soak
def test_gb18030_agrees_on_every_sequence_of_four(mysql: SourceDatabase) -> None:
    for first in range(0x81, 0xFF):
        store(mysql, [bytes([first, a, b, c]) for a in range(0x30, 0x3A) for b in range(0x81, 0xFF) for c in range(0x30, 0x3A)])
        assert [] == disagreements(mysql, "gb18030")


def characters(name: str) -> list[str]:
    """A Latin letter, and three characters of a set beyond ASCII (of ASCII where there is nothing else)."""
    candidates = "éßñЖщאבغعกขծაბ日本語中文한글Ⅻ😀"
    charset = charsets.CHARSETS[name]
    if charset.kind == charsets.TABLE:
        inside = {charsets.table(name)[4 * byte + 1 : 4 * byte + 1 + charsets.table(name)[4 * byte]] for byte in range(256)}
        found = [one for one in candidates if one.encode() in inside]
    elif charset.kind == charsets.CODEC:
        found = [one for one in candidates if one.encode(charset.codec, "ignore") and not (name == "ucs2" and one > "\uffff")]
    else:
        found = [one for one in candidates if len(one.encode()) <= charset.max_bytes]
    return ["a", *found, "b", "c", "d"][:4]


def test_text_and_labels_of_every_character_set_are_read_alike_both_ways(every_source: SourceDatabase) -> None:
    every_source.execute("FLUSH BINARY LOGS")
    start, place = raw_log.position(every_source), source_log.position(every_source)
    texts = {name: characters(name) for name in names(every_source)}
    for name, text in texts.items():
        labels, word = ",".join(f"'{one}'" for one in text), "".join(text)
        rows = f"(1, '{word}  ', '{word}  ', '{word}', 1, 15), (2, '', '', '', 0, 0), (3, ' b', ' b', ' b', 4, 10)"
        every_source.execute(
            f"CREATE TABLE {name}(id bigint PRIMARY KEY, c char(20), v varchar(200), t text, e enum({labels}), s set({labels})) "
            f"CHARACTER SET {name}",
            f"INSERT IGNORE INTO {name} VALUES {rows}",
        )
    known, mapped = described(every_source, place)
    assert {name: text for name, text in texts.items() if tuple(text) != known[name].columns[4].labels} == {}
    assert known == mapped
    assert {} == differing(every_source, start, known.values())


def differing(source: SourceDatabase, start: tuple[str, int], tables: Iterable[Table]) -> dict[str, object]:
    """Rows that the log and a SELECT give otherwise, or not at all, by table."""
    logged: dict[str, list[Record]] = {table.name: [] for table in tables}
    plans = {table.name: codec.RowPlan(table) for table in tables}
    selected: dict[str, tuple[list[bytes], list[bytes]]] = {}
    for rows in raw_log.rows_of(source, start):
        codec.encode_rows(plans[rows.table], rows.body, rows.start, rows.end, "c", stamp(), codec.Numbers(1, 1), logged[rows.table])
    for table in tables:
        block = selection(source, table)
        out: list[Record] = []
        codec.encode_select(plans[table.name], block, 0, len(block), stamp(), codec.Numbers(1, 1), out)
        plan = value_plan(table)
        selected[table.name] = rows_in(plan, logged[table.name]), rows_in(plan, out)
    return {name: both for name, both in selected.items() if both[0] != both[1] or len(both[0]) != 3}


DOUBLES = {"sjis": "5c 815f", "ujis": "5c a1c0", "cp932": "81bf 879b", "eucjpms": "a2c1 adfb", "armscii8": "29 a4"}


@pytest.mark.parametrize("name", DOUBLES)
def test_a_key_that_spells_a_character_in_its_second_way_stops(source: SourceDatabase, name: str) -> None:
    first, second = map(bytes.fromhex, DOUBLES[name].split())
    source.execute(f"CREATE TABLE k(v varchar(20) CHARACTER SET {name} COLLATE {name}_bin PRIMARY KEY)")
    source.execute(f"INSERT INTO k VALUES (_{name} x'{first.hex()}'), (_{name} x'{second.hex()}')")  # the server takes both
    assert 1 == len(source.execute("SELECT DISTINCT CONVERT(v USING utf8mb4) COLLATE utf8mb4_bin FROM k"))
    column = Column("v", "varchar", nullable=False, length=20, charset=name)
    keyed, keyless = Table(source.name, "k", (column,), (0,)), Table(source.name, "k", (column,))
    images = [bytes([len(one)]) + one for one in (first, second)]
    assert by_kernel(keyless, images[0]) == by_kernel(keyless, images[1]) == by_kernel(keyed, images[0])
    with pytest.raises(Halt, match="in its second way"):
        by_kernel(keyed, images[1])
    block = selection(source, keyed, order="v")
    with pytest.raises(Halt, match="in its second way"):
        codec.encode_select(codec.RowPlan(keyed), block, 0, len(block), stamp(), codec.Numbers(1, 1), [])
