"""Reading Avro schemas: named types resolved, null branches found, and the program that walks over a value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from cdc.codec import ops
from cdc.errors import Halt

Document = Mapping[str, object]
FIXED = {"int": ops.SKIP_LONG, "long": ops.SKIP_LONG, "string": ops.SKIP_BYTES, "bytes": ops.SKIP_BYTES}
SIZED = {"float": ops.SKIP_4, "double": ops.SKIP_8, "boolean": ops.SKIP_1}
WIDTHS = {"float": 4, "double": 8}


class Names:
    """The named records of one schema document."""

    def __init__(self, schema: Document | None):
        self._known: dict[str, Document] = {}
        if schema is not None:
            for record in _records(schema, ""):
                self._known[record[0]] = record[1]
                self._known.setdefault(record[0].rpartition(".")[2], record[1])

    def plain(self, schema: object) -> Document:
        """The schema without its null branch, a name replaced by what it names."""
        if isinstance(schema, list):
            branches = [branch for branch in schema if branch != "null"]
            if len(schema) != 2 or len(branches) != 1:
                raise Halt("schema", "union", "only unions of null and one type are understood")
            return self.plain(branches[0])
        if isinstance(schema, str):
            return self._known.get(schema, {"type": schema})
        if not isinstance(schema, Mapping):
            raise Halt("schema", "type", "a schema that is neither a name nor a document")
        kind = schema["type"]
        if isinstance(kind, str) and kind in self._known:
            return {**self._known[kind], **{key: value for key, value in schema.items() if key != "type"}}
        return self.plain(kind) if isinstance(kind, (list, Mapping)) else schema

    def fields(self, schema: object) -> dict[str, object]:
        """The fields of a record: name to schema."""
        found = self.plain(schema).get("fields")
        if not isinstance(found, list):
            raise Halt("schema", "record", "a record was expected")
        return {str(field["name"]): field["type"] for field in found}


def _records(schema: object, space: str) -> Iterator[tuple[str, Document]]:
    if isinstance(schema, list):
        for branch in schema:
            yield from _records(branch, space)
    elif isinstance(schema, Mapping):
        if schema.get("type") == "record" and isinstance(schema.get("fields"), list):
            space = str(schema.get("namespace", space))
            yield f"{space}.{schema['name']}", schema
            fields = schema["fields"]
            for field in fields if isinstance(fields, list) else ():
                yield from _records(field["type"], space)
        elif isinstance(schema.get("type"), (list, Mapping)):
            yield from _records(schema["type"], space)


def null_branch(schema: object) -> int:
    """The index of the null branch, -1 without a union."""
    return schema.index("null") if isinstance(schema, list) else -1


def parameters(schema: Document) -> dict[str, str]:
    """The Connect parameters of a schema."""
    found = schema.get("connect.parameters")
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, Mapping) else {}


def program(names: Names, schema: object, mark: Callable[[tuple[str, ...]], int | None]) -> tuple[list[int], list[int]]:
    """Opcodes and numbers that walk over a value; a marked record gets the next mark at its end."""
    steps = _steps(names, schema, (), mark)
    return [op for op, _ in steps], [number for _, number in steps]


def _steps(
    names: Names, schema: object, path: tuple[str, ...], mark: Callable[[tuple[str, ...]], int | None]
) -> list[tuple[int, int]]:
    plain = names.plain(schema)
    steps = _content(names, plain, path, mark)
    number = mark(path) if path else None
    if number is not None:
        last = [(ops.SKIP_MARK, number + 1)] if plain["type"] == "record" else []
        steps = [(ops.SKIP_MARK, number), *steps, *last]
    branch = null_branch(schema)
    return steps if branch < 0 else [(ops.SKIP_UNION, branch | len(steps) << 1), *steps]


def _content(
    names: Names, plain: Document, path: tuple[str, ...], mark: Callable[[tuple[str, ...]], int | None]
) -> list[tuple[int, int]]:
    kind = str(plain["type"])
    if kind == "record":
        return [
            step for name, inner in names.fields(plain).items() for step in _steps(names, inner, (*path, name), mark)
        ]
    if kind == "array" and str(plain.get("items")) in WIDTHS:
        return [(ops.SKIP_ARRAY, WIDTHS[str(plain["items"])])]
    op = FIXED.get(kind) or SIZED.get(kind)
    if op is None:
        raise Halt("schema_type", ".".join(path), f"the Avro type {kind} is not known")
    return [(op, 0)]
