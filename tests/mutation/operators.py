"""Every small wrong change of a module that is worth making, as a replacement of one piece of its text.

A comparison loses its edge or turns round; `and` becomes `or`, or loses a side; `not` goes; a number is one more or one less; True is
False; a condition always or never holds; a statement, an element of a set or a side of a sum is left out; something else is returned;
a reason code or a compared text is empty. Not changed: annotations, docstrings, asserts, texts in words, numbers that a module names
(sizes and times, which tests take from there), and crash points (no-ops but in the crash lane).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass

Replacement = tuple[ast.AST, str]
"""A piece of the module, and the text that takes its place."""

NO_OPS = ("crash.point",)
"""Calls that do nothing here: leaving them out changes nothing."""
ERRORS = ("Halt", "Retry", "Refused", "Malformed", "RowRefused", "Unsupported")
COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt), ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
NAMES = {"any": "all", "all": "any", "min": "max", "max": "min"}
EMPTY = {"str": "''", "bytes": "b''", "int": "0", "float": "0.0", "list": "[]", "dict": "{}", "tuple": "()", "set": "set()",
         "frozenset": "frozenset()", "Mapping": "{}", "Sequence": "()"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module."""

    function: str
    """The outermost function or method that it is in, with its class; "" at the level of a module or class."""
    line: int
    upto: int
    """The lines of the statement, or of its head: a test that runs none of them cannot see the change."""
    before: str
    after: str
    """Those lines before and after, in one line each: with the function they name the mutant, wherever it stands."""
    start: int
    end: int
    text: str
    """What takes the place of the bytes from start to end."""

    def applied(self, source: bytes) -> bytes:
        """The module with the change; its lines keep their numbers."""
        lines = source[self.start : self.end].count(b"\n") - self.text.count("\n")
        return source[: self.start] + self.text.encode() + b"\\\n" * lines + source[self.end :]


def mutants(source: bytes, only: tuple[str, ...] = ()) -> list[Mutant]:
    """Every mutant of a module's source, in the order of its lines; `only`: names of the module to which it is kept."""
    tree = ast.parse(source)
    chosen = [node for node in tree.body if not only or getattr(node, "name", "") in only]
    found = [mutant for node in chosen for mutant in _Maker(source).within(node)]
    unique = {(one.start, one.end, one.text): one for one in found if one.before != one.after}
    return sorted(unique.values(), key=lambda one: (one.line, one.start))


class _Maker:
    def __init__(self, source: bytes) -> None:
        self._source = source
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def within(self, node: ast.stmt, names: tuple[str, ...] = (), function: str = "") -> Iterator[Mutant]:
        """The mutants of a statement and of what stands in it."""
        if _is_docstring(node) or isinstance(node, ast.Assert) or (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            return
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = (*names, node.name)
        head, blocks = _parts(node)
        for piece, text in (*_of_statement(node, bool(function)), *(r for part in head for r in _of_expression(part))):
            if names or (not isinstance(piece, ast.BinOp) and not _is_number(piece)):
                yield self._mutant(node, function, piece, text)
        if isinstance(node, ast.FunctionDef):
            function = function or ".".join(names)
            returns = node.returns
            for each in _own(node):
                if isinstance(each, ast.Return) and each.value is not None:
                    for text in _others(each.value, returns):
                        yield self._mutant(each, function, each.value, text)
        for statement in blocks:
            yield from self.within(statement, names, function)

    def _mutant(self, node: ast.stmt, function: str, piece: ast.AST, text: str) -> Mutant:
        line, upto = _lines(node)
        start, end = self._place(piece)
        first, last = self._starts[line - 1], self._starts[upto]
        if end > last:  # a whole statement with a body is never replaced, but its condition may go on in the next line
            last = self._starts[getattr(piece, "end_lineno", upto)]
        before = self._source[first:last]
        after = self._source[first:start] + text.encode() + self._source[end:last]
        return Mutant(function, line, upto, _flat(before), _flat(after), start, end, text)

    def _place(self, piece: ast.AST) -> tuple[int, int]:
        assert isinstance(piece, ast.expr | ast.stmt)
        assert piece.end_lineno is not None
        assert piece.end_col_offset is not None
        return self._starts[piece.lineno - 1] + piece.col_offset, self._starts[piece.end_lineno - 1] + piece.end_col_offset


def _flat(text: bytes) -> str:
    return " ".join(text.decode().split())


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _lines(node: ast.stmt) -> tuple[int, int]:
    """The lines of a statement; of one with a body, those of its head."""
    body = getattr(node, "body", None)
    end = node.end_lineno or node.lineno
    if body:
        end = max(node.lineno, min(end, body[0].lineno - 1)) if body[0].lineno > node.lineno else node.lineno
    return node.lineno, end


def _parts(node: ast.stmt) -> tuple[list[ast.expr], list[ast.stmt]]:
    """A statement's own expressions, and the statements within it."""
    if isinstance(node, ast.FunctionDef):
        return [*node.args.defaults, *(each for each in node.args.kw_defaults if each)], node.body
    if isinstance(node, ast.ClassDef):
        return [], node.body
    if isinstance(node, ast.AnnAssign):
        return ([node.value] if node.value else []), []
    head = [each for each in ast.iter_child_nodes(node) if isinstance(each, ast.expr)]
    if isinstance(node, ast.With):
        head = [item.context_expr for item in node.items]
    blocks = [each for name in ("body", "orelse", "finalbody") for each in getattr(node, name, ())]
    return head, [*blocks, *(each for handler in getattr(node, "handlers", ()) for each in handler.body)]


def _own(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """What stands in a function and not in one within it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.FunctionDef | ast.Lambda):
            yield node
            waiting += ast.iter_child_nodes(node)


def _of_statement(node: ast.stmt, inside: bool) -> Iterator[Replacement]:
    if isinstance(node, ast.Break):
        yield node, "continue"
    elif isinstance(node, ast.Continue):
        yield node, "break"
    elif isinstance(node, ast.If):
        yield from ((node.test, text) for text in ("True", "False"))
    elif isinstance(node, ast.While):
        yield node.test, "False"
    elif isinstance(node, ast.For):
        yield node.iter, "()"
    elif (
        isinstance(node, ast.Raise)
        or (isinstance(node, ast.Return) and node.value is None)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and ast.unparse(node.value.func) not in NO_OPS)
    ):
        yield node, "pass"
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Yield | ast.YieldFrom):
        yield node, "yield from ()"
    elif isinstance(node, ast.Delete) or (inside and isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None):
        yield node, "pass"
    elif isinstance(node, ast.AugAssign):
        yield node, "pass"
        yield node, f"{ast.unparse(node.target)} = {ast.unparse(node.value)}"
        other = COUNTED.get(type(node.op))
        if other is not None:
            yield node, ast.unparse(ast.AugAssign(node.target, other(), node.value))


def _of_expression(node: ast.AST) -> Iterator[Replacement]:
    if isinstance(node, ast.JoinedStr):  # texts in words; the places of what stands in them are not told truly
        return
    if isinstance(node, ast.Call) and ast.unparse(node.func) in NO_OPS:
        return
    yield from _changed(node)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.comprehension):
            yield from (r for part in (child.iter, *child.ifs) for r in _of_expression(part))
            yield from ((part, text) for part in child.ifs for text in ("True", "False"))
        elif isinstance(child, ast.keyword):
            yield from _of_expression(child.value)
        elif isinstance(child, ast.arguments):
            yield from (r for part in (*child.defaults, *child.kw_defaults) if part for r in _of_expression(part))
        elif isinstance(child, ast.expr):
            yield from _of_expression(child)


def _changed(node: ast.AST) -> Iterator[Replacement]:
    match node:
        case ast.Compare():
            yield from ((node, text) for text in _compared(node))
            for each in (node.left, *node.comparators):
                parts = each.elts if isinstance(each, ast.Tuple | ast.List | ast.Set) else [each]
                yield from ((part, repr(part.value[:0])) for part in parts if _is_text(part) and part.value)  # type: ignore[attr-defined]
                if len(parts) > 1 and all(isinstance(part, ast.Constant) for part in parts):
                    yield from _without_each(each)
        case ast.BoolOp():
            other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield node, _text(ast.BoolOp(other, node.values))
            if not _is_default(node.values[-1]):
                yield from _without_each(node)
        case ast.UnaryOp(op=ast.Not()) | ast.UnaryOp(op=ast.USub(), operand=ast.Name() | ast.Attribute() | ast.Call()):
            yield node, _text(node.operand)
        case ast.Constant(value=bool() as value):
            yield node, str(not value)
        case ast.Constant(value=int() | float() as value):
            yield node, repr(value + 1)
            if value:
                yield node, repr(value - 1)
        case ast.BinOp() if type(node.op) in COUNTED and not _is_text(node.left):
            yield node, _text(ast.BinOp(node.left, COUNTED[type(node.op)](), node.right))
            if isinstance(node.op, ast.Add | ast.Sub | ast.BitOr | ast.BitAnd):
                yield node, _text(node.left)
        case ast.IfExp():
            yield from ((node.test, text) for text in ("True", "False"))
        case ast.Set() | ast.Dict() if len(_elements(node)) > 1:
            yield from _without_each(node)
        case ast.Call(func=ast.Name(id=name)) if name in NAMES:
            yield node.func, NAMES[name]
        case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str()), *_]) if name in ERRORS:
            yield node.args[0], "''"


def _compared(node: ast.Compare) -> Iterator[str]:
    for at, op in enumerate(node.ops):
        for other in COMPARED[type(op)]:
            changed = deepcopy(node)
            changed.ops[at] = other()
            yield _text(changed)


def _elements(node: ast.AST) -> list[ast.expr]:
    return node.values if isinstance(node, ast.Dict | ast.BoolOp) else node.elts  # type: ignore[attr-defined]


def _without_each(node: ast.expr) -> Iterator[Replacement]:
    """Without one of its parts, each in turn."""
    for at in range(len(_elements(node))):
        fewer = deepcopy(node)
        del _elements(fewer)[at]
        if isinstance(fewer, ast.Dict):
            del fewer.keys[at]
        if isinstance(fewer, ast.BoolOp) and len(fewer.values) == 1:
            fewer = fewer.values[0]
        yield node, _text(fewer)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _is_default(node: ast.expr) -> bool:
    """Nothing of its kind, as behind `or` where the type allows None."""
    return (isinstance(node, ast.Constant) and not node.value) or (isinstance(node, ast.Tuple | ast.Dict) and not _elements(node))


def _text(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if isinstance(node, ast.Name | ast.Constant | ast.Call | ast.Attribute | ast.Set | ast.Dict | ast.Tuple) else f"({text})"


def _others(value: ast.expr, returns: ast.expr | None) -> Iterator[str]:
    """What a function may return instead."""
    said = ast.unparse(value)
    kind = "" if returns is None else ast.unparse(returns).partition("[")[0]
    others = ("True", "False") if kind == "bool" else (EMPTY.get(kind, "None"),)
    yield from (text for text in others if text != said)
