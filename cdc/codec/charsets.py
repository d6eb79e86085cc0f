"""MySQL's character sets: how many bytes a character may take, and how their bytes become UTF-8 just as the server
would convert them.

Four kinds: UTF-8 itself (validated and copied), UTF-8 of at most three bytes, sets of one byte (a table of 256), and
the rest through Python's codecs. Tables and exceptions are those of CONVERT(.. USING utf8mb4) on MariaDB 10.11, 11.4
and MySQL 9.7: a test compares all bytes, and all sequences of the sets of several bytes. Bytes that the server has no
character for are an error here, never a guess.
"""

from __future__ import annotations

import codecs
import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from cdc.errors import Halt

UTF8, TABLE, CODEC, UTF8_SHORT = 0, 1, 2, 3
UNDEFINED = "�"


@dataclass(frozen=True, slots=True)
class Charset:
    """One character set; `codec` is Python's name, `changes` what the server does differently for single bytes or
    sequences."""

    kind: int
    max_bytes: int
    codec: str = ""
    changes: tuple[tuple[int, str], ...] = ()
    """By the number that a character's bytes make, big-endian."""


def _table(codec: str, *changes: tuple[int, str]) -> Charset:
    return Charset(TABLE, 1, codec, changes)


def _run(start: int, text: str) -> tuple[tuple[int, str], ...]:
    return tuple((start + i, character) for i, character in enumerate(text))


_DEC8 = (
    (0xA8, "¤"),
    (0xD7, "Œ"),
    (0xDD, "Ÿ"),
    (0xF7, "œ"),
    (0xFD, "ÿ"),
    (0xA4, UNDEFINED),
    (0xA6, UNDEFINED),
    (0xB4, UNDEFINED),
)
_DEC8_HOLES = (0xAC, 0xAD, 0xAE, 0xAF, 0xB8, 0xBE, 0xD0, 0xDE, 0xF0, 0xFE, 0xFF)
_ARMENIAN = "".join(chr(0x531 + i) + chr(0x561 + i) for i in range(38))
_KEYBCS2 = (
    "ČüéďäĎŤčěĚĹÍľĺÄÁÉžŽôöÓůÚýÖÜŠĽÝŘťáíóúňŇŮÔšřŕŔ¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐"
    "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\xa0"
)
_GEORGIAN = "აბგდევზჱთიკლმნჲოპჟრსტჳუფქღყშჩცძწჭხჴჯჰჵ" + UNDEFINED * 23 + "№" + UNDEFINED * 2
_GEORGIAN_LOW = "€�‚�„…†‡�‰�‹�����‘’“”•–—���›����"


def _cells(start: int, text: str) -> tuple[tuple[int, str], ...]:
    """The characters of consecutive cells in rows of 94, as EUC has them."""
    place = (start >> 8 & 0xFF, (start & 0xFF) - 0xA1)
    cells = ((place[0] + (place[1] + i) // 94, 0xA1 + (place[1] + i) % 94) for i in range(len(text)))
    return tuple(
        (start & ~0xFFFF | row << 8 | cell, character) for (row, cell), character in zip(cells, text, strict=True)
    )


def _undefined(*sequences: int) -> tuple[tuple[int, str], ...]:
    return tuple((sequence, UNDEFINED) for sequence in sequences)


def _private(start: int) -> str:
    return "".join(chr(start + i) for i in range(940))


_EUC_PRIVATE = (*_cells(0xF5A1, _private(0xE000)), *_cells(0x8FF5A1, _private(0xE3AC)))
_NEC = (  # row 13, in which two cells are free
    *_cells(0xADA1, "①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯⑰⑱⑲⑳ⅠⅡⅢⅣⅤⅥⅦⅧⅨⅩ"),
    *_cells(0xADC0, "㍉㌔㌢㍍㌘㌧㌃㌶㍑㍗㌍㌦㌣㌫㍊㌻㎜㎝㎞㎎㎏㏄㎡"),
    *_cells(0xADDF, "㍻〝〟№㏍℡㊤㊥㊦㊧㊨㈱㈲㈹㍾㍽㍼≒≡∫∮∑√⊥∠∟⊿∵∩∪"),
)
_IBM = (  # the compatibility ideographs are written as numbers: an editor may normalise them
    "ⅰⅱⅲⅳⅴⅵⅶⅷⅸⅹⅠⅡⅢⅣⅤⅥⅦⅧⅨⅩ＇＂㈱№℡炻仼僴凬匇匤\ufa0e咊坙\ufa0f\ufa10增寬峵嵓\ufa11德悅愠敎昻晥\ufa12\uf929栁\ufa13\ufa14橫櫢淸淲瀨\ufa15"
    "\ufa16甁皂皞\ufa17礰\ufa18\ufa19\ufa1a\ufa1b竧\ufa1c\ufa1d綠緖\ufa1e荢\ufa1f薰\ufa20\ufa21蠇\ufa22譿賴赶\ufa23\ufa24"
    "\ufa25郞\ufa26鄕\ufa27\ufa28閒\uf9dc\ufa29霻靍靑\ufa2a\ufa2b\ufa2c馞髙魲\ufa2d黑"
)
_MICROSOFT = (
    *_cells(0xA1C1, "～∥"),
    *((0xA1DD, "－"), (0xA1F1, "￠"), (0xA1F2, "￡"), (0xA2CC, "￢"), (0x8FA2B7, "～"), (0x8FA2C3, "￤")),
    *_NEC,
    *_cells(0x8FF3F3, _IBM),
)
_SWE7 = (*zip(b"@[\\]^`{|}~", "ÉÄÖÅÜéäöåü", strict=True), (0x7F, UNDEFINED))

CHARSETS: dict[str, Charset] = {
    "utf8mb4": Charset(UTF8, 4),
    "utf8mb3": Charset(UTF8_SHORT, 3),
    "utf8": Charset(UTF8_SHORT, 3),
    "ascii": _table("ascii"),
    "latin1": _table("cp1252", *((byte, chr(byte)) for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D))),
    "latin2": _table("iso8859-2"),
    "latin5": _table("iso8859-9"),
    "latin7": _table("iso8859-13"),
    "cp1250": _table("cp1250"),
    "cp1251": _table("cp1251"),
    "cp1256": _table("cp1256", *_undefined(0x8A, 0x8F, 0x98, 0x9A, 0x9F, 0xAA, 0xC0, 0xFF)),
    "cp1257": _table("cp1257"),
    "cp850": _table("cp850"),
    "cp852": _table("cp852"),
    "cp866": _table("cp866", (0xFC, "ⁿ"), (0xFD, "²")),
    "greek": _table("iso8859-7", (0xA1, "ʽ"), (0xA2, "ʼ"), *_undefined(0xA4, 0xA5, 0xAA)),
    "hebrew": _table("iso8859-8", (0xAF, "‾")),
    "hp8": _table("hp_roman8"),
    "koi8r": _table("koi8_r"),
    "koi8u": _table("koi8_u", (0x95, "•")),
    "macce": _table("mac_latin2"),
    "macroman": _table("mac_roman"),
    "tis620": _table("iso8859-11", *_undefined(0xA0)),
    "dec8": _table("latin-1", *_DEC8, *((byte, UNDEFINED) for byte in _DEC8_HOLES)),
    "swe7": _table("ascii", *_SWE7),
    "keybcs2": _table("ascii", *_run(0x80, _KEYBCS2)),
    "geostd8": _table("latin-1", *_run(0x80, _GEORGIAN_LOW), *_run(0xC0, _GEORGIAN)),
    "armscii8": _table("latin-1", *_run(0xA1, "❁§։)(»«—.՝,-՟…՜՛՞" + _ARMENIAN + "’'")),
    "ucs2": Charset(CODEC, 2, "utf-16-be"),
    "utf16": Charset(CODEC, 4, "utf-16-be"),
    "utf16le": Charset(CODEC, 4, "utf-16-le"),
    "utf32": Charset(CODEC, 4, "utf-32-be"),
    "big5": Charset(
        CODEC,
        2,
        "big5",
        (*_undefined(0xA15A, 0xA1C3, 0xA1C5, 0xA1FE, 0xA240, 0xA2CC, 0xA2CE), *_run(0xF9D6, "碁銹裏墻恒粧嫺")),
    ),
    "cp932": Charset(CODEC, 2, "cp932", _undefined(0x80, 0xA0, 0xFD, 0xFE, 0xFF)),
    "eucjpms": Charset(CODEC, 3, "euc_jp", (*_MICROSOFT, *_EUC_PRIVATE)),
    "euckr": Charset(CODEC, 2, "cp949"),
    "gb18030": Charset(CODEC, 4, "gb18030", ((0xA8BC, "\u1e3f"), (0x8135F437, "\ue7c7"))),
    "gb2312": Charset(CODEC, 2, "gb2312"),
    "gbk": Charset(CODEC, 2, "gbk"),
    "sjis": Charset(CODEC, 2, "shift_jis", ((0x815F, "\\"),)),
    "ujis": Charset(CODEC, 3, "euc_jp", ((0xA1C0, "\\"), *_EUC_PRIVATE)),
}


def of(name: str, place: str) -> Charset:
    """The character set of that name; Halt where we do not know it."""
    charset = CHARSETS.get(name)
    if charset is None:
        hint = "convert the column to utf8mb4 or exclude the table"
        raise Halt("charset", place, f"the character set {name or '(none)'} is not known", hint)
    return charset


@cache
def table(name: str, key: bool = False) -> bytes:
    """256 entries of four bytes: the length in UTF-8 (0: no such character), then the UTF-8 bytes.

    For a key, a byte whose character a lower one has already is none: two keys would become one.
    """
    charset = CHARSETS[name]
    changes, out, seen = dict(charset.changes), bytearray(), {UNDEFINED}
    for byte in range(256):
        character = changes.get(byte) or codecs.decode(bytes([byte]), charset.codec, "replace")
        encoded = b"" if character == UNDEFINED or (key and character in seen) else character.encode()
        seen.add(character)
        out += bytes([len(encoded)]) + encoded.ljust(3, b"\0")
    return bytes(out)


def to_utf8(name: str, value: bytes, key: bool = False) -> bytes | None:
    """The value in UTF-8; None where the bytes are no text of that set, or, in a key,
    spell a character in its second way."""
    charset = CHARSETS[name]
    changes, suspects = _changes(name)
    if key and (doubles := _doubles(name)):
        return _by_character(charset, changes, value, doubles)
    if not any(suspect in value for suspect in suspects):
        try:
            text = value.decode(charset.codec)
        except UnicodeDecodeError:
            pass
        else:
            return None if name == "ucs2" and 2 * len(text) != len(value) else text.encode()  # it knows no surrogates
    return _by_character(charset, changes, value) if changes else None


def readable(name: str, value: bytes) -> bool:
    """Whether the bytes are text of that set, in a key or elsewhere."""
    if CHARSETS[name].kind == TABLE:
        entries = table(name)
        return all(entries[4 * byte] for byte in value)
    return CHARSETS[name].kind == CODEC and to_utf8(name, value) is not None


def _by_character(
    charset: Charset, changes: dict[bytes, str], value: bytes, doubles: frozenset[bytes] = frozenset()
) -> bytes | None:
    text, at = [], 0
    while at < len(value):
        found = next(_spelled(charset, changes, value, at), None)
        if found is None or found[1] == UNDEFINED or found[0] in doubles:
            return None
        at += len(found[0])
        text.append(found[1])
    return "".join(text).encode()


def _spelled(charset: Charset, changes: dict[bytes, str], value: bytes, at: int) -> Iterator[tuple[bytes, str]]:
    """The sequence at a place, of these sets the only one that begins there, and its character."""
    for width in range(1, charset.max_bytes + 1):
        sequence = value[at : at + width]
        if sequence in changes:
            yield sequence, changes[sequence]
        else:
            with contextlib.suppress(UnicodeDecodeError):
                yield sequence, sequence.decode(charset.codec)


@cache
def _changes(name: str) -> tuple[dict[bytes, str], tuple[bytes, ...]]:
    """What the server does differently, by sequence; and those of them that Python's codec would not refuse."""
    charset = CHARSETS[name]
    found = {number.to_bytes((number.bit_length() + 7) // 8, "big"): character for number, character in charset.changes}
    return found, tuple(sequence for sequence in found if UNDEFINED not in sequence.decode(charset.codec, "replace"))


@cache
def _doubles(name: str) -> frozenset[bytes]:
    """The sequences whose character has a shorter or lower one too."""
    charset, (changes, _) = CHARSETS[name], _changes(name)
    seen: dict[str, bytes] = {UNDEFINED: b""}
    if charset.codec.startswith(("utf", "gb")):
        return frozenset()
    candidates = sorted({*_sequences(charset), *changes}, key=lambda sequence: (len(sequence), sequence))
    return frozenset(
        sequence
        for sequence in candidates
        for found in itertools.islice(_spelled(charset, changes, sequence, 0), 1)
        if found[0] == sequence and seen.setdefault(found[1], sequence) not in (sequence, b"")
    )


def _sequences(charset: Charset) -> Iterator[bytes]:
    """Every sequence that a set of two or three bytes could hold."""
    for lead in range(256):
        yield bytes([lead])
        if lead >= 0x80:
            yield from (bytes([lead, trail]) for trail in range(256))
    if charset.max_bytes == 3:
        yield from (bytes([0x8F, row, cell]) for row in range(0xA1, 0xFF) for cell in range(0xA1, 0xFF))
