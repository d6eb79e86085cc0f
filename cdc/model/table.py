"""The nouns every stage shares: tables and columns."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields

from cdc.model.policies import DEFAULT, Policy

TableName = tuple[str, str]
"""A source table: its database, and its name in it."""
AnomalyName = tuple[str, str, str, str]
"""What is counted of values that could not be kept: database, table, column, reason."""


@dataclass(frozen=True, slots=True)
class Column:
    """One source column, as the log's table map (binlog_row_metadata=FULL) and information_schema both can describe it.

    The two descriptions of the same column must be equal values: a test holds that. So nothing is kept here that only
    one of them knows (defaults, comments), but for two fields that are no part of the comparison.
    """

    name: str
    type: str
    """Base type, lower case, without width: tinyint smallint mediumint int bigint decimal float double bit year date
    datetime timestamp time char varchar binary varbinary tinytext text mediumtext longtext tinyblob blob mediumblob
    longblob enum set json geometry vector uuid inet4 inet6."""
    unsigned: bool = False
    nullable: bool = True
    length: int = 0
    """char/varchar: characters; binary/varbinary, and MariaDB's vector: bytes; bit: bits; decimal: precision;
    others 0."""
    scale: int = 0
    """decimal: scale; datetime/timestamp/time: fractional digits (0..6); others 0."""
    charset: str = ""
    """MySQL character set name for text, enum and set ("utf8mb4", "latin1");
    "" for everything else ("binary" is never used)."""
    labels: tuple[str, ...] = ()
    """enum and set members in definition order."""
    storage: str = ""
    """How a row image holds it where that is not the type's usual form: "compressed" (MariaDB's COMPRESSED columns),
    "old" (temporals as they were before MySQL 5.6); else ""."""
    display: int = field(default=0, compare=False)
    """The display width of a signed tinyint, 1 for a boolean; only information_schema knows it."""
    policy: Policy = field(default=DEFAULT, compare=False)
    """What the pipeline's configuration chose for it."""


@dataclass(frozen=True, slots=True)
class Table:
    """A source table: `key` holds the column indexes of the primary key in key order, empty when there is none."""

    db: str
    name: str
    columns: tuple[Column, ...]
    key: tuple[int, ...] = ()
    unlisted: int = field(default=0, compare=False)
    """How many BIGINTs follow the columns in a row image, which no catalog lists and no SELECT shows: MariaDB's hashes
    of UNIQUE keys. Only the log knows."""

    @property
    def qualified(self) -> str:
        return f"{self.db}.{self.name}"

    @property
    def shape(self) -> str:
        """A digest of what is compared of its columns and key:
        a process that comes later knows by it whether they are the same."""
        columns = [[getattr(column, one.name) for one in fields(column) if one.compare] for column in self.columns]
        return hashlib.blake2b(repr((columns, self.key)).encode(), digest_size=12).hexdigest()
