"""What policies make of values: bytes in, bytes out; plain Python, because only values that do not fit come here.

Capture's side gives Avro forms, the sink's side fields of a COPY tuple without their length, each with the reason under
which the change is counted; None for the field is a null. A key's value is never changed: `Halt`, whatever the policy
says.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cdc.codec import charsets
from cdc.codec.records import avro_long, avro_text
from cdc.errors import Halt
from cdc.model.policies import NUL_SIGN, REPLACEMENT, Policy, local, sentinel_micros
from cdc.model.table import Column

Field = tuple[bytes | None, str]
"""A field's content, None for null, and the reason why it is not the value itself (empty when it is)."""
Choose = Callable[[object], Field]
"""Makes a field of the value as the wire holds it: bytes of a text, or an integer."""

_UNITS = {"utf32": 4, "utf16": 2, "utf16le": 2, "ucs2": 2}
_MOST_JSON, _SMALL_JSON = 255 << 20, 10 << 20
_ESCAPE = re.compile(rb"\\(?:u([0-9A-Fa-f]{4})|.)", re.DOTALL)
_LARGE_NUMBER = re.compile(rb"[0-9][eE][+-]?[0-9]{4,}|[0-9]{10000}")
_BEYOND_THREE_BYTES = re.compile("[\U00010000-\U0010ffff]")
_LARGEST_INT8 = (1 << 63) - 1
_HINT = (
    "choose another policy for the column ([policies] in the configuration), mend the row on the source, "
    "or exclude the table"
)


def sentinel(column: Column) -> bytes:
    """The Avro form of the column's sentinel date; empty for a column that has none."""
    micros = sentinel_micros(column.policy)
    if column.type == "date":
        return avro_long(micros // 86_400_000_000)
    if column.type == "datetime":
        return avro_long(micros // 1000 if column.scale <= 3 else micros)
    if column.type != "timestamp":
        return b""
    day = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)).date()
    return avro_text(
        f"{day.year:04}-{day.month:02}-{day.day:02}T00:00:00{'.' + '0' * column.scale if column.scale else ''}Z"
    )


def replaced(charset: str, value: bytes) -> bytes:
    """Text in UTF-8, with U+FFFD for what is no character of the set."""
    known = charsets.CHARSETS[charset]
    if not known.codec:
        characters = value.decode("utf-8", "replace")
        return (characters if known.max_bytes > 3 else _BEYOND_THREE_BYTES.sub(REPLACEMENT, characters)).encode()
    if known.kind == charsets.TABLE:
        table = charsets.table(charset)
        entries = (table[4 * byte : 4 * byte + 4] for byte in value)
        return b"".join(one[1 : 1 + one[0]] or REPLACEMENT.encode() for one in entries)
    out, at, unit = bytearray(), 0, _UNITS.get(charset, 1)
    while at < len(value):
        found = (
            (n, charsets.to_utf8(charset, value[at : at + n])) for n in range(unit, 5, unit) if at + n <= len(value)
        )
        size, text = next(((n, text) for n, text in found if text), (unit, REPLACEMENT.encode()))
        out += text
        at += size
    return bytes(out)


# The sink's side


def nul_text(policy: Policy, key: bool) -> Choose:
    """A text with a NUL in it."""
    sign = NUL_SIGN.encode() if policy.nul_text == "replace" else b""

    def choose(value: object) -> Field:
        assert isinstance(value, bytes)
        if b"\0" not in value:
            return value, ""
        _demand(key, policy.nul_text, "nul_in_text", "a NUL character, which PostgreSQL's text cannot hold")
        return value.replace(b"\0", sign), "nul_text"

    return choose


def document(policy: Policy, key: bool) -> Choose:
    """A JSON document as jsonb: a version byte and the text."""

    def choose(value: object) -> Field:
        assert isinstance(value, bytes)
        refusal = refused(value)
        if not refusal:
            return b"\1" + value, ""
        _demand(key, policy.refused_json, "refused_json", f"a document that jsonb refuses ({refusal})")
        if policy.refused_json == "null" or refusal == "its size":  # as a string it would be as large
            return None, "refused_json"
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise ValueError("a text that is not UTF-8") from None  # Python's own message shows the value
        return b"\1" + json.dumps(text, ensure_ascii=False).encode(), "refused_json"

    return choose


def refused(text: bytes) -> str:
    """Why jsonb would refuse a well-formed document; empty when it takes it.

    https://www.postgresql.org/docs/current/datatype-json.html. The size is estimated from above: documents close to the
    limit of 255 MB count as beyond it.
    """
    if len(text) > _SMALL_JSON and len(text) + 20 * sum(text.count(one) for one in b",:[{") > _MOST_JSON:
        return "its size"
    if b"\\u" in text and (escape := _refused_escape(text)):
        return escape
    return "a number beyond numeric" if _LARGE_NUMBER.search(text) and _large_number(text) else ""


def _refused_escape(text: bytes) -> str:
    high_at = -1  # where a low surrogate must follow
    for found in _ESCAPE.finditer(text):
        code = int(found[1], 16) if found[1] else -1
        if high_at >= 0 and (found.start() != high_at or not 0xDC00 <= code < 0xE000):
            return "half a surrogate pair"
        if high_at < 0 and 0xDC00 <= code < 0xE000:
            return "half a surrogate pair"
        if code == 0:
            return "\\u0000"
        high_at = found.end() if 0xD800 <= code < 0xDC00 else -1
    return "half a surrogate pair" if high_at >= 0 else ""


def _large_number(text: bytes) -> bool:
    """Whether a number has more digits than numeric: 131072 before the point, 16383 after it."""
    large: list[str] = []

    def check(number: str) -> int:
        digits, _, exponent = number.lower().lstrip("-").partition("e")
        whole, _, part = digits.partition(".")
        power = int(exponent[:12] or 0)
        if len(whole) + max(power, 0) > 131_072 or len(part) + max(-power, 0) > 16_383:
            large.append("")
        return 0

    try:
        json.loads(text, parse_float=check, parse_int=check)
    except (ValueError, RecursionError):
        return False  # not well-formed: the server says so
    return bool(large)


def local_time(policy: Policy, key: bool) -> Choose:
    """Microseconds since 1970 UTC as naive time in the policy's zone."""

    def choose(value: object) -> Field:
        assert isinstance(value, int)
        naive, twice = local(policy.timestamp_zone, value)
        if twice and key:
            _demand(key, "", "ambiguous_time", f"a time that comes twice in {policy.timestamp_zone}")
        return struct.pack(">q", naive - 946_684_800_000_000), "ambiguous_time" if twice else ""

    return choose


def flag(policy: Policy, key: bool) -> Choose:
    """A TINYINT as a boolean; clamped, what is not 0 is true, as MySQL itself reads it."""

    def choose(value: object) -> Field:
        if value in (0, 1):
            return bytes([value == 1]), ""
        _demand(key, policy.over_wide, "over_wide", "a TINYINT that is neither 0 nor 1, which boolean cannot hold")
        return (b"\1" if policy.over_wide == "clamp" else None), "over_wide"

    return choose


def whole(policy: Policy, key: bool) -> Choose:
    """A BIGINT UNSIGNED, as the wire's decimal, as a bigint."""

    def choose(value: object) -> Field:
        assert isinstance(value, bytes)
        if not value:
            raise ValueError("a decimal without bytes")
        number = int.from_bytes(value, "big", signed=True)
        if -_LARGEST_INT8 - 1 <= number <= _LARGEST_INT8:
            return struct.pack(">q", number), ""
        _demand(key, policy.over_wide, "over_wide", "a number beyond bigint")
        return (struct.pack(">q", _LARGEST_INT8) if policy.over_wide == "clamp" else None), "over_wide"

    return choose


def _demand(key: bool, policy: str, code: str, rule: str) -> None:
    """Halt unless the policy lets the value be changed."""
    if key:
        raise Halt(
            code,
            "",
            f"a key column holds {rule}",
            "no policy changes a key: mend the row on the source, or exclude the table",
        )
    if policy == "error":
        raise Halt(code, "", rule, _HINT)


UNFIT = frozenset({"nul_in_text", "refused_json", "over_wide", "ambiguous_time"})
"""Codes of values that cannot be written: the row is named where it is known."""
CHOICES: dict[str, Callable[[Policy, bool], Choose]] = {
    "TO_TEXT_CHOSEN": nul_text,
    "TO_DOCUMENT": document,
    "TO_LOCAL": local_time,
    "TO_FLAG": flag,
    "TO_WHOLE": whole,
}
"""How a field is made, by the opcode's name."""
