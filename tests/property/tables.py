"""Random tables and what is done to them: everything follows from (seed, number) and from what the server has.

A case is data until it is rendered, so that `shrink` can take columns and statements away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random

from tests.property.kinds import KINDS, NOT_IN_KEYS, Server, Spec, kinds_of

ENGINES = {"mariadb": ["InnoDB"] * 6 + ["MyISAM"] * 3 + ["Aria"], "mysql": ["InnoDB"] * 6 + ["MyISAM"] * 4}
MODES = (
    "",
    "ALLOW_INVALID_DATES",
    "STRICT_ALL_TABLES",
    "STRICT_TRANS_TABLES,NO_ZERO_IN_DATE",
    "NO_AUTO_VALUE_ON_ZERO",
    "NO_BACKSLASH_ESCAPES",
)
ZONES = ("+00:00", "+05:30", "-11:00", "SYSTEM")
_NAMES = (
    "id", "Id", "select", "Order", "ctid", "xmin", "{c}", "{n}", "{", "}", "%s", "%", "a b", "a_b", "a.b", "a-b", "dol$lar", 'dou"ble',
    "sing'le", "back`tick", "back\\slash", "line\nbreak", ";--", "/*x*/", "?", "$1", "before", "after", "n0",
    "na\u00efve", "\u0416\u0443\u043a",
    "\u65e5\u672c", "\u0416" * 60, "x" * 60, "\u00e9" * 58, "oid", "user", "NULL", "true", "1a", "_", "t_pkey", "loaded", "\uff3f",
)  # fmt: skip
Row = dict[str, str]
"""Literals by column."""


def quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


@dataclass(frozen=True)
class Place:
    """A column."""

    name: str
    spec: Spec
    nullable: bool = True
    more: str = ""
    """What follows NOT NULL: DEFAULT, INVISIBLE, a comment."""
    generated: str = ""

    @property
    def ddl(self) -> str:
        if self.generated:
            return f"{quoted(self.name)} {self.spec.ddl} {self.generated}"
        return f"{quoted(self.name)} {self.spec.ddl}{' NULL' if self.nullable else ' NOT NULL'}{self.more}"


@dataclass(frozen=True)
class Index:
    """An index over columns by name, each with the length of its prefix."""

    words: str
    columns: tuple[tuple[str, int], ...]

    @property
    def ddl(self) -> str:
        return f"{self.words} ({', '.join(quoted(name) + (f'({size})' if size else '') for name, size in self.columns)})"


@dataclass(frozen=True)
class Shape:
    """A table."""

    name: str
    columns: tuple[Place, ...]
    indexes: tuple[Index, ...]
    options: str

    @property
    def ddl(self) -> str:
        parts = [*(one.ddl for one in self.columns), *(one.ddl for one in self.indexes)]
        return f"CREATE TABLE {quoted(self.name)} ({', '.join(parts)}) {self.options}"

    @property
    def key(self) -> list[str]:
        return [name for index in self.indexes[:1] for name, _ in index.columns]

    @property
    def stored(self) -> list[Place]:
        return [one for one in self.columns if not one.generated]

    def without(self, name: str) -> Shape | None:
        """The shape less a column; None when the table hangs on it."""
        if name in self.key:
            return None
        columns = tuple(one for one in self.columns if one.name != name and quoted(name) not in one.generated)
        indexes = tuple(one for one in self.indexes if name not in [column for column, _ in one.columns])
        return replace(self, columns=columns, indexes=indexes) if columns else None


@dataclass(frozen=True)
class Change:
    """A statement: rows put, changed or taken."""

    verb: str
    rows: tuple[Row, ...] = ()
    sets: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, str] = field(default_factory=dict)
    tail: str = ""

    def sql(self, shape: Shape) -> str:
        """The statement for the columns that the shape still has; empty when nothing is left of it."""
        table, there = quoted(shape.name), {one.name for one in shape.stored}
        sets = ", ".join(f"{quoted(name)} = {value}" for name, value in self.sets.items() if name in there)
        where = " AND ".join(f"{quoted(name)} <=> {value}" for name, value in self.where.items() if name in there)
        condition = f" WHERE {where}" if where else ""
        if self.verb == "UPDATE":
            return f"UPDATE {table} SET {sets}{condition}{self.tail}" if sets else ""
        if self.verb == "DELETE":
            return f"DELETE FROM {table}{condition}{self.tail}"
        names = [name for name in (self.rows[0] if self.rows else [one.name for one in shape.stored]) if name in there]
        listed = ", ".join(map(quoted, names))
        if not self.rows:
            return f"{self.verb} {table} ({listed}) SELECT {listed} FROM {table} LIMIT 3"
        values = ", ".join(f"({', '.join(row[name] for name in names)})" for row in self.rows)
        duplicate = f" ON DUPLICATE KEY UPDATE {sets}" if sets else ""
        return f"{self.verb} {table} ({listed}) VALUES {values}{duplicate}"


@dataclass(frozen=True)
class Group:
    """Statements of one transaction, or by themselves."""

    changes: tuple[Change, ...]
    begun: bool = False
    savepoint: tuple[int, int] | None = None
    """Before which statement it is set, and before which one rolled back to."""
    end: str = "COMMIT"
    mode: str = ""
    zone: str = "+00:00"

    def sql(self, shape: Shape) -> list[str]:
        done = [f"SET sql_mode = '{self.mode}', time_zone = '{self.zone}'", *(["START TRANSACTION"] if self.begun else [])]
        for at, change in enumerate(self.changes):
            if self.savepoint is not None:
                done += ["SAVEPOINT s"] * (at == self.savepoint[0]) + ["ROLLBACK TO SAVEPOINT s"] * (at == self.savepoint[1])
            done.append(change.sql(shape))
        return [one for one in done if one] + [self.end] * self.begun


@dataclass(frozen=True)
class Case:
    """One table, the rows that are copied, and the changes that are streamed."""

    kind: str
    """Of server."""
    seed: int
    number: int
    shape: Shape
    first: tuple[Group, ...]
    later: tuple[Group, ...]

    @property
    def place(self) -> str:
        return f"{self.kind} {self.seed} {self.number}"


def case(server: Server, seed: int, number: int) -> Case:
    """The table and its life."""
    random = Random(f"{server.flavour} {seed} {number}")
    shape = _shape(random, server, number)
    known: list[Row] = []
    first = tuple(_group(random, shape, known, 0.0) for _ in range(random.choice([0, 1, 2, 4])))
    later = tuple(_group(random, shape, known, 0.6) for _ in range(random.randint(3, 8)))
    return Case(server.kind or server.flavour, seed, number, shape, first, later)


# -- shapes ---------------------------------------------------------------------------------------------------------------


def _shape(random: Random, server: Server, number: int) -> Shape:
    names = _names(random)
    key = [_column(random, server, next(names), key=True) for _ in range(random.choice([0, 1, 1, 1, 1, 2, 3]))]
    columns = key + [_column(random, server, next(names)) for _ in range(random.choice([0, 1, 2, 4, 8]) or (not key))]
    if random.random() < 0.3:
        columns.append(_generated(random, next(names), random.choice(columns)))
    random.shuffle(columns)
    indexes = _keys(random, key, next(names))
    engine = random.choice(ENGINES[server.flavour])
    return Shape(
        _table_name(random, number), tuple(columns), indexes, f"ENGINE={engine} CHARACTER SET {random.choice(['utf8mb4', 'latin1'])}"
    )


def _names(random: Random) -> Iterator[str]:
    """Names that differ for every server's ideas of upper and lower case and of accents."""
    number = 0
    while True:
        number += 1
        name = random.choice(_NAMES)
        yield name if number == 1 else f"{name}{number}"


def _table_name(random: Random, number: int) -> str:
    name = random.choice(_NAMES) if random.random() < 0.5 else "t"
    size = sum(1 if char.isascii() and (char.isalnum() or char == "_") else 5 for char in name)
    return f"t {number}" if size > 200 else f"{name}{number}"


def _column(random: Random, server: Server, name: str, *, key: bool = False) -> Place:
    kinds = [kind for kind in kinds_of(server) if not (key and kind in NOT_IN_KEYS)]
    spec = KINDS[random.choice([*kinds, "int", "bigint", "varchar"] if key else kinds)](random, server, key)
    if key:
        return Place(name, spec, False)
    nullable = random.random() < 0.6
    more = f" DEFAULT {_plain(random, spec)}" if spec.default and random.random() < 0.3 and _plain(random, spec) else ""
    more += random.choice(["", "", "", " COMMENT 'it''s {c} %s'"])
    if nullable and random.random() < 0.1:
        more += " INVISIBLE"
    return Place(name, spec, nullable, more)


def _plain(random: Random, spec: Spec) -> str:
    """A literal that may be a DEFAULT whatever sql_mode says."""
    return next((one for one in spec.edges if one.isdigit() and len(one) < 3 and spec.kind.split()[0].endswith("int")), "")


def _generated(random: Random, name: str, of: Place) -> Place:
    """A column made of another; never of the text of a TIMESTAMP, which is another one in each session's time zone."""
    column = quoted(of.name)
    made = [("int", f"({column} IS NULL)"), ("bigint", f"LENGTH({column})"), ("varchar(60)", f"LEFT(HEX({column}), 50)")]
    kind, expression = random.choice(made[:1] if of.spec.kind == "timestamp" else made)
    spec = Spec("generated", kind, (), lambda r: "")
    return Place(name, spec, True, "", f"GENERATED ALWAYS AS ({expression}) {random.choice(['VIRTUAL', 'STORED'])}")


def _keys(random: Random, key: Sequence[Place], name: str) -> tuple[Index, ...]:
    if not key:
        return ()
    parts = tuple((one.name, one.spec.prefix) for one in random.sample(key, len(key)))
    unique = Index(f"UNIQUE KEY {quoted(name[:60])}", parts)
    first = random.choice([Index("PRIMARY KEY", parts)] * 4 + [unique])
    second = Index(f"UNIQUE KEY {quoted('second ' + name[:50])}", parts[:1])
    return (first, second) if len(parts) > 1 and random.random() < 0.2 else (first,)


# -- changes --------------------------------------------------------------------------------------------------------------


def _row(random: Random, shape: Shape) -> Row:
    return {one.name: "NULL" if one.nullable and random.random() < 0.15 else one.spec.literal(random) for one in shape.stored}


def _partial(random: Random, shape: Shape) -> list[str]:
    """The columns of an INSERT: all of them, or those that must be there."""
    if random.random() < 0.7:
        return [one.name for one in shape.stored]
    return [one.name for one in shape.stored if one.name in shape.key or random.random() < 0.6]


def _insert(random: Random, shape: Shape, known: list[Row]) -> Change:
    rows = [_row(random, shape) for _ in range(random.choice([1, 1, 2, 5, 20]))]
    known += rows
    del known[:-40]
    names = _partial(random, shape)
    verb = random.choice(["INSERT", "INSERT", "INSERT IGNORE", "INSERT IGNORE", "REPLACE", "INSERT"])
    sets = _sets(random, shape) if verb == "INSERT" and random.random() < 0.3 else {}
    return Change(verb, tuple({name: row[name] for name in names} for row in rows), sets)


def _sets(random: Random, shape: Shape) -> Row:
    row = _row(random, shape)
    names = random.sample(sorted(row), random.randint(1, len(row)))
    return {name: row[name] for name in names if name not in shape.key or random.random() < 0.4} or {names[0]: row[names[0]]}


def _where(random: Random, shape: Shape, known: list[Row]) -> Row:
    if not known or random.random() < 0.3:
        return {}
    row = random.choice(known)
    return {name: row[name] for name in (shape.key or sorted(row)[:1])}


def _update(random: Random, shape: Shape, known: list[Row]) -> Change:
    return Change("UPDATE", (), _sets(random, shape), _where(random, shape, known), random.choice(["", " LIMIT 1", " LIMIT 5"]))


def _delete(random: Random, shape: Shape, known: list[Row]) -> Change:
    where = _where(random, shape, known)
    return Change("DELETE", (), {}, where, "" if where else random.choice([" LIMIT 1", " LIMIT 3"]))


def _swap(random: Random, shape: Shape, known: list[Row]) -> list[Change]:
    """Two rows take each other's keys by way of a third."""
    if not shape.key or len(known) < 2:
        return [_update(random, shape, known)]
    one, other = ({name: row[name] for name in shape.key} for row in random.sample(known, 2))
    third = {name: value for name, value in _row(random, shape).items() if name in shape.key}
    return [Change("UPDATE", (), to, of) for of, to in ((one, third), (other, one), (third, other))]


def _group(random: Random, shape: Shape, known: list[Row], changing: float) -> Group:
    changes: list[Change] = []
    for _ in range(random.choice([1, 1, 2, 3, 5])):
        dice = random.random()
        if dice > changing:
            changes.append(_insert(random, shape, known))
        elif dice < changing * 0.5:
            changes.append(_update(random, shape, known))
        elif dice < changing * 0.7:
            changes.append(_delete(random, shape, known))
        elif dice < changing * 0.85:
            changes += _swap(random, shape, known)
        else:
            changes.append(Change("INSERT" if not shape.key else "REPLACE"))
    begun = len(changes) > 1 and random.random() < 0.6
    cuts = sorted(random.sample(range(len(changes) + 1), 2)) if begun and random.random() < 0.5 else None
    end = "ROLLBACK" if begun and random.random() < 0.2 else "COMMIT"
    return Group(tuple(changes), begun, (cuts[0], cuts[1]) if cuts else None, end, random.choice(MODES), random.choice(ZONES))
