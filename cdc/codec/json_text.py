"""The rare parts of MySQL's JSON text: doubles, decimals, dates and opaque values,
spelled as the server spells them."""

from __future__ import annotations

import base64
import struct

LINE = 76  # where its base64 breaks; the break is then escaped
FIXED_POINT = 15  # its MAX_DECPT_FOR_F_FORMAT
DECIMAL, DATE, TIME, DATETIMES = 246, 10, 11, (7, 12)


def double_text(value: float) -> bytes:
    """The shortest digits that give the same double, in fixed point or with an exponent by my_gcvt's rule."""
    sign = "-" if str(value).startswith("-") else ""
    digits, point = _digits(abs(value))
    if point > -FIXED_POINT and (point <= FIXED_POINT or len(digits) > point):
        text = _fixed(digits, point)
        return (sign + (text if "." in text else text + ".0")).encode()
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{sign}{mantissa}e{point - 1}".encode()


def _digits(value: float) -> tuple[str, int]:
    """Significant digits and the place of the decimal point before or after them."""
    if value == 0:
        return "0", 1
    mantissa, _, exponent = repr(value).partition("e")
    whole, _, fraction = mantissa.partition(".")
    both = whole + fraction
    point = len(whole) + int(exponent or 0) - (len(both) - len(both.lstrip("0")))
    return both.strip("0"), point


def _fixed(digits: str, point: int) -> str:
    if point <= 0:
        return "0." + "0" * -point + digits
    if point >= len(digits):
        return digits + "0" * (point - len(digits))
    return f"{digits[:point]}.{digits[point:]}"


def opaque_text(kind: int, data: bytes) -> bytes | None:
    """A value JSON has no type for; None where its bytes do not fit its kind."""
    if kind == DECIMAL:
        return _decimal(data)
    if kind in (DATE, TIME, *DATETIMES):
        return _moment(kind, data)
    encoded = base64.b64encode(data)
    lines = [encoded[at : at + LINE] for at in range(0, len(encoded), LINE)]
    return b'"base64:type%d:%s"' % (kind, b"\\n".join(lines))


def _decimal(data: bytes) -> bytes | None:
    if len(data) < 3 or data[0] > 65 or data[1] > data[0]:
        return None
    precision, scale = data[0], data[1]
    sizes = (0, 1, 1, 2, 2, 3, 3, 4, 4, 4)
    groups = [(precision - scale) % 9] + [9] * ((precision - scale) // 9), [9] * (scale // 9) + [scale % 9]
    if len(data) != 2 + sum(sizes[digits] for part in groups for digits in part):
        return None
    negative = not data[2] & 0x80
    plain = bytes([data[2] ^ 0x80]) + data[3:]
    if negative:
        plain = bytes(byte ^ 0xFF for byte in plain)
    texts, at = ["", ""], 0
    for part, widths in enumerate(groups):
        for digits in widths:
            group = int.from_bytes(plain[at : at + sizes[digits]], "big")
            if group >= 10**digits:
                return None
            texts[part] += str(group).zfill(digits) if digits else ""
            at += sizes[digits]
    text = (texts[0].lstrip("0") or "0") + ("." + texts[1] if scale else "")
    return (("-" if negative else "") + text).encode()


def _moment(kind: int, data: bytes) -> bytes | None:
    if len(data) != 8:
        return None
    (packed,) = struct.unpack("<q", data)
    sign, packed = ("-", -packed) if packed < 0 else ("", packed)
    micros, packed = packed & 0xFFFFFF, packed >> 24
    hour, minute, second = packed >> 12 & 31, packed >> 6 & 63, packed & 63
    if micros > 999999 or minute > 59 or second > 59 or (kind != TIME and hour > 23):
        return None
    if kind == TIME:
        return f'"{sign}{packed >> 12 & 1023:02}:{minute:02}:{second:02}.{micros:06}"'.encode()
    day, months = packed >> 17 & 31, packed >> 22
    date = f"{months // 13:04}-{months % 13:02}-{day:02}"
    return (f'"{date}"' if kind == DATE else f'"{date} {hour:02}:{minute:02}:{second:02}.{micros:06}"').encode()
