"""The shape of a table, written once: the CREATE TABLE and the row generator both read it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

SENTINEL_DATE = "0001-01-01"
STAMP = "timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP"
DIALECTS = {
    "latin1": " CHARACTER SET latin1",
    "utf8mb4": " CHARACTER SET utf8mb4",
    "bin": " CHARACTER SET utf8mb3 COLLATE utf8mb3_bin",
    "": "",
}
UNSET = {"varchar": "", "char": "", "date": SENTINEL_DATE, "datetime": f"{SENTINEL_DATE} 00:00:00", "time": "00:00:00"}
NUMBERS = ("tinyint", "smallint", "int", "bigint", "double", "float", "decimal")


@dataclass(frozen=True, slots=True)
class PracticeColumn:
    """A column; `base` is its type's first word, `charset` is empty where the table's default (utf8mb3) holds."""

    name: str
    type: str
    base: str
    nullable: bool = False
    charset: str = ""
    automatic: bool = False
    """An AUTO_INCREMENT key."""

    @property
    def length(self) -> int:
        found = re.search(r"\((\d+)", self.type)
        return int(found[1]) if found else 0

    @property
    def labels(self) -> list[str]:
        return re.findall(r"'([^']*)'", self.type)

    def ddl(self) -> str:
        if self.automatic:
            return f"`{self.name}` {self.type} NOT NULL AUTO_INCREMENT"
        if self.base == "timestamp":
            return f"`{self.name}` {STAMP}"
        rest = " DEFAULT NULL" if self.nullable else " NOT NULL" + self._default()
        return f"`{self.name}` {self.type}{DIALECTS[self.charset]}{rest}"

    def _default(self) -> str:
        """A default like the application's own; texts, blobs and JSON may have none in MySQL."""
        if self.base in NUMBERS:
            return " DEFAULT 0"
        return f" DEFAULT '{UNSET[self.base]}'" if self.base in UNSET else ""


@dataclass(frozen=True)
class Spec:
    """A table: `text` has one line per run of columns, `type[?] [charset]: Name Name ..`; `?` allows NULL; `key:` is
    AUTO_INCREMENT.

    `rows` is what size 1 holds; `fixed` tables (lists and settings) do not grow with the size. `keys` tells how key
    values lie: one after another, with gaps, or scattered over 62 bits (sites that use random keys). `primary`
    overrides the key's columns.
    """

    name: str
    rows: int
    text: str
    fixed: bool = False
    keys: str = "dense"
    primary: tuple[str, ...] = ()
    unique: tuple[str, ...] = ()
    index: tuple[str, ...] = ()

    @cached_property
    def columns(self) -> tuple[PracticeColumn, ...]:
        return tuple(c for line in self.text.strip().splitlines() for c in parse_line(line))

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The primary key's columns, in key order; empty when the table has none."""
        return self.primary or tuple(c.name for c in self.columns if c.automatic)

    def column(self, name: str) -> PracticeColumn:
        return next(c for c in self.columns if c.name == name)

    def ddl(self, engine: str) -> str:
        parts = [c.ddl() for c in self.columns]
        parts += [f"PRIMARY KEY ({quoted(self.key)})"] if self.key else []
        parts += [f"UNIQUE KEY `u_{name}` (`{name}`)" for name in self.unique]
        parts += [f"KEY `i_{name}` (`{name}`)" for name in self.index]
        body = ",\n  ".join(parts)
        return (
            f"CREATE TABLE `{self.name}` (\n  {body}\n) ENGINE={engine} DEFAULT CHARSET=utf8mb3 "
            "COLLATE=utf8mb3_general_ci"
        )


def parse_line(line: str) -> list[PracticeColumn]:
    """The columns of one line of a Spec's text."""
    head, _, names = line.strip().partition(": ")
    if head == "key":
        return [PracticeColumn(name, "bigint(20)", "bigint", automatic=True) for name in names.split()]
    kind, charset = head, ""
    if head.rsplit(" ", 1)[-1] in DIALECTS:
        kind, charset = head.rsplit(" ", 1)
    nullable = kind.endswith("?")
    kind = kind.removesuffix("?")
    base = re.split(r"[ (]", kind)[0]
    return [PracticeColumn(name, kind, base, nullable, charset) for name in names.split()]


def quoted(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
