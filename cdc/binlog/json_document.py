"""MySQL's binary JSON as a tree that logged differences are applied to, and as bytes again. Pure.

Scalars stay the bytes that they are: nothing is rounded or spelled anew. What comes out has the wide form throughout,
with the members of each object in MySQL's order (shorter names first); so it reads as the same text as the server's own
bytes.

https://dev.mysql.com/doc/dev/mysql-server/latest/json__diff_8h.html and json_binary.h of the server
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from cdc.binlog.event_bodies import lenenc
from cdc.errors import Malformed

_OBJECT, _ARRAY = (0, 1), (2, 3)
_LITERAL, _STRING, _OPAQUE = 4, 12, 15
_SIZES = {_LITERAL: 1, 5: 2, 6: 2, 7: 4, 8: 4, 9: 8, 10: 8, 11: 8}
_DEPTH = 110
_REPLACE, _INSERT, _REMOVE = range(3)
_LEG = re.compile(rb'\.("(?:[^"\\]|\\.)*"|[^.\["]+)|\[(?:(\d+)|last(?:-(\d+))?)\]', re.DOTALL)


class Scalar(NamedTuple):
    """A value that is neither object nor array: its type, and its bytes as they stand outside of a container."""

    type: int
    data: bytes


Node = dict[bytes, "Node"] | list["Node"] | Scalar
Leg = bytes | tuple[bool, int]
"""A member's name, or whether an element is counted from the end, and its number."""


def tree(document: bytes) -> Node:
    """A document's bytes as a tree; those of no length are the literal null."""
    if not document:
        return Scalar(_LITERAL, b"\0")
    return _Parser(document).value(document[0], 1, len(document), 1)


class _Parser:
    """Reads one document; more values than it has bytes cannot be in it."""

    def __init__(self, data: bytes) -> None:
        self._data, self._left = data, len(data)

    def _number(self, at: int, size: int) -> int:
        return int.from_bytes(self._data[at : at + size], "little")

    def value(self, kind: int, at: int, end: int, depth: int) -> Node:
        self._left -= 1
        if self._left < 0 or at > end or depth > _DEPTH:
            raise _damaged("more or deeper values than it can")
        if kind <= 3:
            return self._container(kind, at, end, depth)
        size = _SIZES.get(kind) or self._length(kind, at, end)
        if at + size > end:
            raise _damaged("a value that does not end")
        return Scalar(kind, self._data[at : at + size])

    def _length(self, kind: int, at: int, end: int) -> int:
        """Of a string or an opaque value, with its head."""
        if kind not in (_STRING, _OPAQUE):
            raise _damaged("a value of an unknown type")
        start, at = at, at + (kind == _OPAQUE)
        length = shift = 0
        while True:
            if at >= end or shift > 28:
                raise _damaged("a length that does not end")
            length |= (self._data[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if self._data[at - 1] < 0x80:
                return at - start + length

    def _container(self, kind: int, base: int, end: int, depth: int) -> Node:
        wide = 4 if kind & 1 else 2
        count, size = self._number(base, wide), self._number(base + wide, wide)
        named = wide + 2 if kind in _OBJECT else 0
        if end - base < 2 * wide or size > end - base or count * (named + 1 + wide) > size - 2 * wide:
            raise _damaged("a container that is longer than its document")
        keys = base + 2 * wide
        values = [
            self._entry(base, keys + count * named + i * (1 + wide), base + size, wide, depth) for i in range(count)
        ]
        if kind in _ARRAY:
            return values
        return {self._key(base, keys + i * named, size, wide): value for i, value in enumerate(values)}

    def _key(self, base: int, at: int, size: int, wide: int) -> bytes:
        where, length = self._number(at, wide), self._number(at + wide, 2)
        if where + length > size:
            raise _damaged("a key outside of it")
        return self._data[base + where : base + where + length]

    def _entry(self, base: int, at: int, end: int, wide: int, depth: int) -> Node:
        kind = self._data[at]
        if kind in (_LITERAL, 5, 6) or (wide == 4 and kind in (7, 8)):
            return self.value(kind, at + 1, at + 1 + wide, depth + 1)
        return self.value(kind, base + self._number(at + 1, wide), end, depth + 1)


def document(node: Node) -> bytes:
    """The tree as a document's bytes."""
    return bytes([_kind(node)]) + _body(node)


def _kind(node: Node) -> int:
    return node.type if isinstance(node, Scalar) else _OBJECT[1] if isinstance(node, dict) else _ARRAY[1]


def _body(node: Node) -> bytes:
    if isinstance(node, Scalar):
        return node.data
    keys = sorted(node, key=lambda key: (len(key), key)) if isinstance(node, dict) else []
    values = [node[key] for key in keys] if isinstance(node, dict) else node
    at = 8 + len(keys) * 6 + len(values) * 5
    named, entries, tail = bytearray(), bytearray(), bytearray()
    for key in keys:
        named += (at + len(tail)).to_bytes(4, "little") + len(key).to_bytes(2, "little")
        tail += key
    for value in values:
        kind = _kind(value)
        entries.append(kind)
        body = _body(value)
        if 4 <= kind <= 8:
            entries += body.ljust(4, b"\0")
        else:
            entries += (at + len(tail)).to_bytes(4, "little")
            tail += body
    return len(values).to_bytes(4, "little") + (at + len(tail)).to_bytes(4, "little") + bytes(named + entries + tail)


def patched(before: bytes, differences: bytes) -> bytes:
    """The document after the differences that the log holds, from the one before them;
    malformed where one has no place in it."""
    root = tree(before)
    for operation, path, value in _differences(differences):
        root = _applied(root, operation, _legs(path), value)
    return document(root)


def _differences(data: bytes) -> Iterator[tuple[int, bytes, Node | None]]:
    at = 0
    while at < len(data):
        operation = data[at]
        path, at = _text(data, at + 1)
        value = None
        if operation != _REMOVE:
            raw, at = _text(data, at)
            value = tree(raw)
        yield operation, path, value


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    if at >= len(data):
        raise _damaged("a difference that does not end")
    length, at = lenenc(data, at)
    if at + length > len(data):
        raise _damaged("a difference that does not end")
    return data[at : at + length], at + length


def _legs(path: bytes) -> list[Leg]:
    legs: list[Leg] = []
    at = 1
    while at < len(path):
        leg = _LEG.match(path, at)
        if leg is None:
            raise _damaged("a path of unknown form")
        name, number, back = leg.groups()
        if name is None:
            legs.append((number is None, int(number or back or 0)))
        else:
            legs.append(_unquoted(name) if name.startswith(b'"') else name)
        at = leg.end()
    return legs


def _unquoted(name: bytes) -> bytes:
    try:
        return str(json.loads(name, strict=False)).encode()
    except ValueError:
        raise _damaged("a name that is not valid") from None


def _applied(root: Node, operation: int, legs: list[Leg], value: Node | None) -> Node:
    if not legs:
        if operation != _REPLACE or value is None:
            raise _damaged("a difference of the whole")
        return value
    parent = root
    for leg in legs[:-1]:
        parent = _child(parent, leg)
    if operation == _INSERT and value is not None:
        _insert(parent, legs[-1], value)
    elif operation == _REPLACE and value is not None:
        _child(parent, legs[-1])
        _put(parent, legs[-1], value)
    elif operation == _REMOVE:
        _child(parent, legs[-1])
        _remove(parent, legs[-1])
    else:
        raise _damaged("a difference of an unknown kind")
    return root


def _place(node: list[Node], leg: tuple[bool, int]) -> int:
    from_end, number = leg
    return len(node) - 1 - number if from_end else number


def _child(node: Node, leg: Leg) -> Node:
    if isinstance(leg, bytes) and isinstance(node, dict) and leg in node:
        return node[leg]
    if isinstance(leg, tuple) and isinstance(node, list) and 0 <= _place(node, leg) < len(node):
        return node[_place(node, leg)]
    raise _damaged("a path that leads nowhere")


def _put(node: Node, leg: Leg, value: Node) -> None:
    if isinstance(leg, bytes) and isinstance(node, dict):
        node[leg] = value
    elif isinstance(leg, tuple) and isinstance(node, list):
        node[_place(node, leg)] = value


def _insert(node: Node, leg: Leg, value: Node) -> None:
    if isinstance(leg, bytes) and isinstance(node, dict) and leg not in node:
        node[leg] = value
    elif isinstance(leg, tuple) and isinstance(node, list):
        node.insert(max(0, _place(node, leg)), value)  # beyond the end: at the end
    else:
        raise _damaged("a new value without a place")


def _remove(node: Node, leg: Leg) -> None:
    if isinstance(leg, bytes) and isinstance(node, dict):
        del node[leg]
    elif isinstance(leg, tuple) and isinstance(node, list):
        del node[_place(node, leg)]


def _damaged(what: str) -> Malformed:
    return Malformed(
        "json", "partial JSON update", f"a document holds {what}", "the log is damaged, or of a newer server"
    )
