"""Invented values as SQL literals, chosen by a column's name, then by its type.

Each column draws from a pool made once: `random.choices` over ready literals makes a wide row in microseconds, so the
server is the bottleneck. Every person, address and number here is made up (555-01 numbers, example.com, SSNs that start
with 000).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from random import Random

from cdc.demo.opendental.columns import SENTINEL_DATE, PracticeColumn

Pool = Callable[[PracticeColumn, Random], list[str]]
FIRST = date(2012, 1, 2)
START = datetime.fromisoformat(FIRST.isoformat())
OLD = ("DateOriginalProsth", "PriorDate", "AdmitDate", "DateTPrevious", "DateCreated", "ConvDate")
"""Columns in which rows from before the sentinel dates still hold '0000-00-00'."""

LAST_NAMES = (
    "Abernath Bellwood Castellan Dunmore Eskridge Fairholt O'Grange Hollowell Ibarrow Jessup-Lane Kettleby "
    "Łukasik Müllerau"
)
LAST_NAMES += (
    " Ngữyen Örneberg Peñalva Quillfeather Ravensby Søndergard Tremayne Ulverston Vašekova Whitlocke "
    "Xiberras Yarrowby Zoëlle"
)
FIRST_NAMES = (
    "Ada Bram Célia Dov Edda Finn Greta Håkon Ines João Kaya Lior Mirë Nils Oona Piet Renée Sven Tamsin Uri "
    "Vera Wim Yara Zeno"
)
STREETS = "Acorn Birch Cedar Dogwood Elm Fern Gable Heron Ivy Juniper Knoll Larch"
CITIES = "Springvale,Oak Hollow,Port Ashby,Lake Mirren,Stonebridge,Élan Falls,Nørreby,Westmarch"
NOTE = (
    "patient reports sensitivity to cold on the lower left; discussed options, consented, "
    "anesthetic given without incident; recheck in "
)
NOTE += (
    "two weeks, will call to confirm; insurance estimate explained; balance moved per policy; crown prep, "
    "temp cemented, shade A2"
)
WORDS = NOTE.split()
ODD = ["it's", 'said "ouch"', "50% off", "C:\\images\\", "line\nbreak", "tab\there", "a|b,c;d", "NULL", "\\N", "{}"]
ODD += ["naïve", "£20", "déjà vu", "½ tab"]
WIDE = ["日本語", "Привет", "שלום", "ﬁne", "Å→B"]
LAST = {"utf8mb4": "\U0010ffff", "latin1": "\u00ff"}
"""The last character of a character set; utf8mb3, everybody else's, ends with the basic plane."""
EMOJI = ["😁", "🦷🪥", "👩🏽‍⚕️ ok", "👍🏿", "𝒩ote"]


def literal(text: str) -> str:
    """A string literal under sql_mode='' (backslash escapes on)."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def literals(texts: Iterable[str], column: PracticeColumn) -> list[str]:
    """The texts that the column's character set can hold, cut to its length, as literals."""
    limit = column.length or 4000
    return [literal(text[:limit]) for text in texts if fits(text, column.charset)]


def fits(text: str, charset: str) -> bool:
    return max(text, default="") <= LAST.get(charset, "\uffff")


def words(rng: Random, column: PracticeColumn) -> str:
    """A line of notes: mostly plain, now and then quotes, accents, other scripts,
    and emoji where the column can hold them."""
    some = rng.choices(WORDS, k=rng.randint(1, 12))
    extra = ODD + (WIDE if column.charset != "latin1" else []) + (EMOJI * 2 if column.charset == "utf8mb4" else [])
    if rng.random() < 0.3:
        some.insert(rng.randrange(len(some) + 1), rng.choice(extra))
    return " ".join(some)


# pools by name


def listed(values: str, separator: str | None = None) -> Pool:
    return lambda column, rng: literals(values.split(separator), column)


def made(make: Callable[[Random], str], empty: float = 0.0) -> Pool:
    """200 values from `make`, a share of them empty."""
    return lambda column, rng: literals(("" if rng.random() < empty else make(rng) for _ in range(200)), column)


def address(rng: Random) -> str:
    return f"{rng.randint(1, 999)} {rng.choice(STREETS.split())} {rng.choice(('St', 'Ave', 'Wäg', 'Lane'))}"


def phone(rng: Random) -> str:
    return f"({rng.randint(200, 999)})555-01{rng.randint(0, 99):02}"


def email(rng: Random) -> str:
    return f"{rng.choice(FIRST_NAMES.split()).lower()}.{rng.randint(1, 9999)}@example.com"


def birthdates(column: PracticeColumn, rng: Random) -> list[str]:
    days = (date(1928, 2, 29) + timedelta(rng.randrange(35_000)) for _ in range(400))
    return [f"'{SENTINEL_DATE}'"] * 4 + [f"'{day}'" for day in days]


def colours(column: PracticeColumn, rng: Random) -> list[str]:
    """.NET colours: negative, because the alpha byte is the sign."""
    return ["-1", "0", "-16777216", *(str(-rng.randrange(16_777_216)) for _ in range(20))]


BY_NAME: tuple[tuple[str, Pool], ...] = (
    (r"LName|EmpName|MedName", listed(LAST_NAMES)),
    (r"FName|Preferred|MiddleI|MName|MI", listed(FIRST_NAMES)),
    (r"Address2?", made(address, 0.1)),
    (r"City|County", listed(CITIES, ",")),
    (r"State|ST|AccidentST", listed("OR TX WA NY")),
    (r"Zip", made(lambda rng: f"00{rng.randrange(1000):03}", 0.05)),
    (r".*(Phone|Telephone)", made(phone, 0.3)),
    (r"Email(Work)?|EMail|EmailAddress", made(email, 0.2)),
    (r"SSN", made(lambda rng: f"000{rng.randrange(1_000_000):06}", 0.5)),
    (r"OldCode|CodeSent|MedicalCode|SubstitutionCode", made(lambda rng: f"D{rng.randint(100, 9999):04}", 0.4)),
    (r"ToothNum", made(lambda rng: str(rng.randint(1, 32)), 0.3)),
    (r"Surf", listed(",M,O,D,MO,DO,MOD,B,L,F", ",")),
    (r"Pattern.*", made(lambda rng: "/" * rng.randint(0, 3) + "X" * rng.randint(2, 9) + "/")),
    (r"Birthdate", birthdates),
    (r".*Color(Override)?", colours),
    (r"SecurityHash|Password|LogHash", made(lambda rng: rng.randbytes(20).hex(), 0.02)),
)


# pools by type


def whole(low: int, high: int, zero: float, *rare: int) -> Pool:
    """Small integers, a share of zeros, and each rare value about once in a hundred."""
    return lambda column, rng: [
        *(str(value) for value in rare),
        *("0" if rng.random() < zero else str(rng.randint(low, high)) for _ in range(100)),
    ]


def money(column: PracticeColumn, rng: Random) -> list[str]:
    """Doubles as an application leaves them: cents, negative corrections, thirds, and sums that are not quite round."""
    odd = ["33.333333333333336", "0.30000000000000004", "-0.01", "1e-05", "1234567.89", "99.99499999999999"]
    return ["0"] * 60 + odd + [f"{rng.uniform(-80, 1500):.2f}" for _ in range(140)]


def dates(column: PracticeColumn, rng: Random) -> list[str]:
    sentinels = [f"'{SENTINEL_DATE}'"] * (50 if column.name != "DateTotal" else 0)
    zero = ["'0000-00-00'"] * (2 if column.name in OLD else 0)
    return sentinels + zero + [f"'{FIRST + timedelta(rng.randrange(5000))}'" for _ in range(200)]


def moments(column: PracticeColumn, rng: Random) -> list[str]:
    times = [START + timedelta(seconds=rng.randrange(5000 * 86_400)) for _ in range(200)]
    zero = ["'0000-00-00 00:00:00'"] * (2 if column.name in OLD else 0)
    if column.length == 6:
        times = [time.replace(microsecond=rng.randrange(1_000_000)) for time in times]
    return [f"'{SENTINEL_DATE} 00:00:00'"] * 40 + zero + [f"'{time}'" for time in times]


def stamps(column: PracticeColumn, rng: Random) -> list[str]:
    times = (START + timedelta(2000, rng.randrange(2500 * 86_400)) for _ in range(200))
    return [f"'{time}'" for time in times]


def times(column: PracticeColumn, rng: Random) -> list[str]:
    """Times of day, and the signed sums of hours that a time clock keeps in the same type."""
    sums = (
        ["'-01:30:00'", "'26:15:00'", "'-00:00:30'", "'100:59:59'"]
        if "Hours" in column.name or "Adjust" in column.name
        else []
    )
    return (
        ["'00:00:00'"] * 20
        + sums
        + [f"'{rng.randint(7, 18):02}:{rng.choice((0, 10, 20, 30, 45)):02}:00'" for _ in range(40)]
    )


def varchars(column: PracticeColumn, rng: Random) -> list[str]:
    texts = ["" if rng.random() < 0.4 else words(rng, column) for _ in range(150)]
    return literals(texts, column)


def texts(column: PracticeColumn, rng: Random) -> list[str]:
    """Notes: empty, one line, or a few paragraphs; a mediumtext now and then is long."""
    longest = 60 if column.base == "mediumtext" else 3
    lines = ["\r\n".join(words(rng, column) for _ in range(rng.choice((0, 1, 1, 2, longest)))) for _ in range(120)]
    return literals(lines, column)


def enums(column: PracticeColumn, rng: Random) -> list[str]:
    return [literal(label) for label in column.labels]


def sets(column: PracticeColumn, rng: Random) -> list[str]:
    return [literal(",".join(label for label in column.labels if rng.random() < 0.4)) for _ in range(20)]


def octets(column: PracticeColumn, rng: Random) -> list[str]:
    """Bytes of every value; a BINARY(n) is sometimes shorter than n (the server pads), with zeros at its end."""
    limit = column.length or 300
    return ["X''", "X'00'", "X'ff00'", *(f"X'{rng.randbytes(rng.randint(1, limit)).hex()}'" for _ in range(60))]


def documents(column: PracticeColumn, rng: Random) -> list[str]:
    plain = ["{}", "[]", "null", "true", "-7", '"Zoë 🦷"', '{"a": {"b": [1, 2.5, null]}, "": "empty key"}']
    answers = [f'{{"pain": {rng.randrange(11)}, "note": "{rng.choice(WORDS)}", "big": 12345678901}}' for _ in range(60)]
    return [literal(text) for text in plain + answers]


BY_TYPE: tuple[tuple[str, Pool], ...] = (
    (r"tinyint\(1\)", whole(0, 1, 0.5)),
    (r"tinyint.*unsigned", whole(0, 9, 0.5, 255, 128)),
    (r"tinyint", whole(0, 5, 0.5, -1, 127, -128)),
    (r"smallint.*unsigned", whole(0, 300, 0.1, 65535)),
    (r"smallint", whole(-1, 12, 0.2, -32768, 32767)),
    (r"int.*unsigned", whole(0, 2**32 - 1, 0.1, 2**32 - 1)),
    (r"int", whole(1, 800, 0.4, -1, 2**31 - 1, -(2**31))),
    (r"bigint.*unsigned", whole(0, 2**40, 0.2, 2**64 - 1, 2**63)),
    (r"bigint", whole(1, 60, 0.8)),
    (r"double", money),
    (r"float", listed("0 0 0.1 0.5 1.1 8.25 9 10 16.35 -2.75 90 1e-7")),
    (r"decimal", made(lambda rng: f"{rng.uniform(-900, 99_999):.2f}", 0.0)),
    (r"datetime", moments),
    (r"date", dates),
    (r"timestamp", stamps),
    (r"time", times),
    (r"varchar", varchars),
    (r"char", listed(",A,M,U,é,AB,Zé", ",")),
    (r".*text", texts),
    (r"enum", enums),
    (r"set", sets),
    (r"json", documents),
    (r".*(binary|blob)", octets),
)


NAMED = ("varchar", "char", "int", "date")
"""Types whose columns may go by their names."""


def pool(column: PracticeColumn, rng: Random) -> list[str]:
    """Ready literals for the column; a nullable column's pool holds NULLs."""
    named = [make for pattern, make in BY_NAME if re.fullmatch(pattern, column.name) and column.base in NAMED]
    typed = [make for pattern, make in BY_TYPE if re.match(pattern, column.type)]
    found = (named + typed)[0](column, rng)
    return found + ["NULL"] * (len(found) // 4 + 1 if column.nullable else 0)
