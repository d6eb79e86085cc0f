"""What a source's name is called where it cannot stand as it is: PostgreSQL's 63 bytes, its own words, and Kafka's
topics.

Every name is made from the source's name alone, so that nothing that is added or dropped beside it ever changes it. Two
names that would become one are not guessed apart by their order: they are refused (docs/decisions/013-names.md).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator

from cdc.errors import Halt

NAME_BYTES = 63
"""NAMEDATALEN - 1: https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS"""
TOPIC_LENGTH = 249
_SUFFIX = 9
_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
"""https://www.postgresql.org/docs/current/ddl-system-columns.html: no column may have one of these names."""


def fitted(name: str) -> str:
    """The name itself when it has at most 63 bytes in UTF-8;
    else as much of it as fits, and eight digits of its hash."""
    return name if len(name.encode()) <= NAME_BYTES else _marked(name)


def column(name: str) -> str:
    """What a source column is called in PostgreSQL."""
    return _marked(name) if name in _SYSTEM_COLUMNS else fitted(name)


def _marked(name: str) -> str:
    start = name.encode()[: NAME_BYTES - _SUFFIX].decode(errors="ignore")  # never half a character
    return f"{start}_{_hash(name)}"


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[: _SUFFIX - 1]


def target_of(schema: str, db: str, table: str) -> tuple[str, str]:
    """Schema and table of a source table in PostgreSQL; in `schema` "{db}" stands for the source database."""
    return fitted(schema.replace("{db}", db)), fitted(table)


def is_reserved_schema(schema: str) -> bool:
    """Whether a schema is PostgreSQL's, or holds the pipelines' own state."""
    return schema in ("cdc", "information_schema") or schema.startswith("pg_")


def primary_key(schema: str, table: str) -> str:
    """The name of a target table's primary key: an index shares its schema with the tables,
    and `a_pkey` may be one of them."""
    start = fitted(table).encode()[: NAME_BYTES - _SUFFIX - 5].decode(errors="ignore")
    return f"{start}_{_hash(f'{schema}.{table}')}_pkey"


def renamed(columns: Iterable[str]) -> dict[str, str]:
    """The columns that are called differently in PostgreSQL, and how."""
    return {name: column(name) for name in columns if name != column(name)}


def shared(columns: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Pairs of columns that PostgreSQL would know by one name."""
    taken: dict[str, str] = {}
    for name in columns:
        other = taken.setdefault(column(name), name)
        if other != name:
            yield other, name


def topic(prefix: str, db: str, table: str) -> str:
    """Debezium's topic of a table, what Kafka forbids made `_`; Halt where the name is longer than a topic may be."""
    name = re.sub(r"[^a-zA-Z0-9._-]", "_", f"{prefix}.{db}.{table}")
    if len(name) > TOPIC_LENGTH:
        raise Halt(
            "topic_name",
            f"{db}.{table}",
            f"its topic name is longer than {TOPIC_LENGTH} characters",
            "choose a shorter prefix",
        )
    return name


def alike(topic: str) -> str:
    """Equal for topics of which a broker holds only one: it names its metrics with `.` made `_`,
    and refuses the second."""
    return topic.replace(".", "_")


def private_topic(prefix: str, db: str, table: str) -> str:
    """A name for a table's records that no other table has, and that nobody but this process sees."""
    return f"{prefix}.{db.replace('%', '%25').replace('.', '%2E')}.{table}"


def control_topic(prefix: str) -> str:
    """The name of a pipeline's control topic."""
    return f"{prefix}.control"


def schemas_topic(prefix: str) -> str:
    """The name of the topic that stands in for a schema registry."""
    return f"{prefix}.schemas"


def signal_topic(prefix: str) -> str:
    """The name of the topic in which people ask capture for something."""
    return f"{prefix}.signal"


def shards_topic(prefix: str, shards: int) -> str:
    """The name of the topic by whose partitions a group deals out so many shards; no table's topic has but one dot."""
    return f"{prefix}.shards-{shards}"
