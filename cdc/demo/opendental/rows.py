"""Rows of a table as SQL: the generator the load and the workload share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from random import Random

from cdc.demo.opendental.columns import Spec, quoted
from cdc.demo.opendental.tables import BY_NAME, TABLES, rows_at
from cdc.demo.opendental.values import FIRST, literal, pool

Fill = Callable[[int, int], Sequence[str]]
"""(number of the first row, how many) -> one literal per row"""

SCATTER = 0x1F3A_9C4D_7E55_0A3B
"""Odd, so that multiplying by it modulo 2**62 gives every row its own key."""
ALIASES = {
    "Guarantor": "patient",
    "ResponsParty": "patient",
    "Subscriber": "patient",
    "PriProv": "provider",
    "SecProv": "provider",
    "ProvHyg": "provider",
    "ProvTreat": "provider",
    "ProvBill": "provider",
    "ProvDentist": "provider",
    "ProvHygienist": "provider",
    "SecUserNumEntry": "userod",
    "HistUserNum": "userod",
    "Op": "operatory",
    "FeeSched": "feesched",
    "CopayFeeSched": "feesched",
    "Dx": "definition",
    "Priority": "definition",
    "Confirmed": "definition",
    "PayType": "definition",
    "AdjType": "definition",
    "CommType": "definition",
    "DocCategory": "definition",
}
LINKS: dict[str, str] = ALIASES | {spec.key[0]: spec.name for spec in TABLES if spec.rows and spec.columns[0].automatic}
ALWAYS = (
    "PatNum",
    "ProvNum",
    "FeeSched",
    "CodeNum",
    "PayNum",
    "ClaimNum",
    "SheetNum",
    "PerioExamNum",
    "SecurityLogNum",
)
"""Links that are set in every row; any other is 0 ("no link") in a third of them."""


def key_of(spec: Spec, number: int) -> int:
    """The AUTO_INCREMENT key of the table's row `number` (from 1)."""
    if spec.keys == "gaps":
        return number * 3 + number // 100 * 57
    if spec.keys == "scattered":
        return number * SCATTER % 2**62
    return number


class Filler:
    """Makes the rows of one table, the same ones for the same seed, from pools that are built once."""

    def __init__(self, spec: Spec, seed: str, size: float, leave_out: Sequence[str] = ()) -> None:
        self.spec = spec
        self.rng = Random(f"{seed}/{spec.name}")
        self.size = size
        self.names = [c.name for c in spec.columns if c.name not in leave_out]
        self.fills = {name: self._fill(name) for name in self.names}

    def rows(self, first: int, count: int, given: Mapping[str, Sequence[str]] | None = None) -> Iterator[str]:
        """`(..), (..)` rows without the commas; `given` overrides a column by literals that are repeated as needed."""
        given = given or {}
        lists = [
            _cycled(given[name], count) if name in given else self.fills[name](first, count) for name in self.names
        ]
        return (f"({','.join(row)})" for row in zip(*lists, strict=True))

    def insert(
        self, first: int, count: int, given: Mapping[str, Sequence[str]] | None = None, verb: str = "INSERT"
    ) -> str:
        """One statement with `count` rows."""
        return (
            f"{verb} INTO `{self.spec.name}` ({quoted(self.names)}) VALUES {','.join(self.rows(first, count, given))}"
        )

    def _fill(self, name: str) -> Fill:
        special = SPECIAL.get((self.spec.name, name))
        if special:
            return lambda first, count: [special(number) for number in range(first, first + count)]
        column = self.spec.column(name)
        if column.automatic:
            return lambda first, count: [str(key_of(self.spec, number)) for number in range(first, first + count)]
        if name in LINKS and column.base == "bigint":
            return self._link(name)
        choices = pool(column, self.rng)
        return lambda first, count: self.rng.choices(choices, k=count)

    def _link(self, name: str) -> Fill:
        other = BY_NAME[LINKS[name]]
        last, none = rows_at(other, self.size), 0.0 if name in ALWAYS else 0.33

        def fill(first: int, count: int) -> list[str]:
            draw = self.rng.random
            return ["0" if draw() < none else str(key_of(other, int(draw() * last) + 1)) for _ in range(count)]

        return fill


def _cycled(values: Sequence[str], count: int) -> list[str]:
    return [values[n % len(values)] for n in range(count)]


CASES: tuple[Callable[[str], str], ...] = (str.upper, str.lower, str.title)
CATEGORIES = ("production", "Income", "adjustments", "Écart")


def site_code(number: int) -> str:
    """Keys in mixed case and with accents: equal to one another only where they must not be."""
    return literal(CASES[number % 3](f"{CITIES_SHORT[number % 5]}-{number:04}"))


CITIES_SHORT = ("Oak", "Élan", "port", "Mirren", "Straße")

SPECIAL: dict[tuple[str, str], Callable[[int], str]] = {
    ("procedurecode", "ProcCode"): lambda n: f"'D{n:04}'",
    ("preference", "PrefName"): lambda n: f"'Setting{n:04}'",
    ("securityloghash", "SecurityLogNum"): str,
    ("site_code", "SiteCode"): site_code,
    ("site_dailytotal", "Category"): lambda n: literal(CATEGORIES[n % 4]),
    ("site_dailytotal", "ClinicNum"): lambda n: str(n // 4 % 3),
    ("site_dailytotal", "DateTotal"): lambda n: f"'{FIRST + timedelta(n // 12)}'",
    ("fee", "FeeSched"): lambda n: str(n % 6 + 1),
    ("tempimageconv2", "DocNum"): lambda n: str(n // 2),
}
"""Columns whose values must be unique, or must not be chance."""
