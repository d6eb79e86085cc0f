"""A position in the source's log, as a value: what is included, and how two of them compare.

`covers` answers "is every transaction of the other one included here?":

1. Both read on the same server (`server` equal) and both with a file of the same series: by file number, then offset.
   The log of one server is a total order, so this is exact, and it holds for positions read on the writing side, whose
   GTIDs are only an upper bound (MySQL: executed and owned transactions, see `LogPositions.written_position`).
2. Else by GTID containment, when the other one has GTIDs, or has nothing at all.
3. Else (no GTIDs, another server or series, or no file): not covered. Unknown is never "yes".

A position of MySQL without GTIDs but with a file is followed by file and offset, on its own server only; one with
neither is the beginning of a log that holds GTIDs. (On MariaDB every transaction has a GTID: none is the beginning.)

A position may stand behind changes that are not decided yet (XA transactions that are prepared). Then it carries its
*floor*: an earlier position, from which a reader has to begin to know them. And it carries its *peers*: where the log
of other servers was read last, so that one that is come back to is known again. Neither is a part of what is compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

from cdc.errors import Halt, Malformed

Flavour = Literal["mysql", "mariadb"]
Intervals = tuple[tuple[int, int], ...]
"""Closed ranges of transaction numbers, ascending, never touching one another."""

PEERS = 4
"""So many other servers are remembered."""
_TEXTS, _NUMBERS = ("flavour", "server", "gtids", "file"), ("offset", "file_created")
_FIELDS: Mapping[str, type] = dict.fromkeys(_TEXTS, str) | dict.fromkeys(_NUMBERS, int)


@dataclass(frozen=True, slots=True)
class Position:
    """The end of the last transaction that is included; see the module for how two compare."""

    flavour: Flavour
    server: str
    """Server UUID (MySQL), server_uid or else server_id as text (MariaDB)."""
    gtids: str = ""
    """Canonical text: MySQL "uuid:1-5:7,uuid:tag:1-3", sorted; MariaDB "0-1-5,1-2-7", one per domain;
    "" without GTIDs."""
    file: str = ""
    offset: int = 0
    """Byte offset in `file`, counted in 64 bits (the log's own field wraps at 4 GiB)."""
    file_created: int = 0
    """Time in the header of `file`, seconds since the epoch; 0 when unknown."""
    floor: Position | None = field(default=None, compare=False)
    """Where reading has to begin to go on from here; None: here. It has no floor of its own."""
    peers: tuple[Position, ...] = field(default=(), compare=False)
    """The last place that was read on each other server of this history, the newest first, and where this position has
    no place, one of its own server's log that is included. They have no floors and no peers."""

    def to_json(self) -> dict[str, object]:
        """The document that `from_json` turns back into an equal position with the same floor."""
        document: dict[str, object] = {name: getattr(self, name) for name in _FIELDS}
        if self.floor is not None:
            document["floor"] = self.floor.to_json()
        if self.peers:
            document["peers"] = [peer.to_json() for peer in self.peers]
        return document

    @classmethod
    def from_json(cls, document: object) -> Position:
        """The position that `to_json` wrote; anything else is malformed."""
        if not isinstance(document, dict) or set(document) - set(_FIELDS) - {"floor", "peers"}:
            raise Malformed("position", "stored position", "is not a position document")
        fields = {name: value for name, value in document.items() if name in _FIELDS}
        for name, kind in _FIELDS.items():
            if name in document and type(document[name]) is not kind:
                raise Malformed("position", f"stored position, {name}", f"is not {kind.__name__}")
        if document.get("flavour") not in ("mysql", "mariadb") or "server" not in document:
            raise Malformed("position", "stored position", "has no flavour or no server")
        floor = cls.from_json(document["floor"]) if "floor" in document else None
        if floor is not None and (floor.floor is not None or floor.flavour != document["flavour"]):
            raise Malformed("position", "stored position, floor", "is not a floor")
        peers = document.get("peers", [])
        if not isinstance(peers, list):
            raise Malformed("position", "stored position, peers", "is not a list")
        return cls(**fields, floor=floor, peers=tuple(map(cls.from_json, peers)))

    @property
    def begin(self) -> Position:
        """Where reading has to begin to go on from here."""
        return self if self.floor is None else self.floor

    @property
    def bare(self) -> Position:
        """This position without floor and peers: a part of another one."""
        return replace(self, floor=None, peers=())

    def places(self, server: str) -> tuple[Position, ...]:
        """Where that server's log was read, as far as is remembered: here, if that is there;
        a peer beside what is not known for sure."""
        here = (self,) if self.server == server and self.file else ()
        if here and self.file_created:
            return here
        return here + tuple(peer for peer in self.peers if peer.server == server and peer.file)

    @property
    def beside(self) -> tuple[Position, ...]:
        """The peers of a position that includes this one and has no place of its own."""
        return ((self.bare, *self.peers) if self.file else self.peers)[:PEERS]

    def later_than(self, other: Position) -> Position:
        """This position, with the places that an earlier one in the same log knows of."""
        return replace(self, floor=other.begin, peers=other.beside)

    def moved_to(self, server: str) -> Position:
        """The same transactions on another server of the same history, whose files are its own;
        this place becomes a peer."""
        here = [self.bare] if self.file else []
        left = here + [peer for peer in self.peers if peer.server not in (self.server, server)]
        floor = None if self.floor is None else replace(self.floor, server=server, file="", offset=0, file_created=0)
        return Position(self.flavour, server, self.gtids, floor=floor, peers=tuple(left[:PEERS]))

    @property
    def by_file(self) -> bool:
        """Whether the log is followed by file and offset from here, because no GTID says where this is."""
        return self.flavour == "mysql" and not self.gtids and bool(self.file)

    def covers(self, other: Position) -> bool:
        """Whether every transaction of `other` is included here, by the rule of the module."""
        if self.flavour != other.flavour:
            return False
        by_file = self._covers_by_file(other)
        if by_file is not None:
            return by_file
        return not other.by_file and _subset(other.flavour, other.gtids, self.gtids)

    def _covers_by_file(self, other: Position) -> bool | None:
        if self.server != other.server or not self.file or not other.file:
            return None
        (series, number), (other_series, other_number) = log_number(self.file), log_number(other.file)
        if series != other_series:
            return None
        if (
            number == other_number
            and 0 not in (self.file_created, other.file_created)
            and self.file_created != other.file_created
        ):
            return None
        return (number, self.offset) >= (other_number, other.offset)

    def joined(self, other: Position) -> Position:
        """What either includes, for two of which neither covers the other: read on two servers, which log domains in
        another order.

        It has no place in a file: no server's log need have been at it. Reading begins below whatever is prepared
        behind either.
        """
        gtids = _either(self.flavour, self.gtids, other.gtids)
        floor = None
        if self.floor is not None or other.floor is not None:
            floor = Position(other.flavour, other.server, _both(self.flavour, self.begin.gtids, other.begin.gtids))
        return Position(other.flavour, other.server, gtids, floor=floor, peers=other.beside)

    def contains(self, transaction: str) -> bool:
        """Whether one transaction, by its id in a record, is included here."""
        if transaction.startswith("file="):
            return self._contains_end(transaction)
        if self.flavour == "mariadb":
            domain, _, number = mariadb_gtid(transaction)
            mine = mariadb_gtids(self.gtids).get(domain)
            return mine is not None and number <= mine[1]
        source, last = mysql_gtid(transaction)
        return _inside(mysql_gtids(self.gtids).get(source, ()), last, last)

    def _contains_end(self, transaction: str) -> bool:
        file, _, end = transaction.removeprefix("file=").partition(",pos=")
        if not end.isdecimal():
            raise Malformed("position", "transaction id", "is neither a GTID nor file=NAME,pos=NUMBER")
        return self._covers_by_file(Position(self.flavour, self.server, "", file, int(end))) is True


def least(a: Position, b: Position) -> Position:
    """The one of two positions that the other covers; stops when neither does."""
    if b.covers(a):
        return a
    if a.covers(b):
        return b
    rule = "two positions of one pipeline hold transactions that the other lacks"
    raise Halt("positions_diverge", a.server, rule, "the source was restored or replaced: cdc reset --all")


def file_transaction(file: str, end: int) -> str:
    """The id of a transaction that has no GTID: where it ends."""
    return f"file={file},pos={end}"


def log_number(file: str) -> tuple[str, int]:
    """A log file's series and number: "binlog.000012" is ("binlog", 12)."""
    series, _, number = file.rpartition(".")
    if not number.isdecimal():
        raise Malformed("position", "log file name", "does not end in a number")
    return series, int(number)


# GTIDs of MySQL: sets of numbers per source (a server UUID, or "uuid:tag").


def mysql_gtid(text: str) -> tuple[str, int]:
    """One transaction, "uuid:5" or "uuid:tag:5", as its source and number."""
    source, _, number = text.rpartition(":")
    if not source or not number.isdecimal():
        raise Malformed("gtid", "GTID", "is not uuid:number or uuid:tag:number")
    return source.lower(), int(number)


@lru_cache(maxsize=64)
def mysql_gtids(text: str) -> Mapping[str, Intervals]:
    """The set that a text of MySQL stands for, in any spelling the server accepts;
    the result is shared, do not change it."""
    found: dict[str, list[tuple[int, int]]] = {}
    for item in "".join(text.split()).lower().split(","):
        if item:
            _read_source(item, found)
    return {source: _merged(ranges) for source, ranges in sorted(found.items())}


def _read_source(item: str, found: dict[str, list[tuple[int, int]]]) -> None:
    uuid, *parts = item.split(":")
    source = uuid
    for part in parts:
        first, dash, last = part.partition("-")
        if first.isdecimal() and (last if dash else first).isdecimal():
            found.setdefault(source, []).append((int(first), int(last or first)))
        elif part.replace("_", "a").isalnum() and not first.isdecimal():
            source = f"{uuid}:{part}"
        else:
            raise Malformed("gtid", "GTID set", "is not uuid[:tag]:interval[:interval]...")
    if not parts:
        raise Malformed("gtid", "GTID set", "names a source without an interval")


def _merged(ranges: list[tuple[int, int]]) -> Intervals:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def _inside(ranges: Intervals, first: int, last: int) -> bool:
    return any(low <= first and last <= high for low, high in ranges)


def _source_text(source: str, ranges: Intervals) -> str:
    return ":".join([source, *(str(first) if first == last else f"{first}-{last}" for first, last in ranges)])


def mysql_text(gtids: Mapping[str, Intervals]) -> str:
    """The canonical text of a MySQL GTID set."""
    return ",".join(_source_text(source, ranges) for source, ranges in sorted(gtids.items()) if ranges)


# GTIDs of MariaDB: the last transaction of each domain.


def mariadb_gtid(text: str) -> tuple[int, int, int]:
    """One transaction, "0-1-5", as domain, server id and sequence number."""
    parts = text.strip().split("-")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):
        raise Malformed("gtid", "GTID", "is not domain-server-sequence")
    return int(parts[0]), int(parts[1]), int(parts[2])


@lru_cache(maxsize=64)
def mariadb_gtids(text: str) -> Mapping[int, tuple[int, int]]:
    """Server id and sequence number of each domain, in domain order; the result is shared, do not change it."""
    found: dict[int, tuple[int, int]] = {}
    for item in text.split(","):
        if item.strip():
            domain, server, number = mariadb_gtid(item)
            if domain in found:
                raise Malformed("gtid", f"domain {domain}", "appears twice in one position")
            found[domain] = (server, number)
    return dict(sorted(found.items()))


def mariadb_text(gtids: Mapping[int, tuple[int, int]]) -> str:
    """The canonical text of a MariaDB position."""
    return ",".join(f"{domain}-{server}-{number}" for domain, (server, number) in sorted(gtids.items()))


def canonical_gtids(flavour: Flavour, text: str) -> str:
    """The one spelling that `Position.gtids` holds, from any that the server writes."""
    return mysql_text(mysql_gtids(text)) if flavour == "mysql" else mariadb_text(mariadb_gtids(text))


def _subset(flavour: Flavour, inner: str, outer: str) -> bool:
    if flavour == "mariadb":
        held = mariadb_gtids(outer)
        return all(domain in held and number <= held[domain][1] for domain, (_, number) in mariadb_gtids(inner).items())
    sets = mysql_gtids(outer)
    return all(_inside(sets.get(source, ()), *pair) for source, ranges in mysql_gtids(inner).items() for pair in ranges)


def _either(flavour: Flavour, a: str, b: str) -> str:
    """The transactions of both texts together."""
    if flavour == "mysql":
        return canonical_gtids(flavour, ",".join(filter(None, (a, b))))
    one, two = mariadb_gtids(a), mariadb_gtids(b)
    return mariadb_text(
        {domain: max(one.get(domain, (0, -1)), two.get(domain, (0, -1)), key=_number) for domain in {**one, **two}}
    )


def _both(flavour: Flavour, a: str, b: str) -> str:
    """The transactions that stand in either text."""
    if flavour == "mysql":
        one, two = mysql_gtids(a), mysql_gtids(b)
        return mysql_text({source: _common(one[source], two[source]) for source in sorted(one.keys() & two.keys())})
    left, right = mariadb_gtids(a), mariadb_gtids(b)
    return mariadb_text(
        {domain: min(left[domain], right[domain], key=_number) for domain in left.keys() & right.keys()}
    )


def _number(last: tuple[int, int]) -> int:
    return last[1]


def _common(a: Intervals, b: Intervals) -> Intervals:
    found = [(max(low, other_low), min(high, other_high)) for low, high in a for other_low, other_high in b]
    return tuple((low, high) for low, high in sorted(found) if low <= high)


class Tracker:
    """The position of a reader as it moves from one transaction's end to the next."""

    def __init__(self, start: Position) -> None:
        self._start = self._at = start
        self._moved = False
        self._by_file = start.by_file
        self._gtids = start.gtids
        self.file, self.offset, self.file_created = start.file, start.offset, start.file_created
        self.floor = start.floor
        """What the next positions carry; whoever reads knows what is not decided."""
        self._sources = dict(mysql_gtids(start.gtids)) if start.flavour == "mysql" else {}
        self._domains = dict(mariadb_gtids(start.gtids)) if start.flavour == "mariadb" else {}
        self._texts = {source: _source_text(source, ranges) for source, ranges in self._sources.items()}

    def add(self, gtid: str, file: str, end_offset: int) -> None:
        """Include one transaction; its GTID is "" where positions go by file. A number seen before stops."""
        if gtid and not self._by_file:
            self._gtids = self._with_mysql(gtid) if self._start.flavour == "mysql" else self._with_mariadb(gtid)
        self.move(file, end_offset)

    def move(self, file: str, offset: int, created: int | None = None) -> None:
        """Note where the log stands between two transactions; `created` is the creation time in a file's header."""
        self.file, self.offset, self._moved = file, offset, True
        if created is not None:
            self.file_created = created

    def position(self) -> Position:
        """The end of the last transaction added, or of what followed it outside of transactions."""
        if self._moved:
            self._moved = False
            if self._gtids or self._by_file or self._start.flavour == "mariadb":
                at = self.file, self.offset, self.file_created, self.floor, self._peers()
                self._at = Position(self._start.flavour, self._start.server, self._gtids, *at)
        return self._at

    def _peers(self) -> tuple[Position, ...]:
        """Of the server that is read, the place that stands in the position itself is the one to know."""
        start = self._start
        return tuple(peer for peer in start.peers if peer.server != start.server) if self.file_created else start.peers

    def _with_mysql(self, gtid: str) -> str:
        source, number = mysql_gtid(gtid)
        ranges = self._sources.get(source, ())
        if ranges and number == ranges[-1][1] + 1:
            ranges = (*ranges[:-1], (ranges[-1][0], number))
        elif _inside(ranges, number, number):
            rule = "the log sends a transaction that the position already holds"
            raise Halt("transaction_repeated", gtid, rule, "the source was restored or reset: cdc reset --all")
        else:
            ranges = _merged([*ranges, (number, number)])
        self._sources[source] = ranges
        if source not in self._texts:
            self._texts = dict(sorted({**self._texts, source: ""}.items()))
        self._texts[source] = _source_text(source, ranges)
        return ",".join(self._texts.values())

    def _with_mariadb(self, gtid: str) -> str:
        domain, server, number = mariadb_gtid(gtid)
        if domain in self._domains and number <= self._domains[domain][1]:
            hint = "the source was restored, reset or written at two places: cdc reset --all, and start again"
            raise Halt("sequence_not_growing", gtid, "the sequence number of a replication domain does not grow", hint)
        self._domains[domain] = (server, number)
        return mariadb_text(self._domains)
