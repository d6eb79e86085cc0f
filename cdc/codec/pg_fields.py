"""Fields of a binary COPY tuple that are rare enough for plain Python; each comes with its length."""

from __future__ import annotations

import ipaddress
import struct
import uuid


def numeric_field(unscaled: bytes, scale: int) -> bytes:
    """A decimal of any size."""
    value = int.from_bytes(unscaled, "big", signed=True)
    digits = str(abs(value)).rjust(scale + 1, "0")
    whole, part = (digits[:-scale], digits[-scale:]) if scale else (digits, "")
    whole, part = whole.rjust(-(-len(whole) // 4) * 4, "0"), part.ljust(-(-len(part) // 4) * 4, "0")
    groups = [int(text[i : i + 4]) for text in (whole, part) for i in range(0, len(text), 4)]
    weight = len(whole) // 4 - 1
    while groups and groups[-1] == 0:
        groups.pop()
    while groups and groups[0] == 0:
        groups.pop(0)
        weight -= 1
    weight = weight if groups else 0
    sign = 0x4000 if value < 0 else 0
    return struct.pack(f">ihhHH{len(groups)}h", 8 + 2 * len(groups), len(groups), weight, sign, scale, *groups)


def uuid_field(text: bytes) -> bytes:
    """A uuid."""
    try:
        return b"\0\0\0\x10" + uuid.UUID(text.decode("ascii")).bytes
    except ValueError:
        raise ValueError("a uuid that is none") from None


def inet_field(text: bytes) -> bytes:
    """An address with its full mask."""
    try:
        address = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        raise ValueError("an address that is none") from None  # Python's own message shows the value
    family, bits = (2, 32) if address.version == 4 else (3, 128)
    packed = address.packed
    return struct.pack(">iBBBB", 4 + len(packed), family, bits, 0, len(packed)) + packed
