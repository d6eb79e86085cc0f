"""The source's foreign keys with actions, as SHOW CREATE TABLE tells them to every account that may read,
and whether the target can do what the source's engine does by them.

InnoDB compares by the source's collations. Where the target cannot be proven to find the same rows, or a table in
between is not followed, the key is refused by name. Docs: docs/decisions/051-cascades.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from cdc.errors import Halt, Refused
from cdc.model.finding import Finding
from cdc.model.foreign_key import Action, ForeignKey, Match, ordered
from cdc.model.table import Column, Table, TableName
from cdc.mysql.catalog import Catalog
from cdc.mysql.preflight import ServerSettings, dotted, version_of

_NAME = r"`((?:[^`]|``)+)`"
_NAMES = r"\(((?:`(?:[^`]|``)+`(?:, ?)?)+)\)"
_CLAUSE = re.compile(
    rf"^\s*CONSTRAINT {_NAME} FOREIGN KEY {_NAMES} REFERENCES (?:{_NAME}\.)?{_NAME} {_NAMES}(.*)$", re.MULTILINE
)
_GENERATED = re.compile(r"^\s*`(?:[^`]|``)+` .* GENERATED ALWAYS AS \(", re.MULTILINE)
_ACTION = re.compile(r"ON (DELETE|UPDATE) (CASCADE|SET NULL)")
_ACTIONS: Mapping[str, Action] = {"CASCADE": "cascade", "SET NULL": "set null"}
_PLAIN = frozenset("tinyint smallint mediumint int bigint decimal year binary varbinary uuid inet4 inet6".split())
_COLLATIONS_SQL = """
SELECT COLUMN_NAME, COLLATION_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s"""
_EXISTS_SQL = "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s"
_ROOT = re.compile(
    r"(?:[a-z0-9]+_general(?:_nopad)?_ci|latin1_swedish(?:_nopad)?_ci|[a-z0-9]+_unicode(?:_520)?(?:_nopad)?_ci"
    r"|utf8mb4_0900_a[is]_ci|(?:[a-z0-9]+_)?uca1400(?:_nopad)?_a[is]_ci)"
)
"""Collations of no language: ASCII's letters are equal to their other case and to nothing else in ASCII."""
_FROM = (9, 6, 0)
"""From here on MySQL does foreign keys above the engine, and logs what they change, unless it is told not to."""


class Cascades(NamedTuple):
    """The keys that the target can follow, and what stands in the way of others."""

    keys: tuple[ForeignKey, ...]
    findings: list[Finding]


def are_logged(settings: ServerSettings) -> bool:
    """Whether the server logs what foreign keys change."""
    native = settings.values.get("innodb_native_foreign_keys", "OFF")
    return settings.flavour == "mysql" and version_of(settings.version) >= _FROM and native not in ("ON", "1")


def cascades(
    catalog: Catalog,
    tables: Sequence[Table],
    may_read: Callable[[Table], bool] = lambda table: True,
    shards: int = 0,
) -> Cascades:
    """Ask for the keys with actions of these tables, the followed ones, and judge them; `shards`: the sinks' number."""
    if are_logged(catalog.settings):
        return Cascades((), [])
    fold = catalog.settings.values["lower_case_table_names"] != "0"
    followed = {_folded((table.db, table.name), fold): table for table in tables}
    catalog.session.execute("SET SESSION sql_quote_show_create = 1")
    created = {
        (table.db, table.name): _created(catalog, table)
        for table in tables
        if catalog.engine(table).lower() == "innodb" and may_read(table)
    }
    found = [key for name, sql in created.items() for key in stated(name, sql)]
    engines = {_folded(name, fold): engine.lower() for name, engine in catalog.engines().items()}
    found = [key for key in found if engines.get(_folded(key.parent, fold), "innodb") == "innodb"]
    keys, findings = list[ForeignKey](), list[Finding]()
    for key in found:
        parent = followed.get(_folded(key.parent, fold))
        judged = _judged(
            catalog, key, followed[_folded(key.child, fold)], parent, _GENERATED.search(created[key.child])
        )
        if isinstance(judged, str):
            findings.append(_refused(key, judged))
        else:
            keys.append(judged)
    findings += [_refused(key, rule) for key in keys if (rule := _shared(key, keys))]
    findings += [
        _refused(key, "several sinks, which share the tables (apply.shards), cannot") for key in keys if shards
    ]
    return Cascades(ordered(keys), findings)


def followed_keys(catalog: Catalog, tables: Sequence[Table], shards: int) -> tuple[ForeignKey, ...]:
    """The keys by which the target changes rows of these tables itself; Refused for the first that it cannot follow."""
    found = cascades(catalog, tables, shards=shards)
    for one in found.findings:
        raise Refused(one.code, one.place, one.rule, one.hint_sql)
    return found.keys


def stated(child: TableName, create_sql: str) -> list[ForeignKey]:
    """The foreign keys with actions that a SHOW CREATE TABLE states."""
    keys = []
    for name, columns, db, parent, referenced, rest in _CLAUSE.findall(create_sql):
        actions = {event: _ACTIONS[action] for event, action in _ACTION.findall(rest)}
        if actions:
            keys.append(
                ForeignKey(
                    _plain(name),
                    child,
                    _names(columns),
                    (_plain(db) or child[0], _plain(parent)),
                    _names(referenced),
                    actions.get("DELETE", ""),
                    actions.get("UPDATE", ""),
                )
            )
    return keys


def _created(catalog: Catalog, table: Table) -> str:
    """How a table is created; "" for one that is gone since it was listed: the log says so.

    information_schema shows foreign keys only to accounts that may do more than read.
    """
    try:
        return str(catalog.session.all("SHOW CREATE TABLE " + dotted((table.db, table.name)))[0][1])
    except Halt:
        if catalog.session.all(_EXISTS_SQL, table.db, table.name):
            raise
        return ""


def _plain(name: str) -> str:
    return name.replace("``", "`")


def _names(quoted: str) -> tuple[str, ...]:
    return tuple(_plain(name) for name in re.findall(_NAME, quoted))


def _folded(name: TableName, fold: bool) -> TableName:
    return (name[0].lower(), name[1].lower()) if fold else name


def _refused(key: ForeignKey, rule: str) -> Finding:
    child = ".".join(key.child)
    first = "follow {} too, " if rule is _UNFOLLOWED else "set apply.shards = 0, " if "apply.shards" in rule else ""
    mend = f"exclude {child}, or: ALTER TABLE {dotted(key.child)} DROP FOREIGN KEY {dotted((key.name,))}"
    rule = f"foreign key {key.name} changes rows of {child} without logging it, and {rule.format('.'.join(key.parent))}"
    return Finding("error", "unlogged_cascade", child, rule, f"-- {first.format('.'.join(key.parent))}{mend}")


_UNFOLLOWED = "{} is not followed"


def _judged(
    catalog: Catalog, key: ForeignKey, child: Table, parent: Table | None, generated: object
) -> ForeignKey | str:
    """The key as the target follows it, or why it cannot."""
    if parent is None:
        return _UNFOLLOWED
    if not parent.key:
        return "{} has no primary key"
    if key.writes and generated:
        return "the server computes columns of the changed rows, which the target cannot"
    mine, theirs = _columns(child, key.columns), _columns(parent, key.referenced)
    if len(mine) != len(key.columns) or len(theirs) != len(key.referenced):
        return "a column of it is not known"
    matches = [_match(catalog, pair, child, parent) for pair in zip(mine, theirs, strict=True)]
    odd = next((column for column, match in zip(key.columns, matches, strict=True) if match is None), None)
    if odd is not None:
        return f"which rows the server takes for equal in column {odd} is not known to the target"
    found = tuple(match for match in matches if match is not None)
    names = (tuple(c.name for c in mine), (parent.db, parent.name), tuple(c.name for c in theirs))
    return ForeignKey(
        key.name, (child.db, child.name), *names, key.on_delete, key.on_update, found if any(found) else ()
    )


def _columns(table: Table, names: Iterable[str]) -> list[Column]:
    known = {column.name.lower(): column for column in table.columns}
    return [known[name.lower()] for name in names if name.lower() in known]


def _match(catalog: Catalog, pair: tuple[Column, Column], child: Table, parent: Table) -> Match | None:
    """How the target finds the rows that InnoDB takes for equal; None: it cannot."""
    mine, theirs = pair
    if (mine.type, mine.unsigned, mine.charset, mine.policy) != (
        theirs.type,
        theirs.unsigned,
        theirs.charset,
        theirs.policy,
    ):
        return None
    sizes = [(one.length, one.scale, one.display) for one in pair]
    if sizes[0] != sizes[1] and not mine.type.startswith(
        "var"
    ):  # the engine fills what it writes to the parent's length
        return None
    if mine.type in _PLAIN:
        return ""
    if mine.type not in ("char", "varchar"):
        return None
    collations = [
        dict(catalog.session.all(_COLLATIONS_SQL, table.db, table.name))[column.name]
        for table, column in ((child, mine), (parent, theirs))
    ]
    return collated(str(collations[0])) if collations[0] == collations[1] else None


def collated(collation: str) -> Match | None:
    """How text of a collation is compared; None where more than ASCII's case, and spaces, may make it equal."""
    pads = not (collation.startswith("utf8mb4_0900_") or "_nopad_" in collation)
    if collation.endswith("_bin"):
        return "pad" if pads else ""
    if _ROOT.fullmatch(collation):
        return "ci pad" if pads else "ci"
    return None


def _shared(key: ForeignKey, keys: Iterable[ForeignKey]) -> str:
    """Why the order of two keys of one table would matter, which is InnoDB's own affair."""
    if "set null" not in (key.on_delete, key.on_update):
        return ""
    others = [one for one in keys if one.child == key.child and one.name != key.name]
    other = next((one for one in others if set(one.columns) & set(key.columns)), None)
    return f"it shares a column with {other.name}, so that their order would matter" if other else ""
