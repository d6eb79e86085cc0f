"""MySQL's character sets: how many bytes a character may take, and how their bytes become UTF-8 just as the server would convert them.

Three kinds: UTF-8 itself (validated and copied), sets of one byte (a table of 256), and the rest through Python's codecs. Tables
and exceptions were compared with CONVERT(.. USING utf8mb4) of MariaDB 10.11 and MySQL 9.7 for every byte and byte pair; a byte
that the server has no character for is an error here, never a guess.
"""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from functools import cache

from cdc.errors import Halt

UTF8, TABLE, CODEC = 0, 1, 2
UNDEFINED = "�"


@dataclass(frozen=True, slots=True)
class Charset:
    """One character set; `codec` is Python's name, `changes` what the server does differently for single bytes."""

    kind: int
    max_bytes: int
    codec: str = ""
    changes: tuple[tuple[int, str], ...] = ()


def _table(codec: str, *changes: tuple[int, str]) -> Charset:
    return Charset(TABLE, 1, codec, changes)


def _run(start: int, text: str) -> tuple[tuple[int, str], ...]:
    return tuple((start + i, character) for i, character in enumerate(text))


_DEC8 = ((0xA8, "¤"), (0xD7, "Œ"), (0xDD, "Ÿ"), (0xF7, "œ"), (0xFD, "ÿ"), (0xA4, UNDEFINED), (0xA6, UNDEFINED), (0xB4, UNDEFINED))
_DEC8_HOLES = (0xAC, 0xAD, 0xAE, 0xAF, 0xB8, 0xBE, 0xD0, 0xDE, 0xF0, 0xFE, 0xFF)
_ARMENIAN = "".join(chr(0x531 + i) + chr(0x561 + i) for i in range(38))
_KEYBCS2 = (
    "ČüéďäĎŤčěĚĹÍľĺÄÁÉžŽôöÓůÚýÖÜŠĽÝŘťáíóúňŇŮÔšřŕŔ¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\xa0"
)
_GEORGIAN = "აბგდევზჱთიკლმნჲოპჟრსტჳუფქღყშჩცძწჭხჴჯჰჵ" + UNDEFINED * 23 + "№" + UNDEFINED * 2
_GEORGIAN_LOW = "€�‚�„…†‡�‰�‹�����‘’“”•–—���›����"
_SWE7 = (*zip(b"@[\\]^`{|}~", "ÉÄÖÅÜéäöåü", strict=True), (0x7F, UNDEFINED))

CHARSETS: dict[str, Charset] = {
    "utf8mb4": Charset(UTF8, 4),
    "utf8mb3": Charset(UTF8, 3),
    "utf8": Charset(UTF8, 3),
    "ascii": _table("ascii"),
    "latin1": _table("cp1252", *((byte, chr(byte)) for byte in (0x81, 0x8D, 0x8F, 0x90, 0x9D))),
    "latin2": _table("iso8859-2"),
    "latin5": _table("iso8859-9"),
    "latin7": _table("iso8859-13"),
    "cp1250": _table("cp1250"),
    "cp1251": _table("cp1251"),
    "cp1256": _table("cp1256"),
    "cp1257": _table("cp1257"),
    "cp850": _table("cp850"),
    "cp852": _table("cp852"),
    "cp866": _table("cp866", (0xFC, "ⁿ"), (0xFD, "²")),
    "greek": _table("iso8859-7", (0xA1, "ʽ"), (0xA2, "ʼ")),
    "hebrew": _table("iso8859-8", (0xAF, "‾")),
    "hp8": _table("hp_roman8"),
    "koi8r": _table("koi8_r"),
    "koi8u": _table("koi8_u", (0x95, "•")),
    "macce": _table("mac_latin2"),
    "macroman": _table("mac_roman"),
    "tis620": _table("iso8859-11"),
    "dec8": _table("latin-1", *_DEC8, *((byte, UNDEFINED) for byte in _DEC8_HOLES)),
    "swe7": _table("ascii", *_SWE7),
    "keybcs2": _table("ascii", *_run(0x80, _KEYBCS2)),
    "geostd8": _table("latin-1", *_run(0x80, _GEORGIAN_LOW), *_run(0xC0, _GEORGIAN)),
    "armscii8": _table("latin-1", *_run(0xA1, "❁§։)(»«—.՝,-՟…՜՛՞" + _ARMENIAN + "’'")),
    "ucs2": Charset(CODEC, 2, "utf-16-be"),
    "utf16": Charset(CODEC, 4, "utf-16-be"),
    "utf16le": Charset(CODEC, 4, "utf-16-le"),
    "utf32": Charset(CODEC, 4, "utf-32-be"),
    "big5": Charset(CODEC, 2, "big5"),
    "cp932": Charset(CODEC, 2, "cp932"),
    "euckr": Charset(CODEC, 2, "cp949"),
    "gb18030": Charset(CODEC, 4, "gb18030"),
    "gb2312": Charset(CODEC, 2, "gb2312"),
    "gbk": Charset(CODEC, 2, "gbk"),
    "sjis": Charset(CODEC, 2, "shift_jis"),
    "ujis": Charset(CODEC, 3, "euc_jp"),
}
BACKSLASHED = ("sjis", "ujis")  # there the server reads the full-width backslash as the plain one


def of(name: str, place: str) -> Charset:
    """The character set of that name; Halt where we do not know it."""
    charset = CHARSETS.get(name)
    if charset is None:
        hint = "convert the column to utf8mb4 or exclude the table"
        raise Halt("charset", place, f"the character set {name or '(none)'} is not known", hint)
    return charset


@cache
def table(name: str) -> bytes:
    """256 entries of four bytes: the length in UTF-8 (0: no such character), then the UTF-8 bytes."""
    charset = CHARSETS[name]
    changes, out = dict(charset.changes), bytearray()
    for byte in range(256):
        character = changes.get(byte) or codecs.decode(bytes([byte]), charset.codec, "replace")
        encoded = b"" if character == UNDEFINED else character.encode()
        out += bytes([len(encoded)]) + encoded.ljust(3, b"\0")
    return bytes(out)


def to_utf8(name: str, value: bytes) -> bytes | None:
    """The value in UTF-8 by Python's codec; None where the bytes are no text of that set."""
    try:
        text = value.decode(CHARSETS[name].codec)
    except UnicodeDecodeError:
        return None
    if name in BACKSLASHED:
        text = text.replace("＼", "\\")
    return text.encode()
