"""Which types of a column that is there already hold every value of a planned one, and show it as the same text."""

from __future__ import annotations

import re

_INTEGERS = ("smallint", "integer", "bigint")
_WORDS = re.compile(
    r"(?P<base>[a-z ]+?)(?:\((?P<numbers>[\d,]+)\))?(?P<zone> with(?:out)? time zone)?(?P<array>\[\])?\Z"
)
_STAMP_DIGITS = 6

Kind = tuple[str, tuple[int, ...]]


def holds(planned: str, found: str) -> bool:
    """Whether a column of type `found`, as PostgreSQL describes it, can be written for one that was planned otherwise.

    An integer by a wider one, text by longer text, a moment by one with more digits, a decimal by one with more digits
    before the point (more behind it would show as zeros that the source does not have).
    """
    (base, numbers), (other, others) = _kind(planned), _kind(found)
    if base in _INTEGERS and other in _INTEGERS:
        return _INTEGERS.index(base) <= _INTEGERS.index(other)
    if {base, other} == {"text", "varchar"}:
        return not others
    if base != other:
        return False
    if base == "varchar":
        return not others or (numbers != () and numbers[0] <= others[0])
    if base in ("timestamp", "timestamptz"):
        return (numbers or (_STAMP_DIGITS,)) <= (others or (_STAMP_DIGITS,))
    if base == "numeric" and numbers and others:
        return numbers[0] <= others[0] and numbers[1] == others[1]
    return not others if base == "numeric" else numbers == others


def _kind(text: str) -> Kind:
    """A type in PostgreSQL's words or ours: its short name and its numbers."""
    found = _WORDS.match(text)
    if found is None:
        return text, ()
    base = found["base"].replace("character varying", "varchar") + (found["array"] or "")
    if found["zone"] == " with time zone":
        base += "tz"
    return base, tuple(int(number) for number in (found["numbers"] or "").split(",") if number)
