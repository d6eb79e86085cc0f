"""Children changed as the source's engine changed them, in a transaction that is lent: statements by foreign key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial

from psycopg.pq.abc import PGresult

from cdc.errors import CdcError
from cdc.model.foreign_key import ForeignKey, Match
from sinks.contract import NamedPlan
from sinks.postgres.shadow_table import shadow_of
from sinks.postgres.statements import Parameters, Prepared, StatementQueue
from sinks.postgres.tables import TargetTable, names, place_of, quoted
from sinks.postgres.transaction import Transaction, WriterSession

Values = dict[str, bytes | None]
"""By the source's column names, in the server's binary form."""
_QUEUE = 500
_PRINTABLE = frozenset(range(0x20, 0x7F))
_INDEXED = Prepared("""
SELECT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = to_regclass($1) AND i.indisvalid AND i.indpred IS NULL
AND i.indnkeyatts >= $2::int4 AND (
    SELECT array_agg(a.attname::text ORDER BY a.attname::text COLLATE "C") FROM pg_attribute a
    WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:$2::int4 - 1]))
    = ARRAY(SELECT * FROM json_array_elements_text($3::json)))""")
_MATCHES: Mapping[Match, str] = {
    "": "{}",
    "pad": "rtrim({}, ' ')",
    "ci": 'lower({} COLLATE "C")',
    "ci pad": "lower(rtrim({}, ' ') COLLATE \"C\")",
}


class CascadeTables:
    """The children's tables of one open transaction."""

    def __init__(self, session: WriterSession, transaction: Transaction) -> None:
        self._session, self._transaction = session, transaction

    def change(
        self,
        key: ForeignKey,
        plans: tuple[NamedPlan, NamedPlan],
        op: str,
        pairs: Sequence[tuple[Values, Values]],
        wanted: Sequence[str],
        *,
        shadowed: bool,
    ) -> list[Values] | None:
        """Do to the children of some parents what the parents' `op` does, one parent after the other.

        `plans` are the parent's and the child's; `pairs` what each parent held before and after; `wanted`: the child's
        columns of which the old values are returned; `shadowed`: its second table takes the same. None, with nothing
        done, where the values of text may equal others than the target can tell.
        """
        place = place_of(self._session.target, *key.child)
        return self._transaction.within(
            str(place), lambda wire: self._changed(wire, place, key, plans, op, pairs, wanted, shadowed)
        )

    def _changed(
        self,
        wire: StatementQueue,
        place: TargetTable,
        key: ForeignKey,
        plans: tuple[NamedPlan, NamedPlan],
        op: str,
        pairs: Sequence[tuple[Values, Values]],
        wanted: Sequence[str],
        shadowed: bool,
    ) -> list[Values] | None:
        if not _is_told(wire, place, key, plans[1], pairs):
            return None
        writes = key.action(op) == "cascade" and op == "u"
        types = _oids(self._session, plans[0], key.referenced) * (2 if writes else 1)
        found: list[Values] = []
        returned = partial(_keep, wanted, found) if wanted else None
        statement = Prepared(_sql(place, key, plans[1], op, wanted), types, binary=True)
        beside = Prepared(_sql(shadow_of(place), key, plans[1], op, ()), types) if shadowed else None
        for old, new in pairs:
            sides = (old, new) if writes else (old,)
            parameters: Parameters = [side.get(one) for side in sides for one in key.referenced]
            wire.enqueue(statement, parameters, returned)
            if beside is not None:
                wire.enqueue(beside, parameters)
            if len(wire.queue) >= _QUEUE:
                wire.flush()
        if wanted:
            wire.flush()
        return found

    def index(self, key: ForeignKey, plan: NamedPlan) -> CdcError | None:
        """Make the index by which children are found, unless one serves; what stands in the way is no obstacle."""
        place, columns = place_of(self._session.target, *key.child), _columns(plan, key.columns)

        def work(wire: StatementQueue) -> None:
            serving: list[bytes | None] = []
            if not any(key.compared()):
                listed = json.dumps(sorted(columns, key=str.encode), ensure_ascii=False)
                wire.say(_INDEXED, place.sql, len(columns), listed, check=lambda r: serving.append(r.get_value(0, 0)))
                wire.flush()
            if serving != [b"t"]:
                hows = [_MATCHES[how] for how in key.compared()]
                parts = [f"({how.format(quoted(one))})" for one, how in zip(columns, hows, strict=True)]
                wire.enqueue(Prepared(_index(place, ", ".join(parts))))
            for one in _folded(key, columns):
                wire.enqueue(Prepared(_index(place, quoted(one), f" WHERE {_odd(one)}")))
            wire.flush()

        return self._transaction.attempt(str(place), work)


def _index(place: TargetTable, parts: str, where: str = "") -> str:
    name = f"cdc_fk_{hashlib.sha256(f'{place.table} {parts}{where}'.encode()).hexdigest()[:16]}"
    return f"CREATE INDEX IF NOT EXISTS {quoted(name)} ON {place.sql} ({parts}){where}"


def _columns(plan: NamedPlan, columns: Sequence[str]) -> list[str]:
    return [plan.columns[at].name for at in plan.places(columns)]


def _odd(column: str) -> str:
    """Text that another may equal in other ways than by the case of ASCII."""
    return f"{quoted(column)} COLLATE \"C\" ~ '[^ -~]'"


def _folded(key: ForeignKey, columns: Sequence[str]) -> list[str]:
    return [one for one, how in zip(columns, key.compared(), strict=True) if how.startswith("ci")]


def _is_told(
    wire: StatementQueue, place: TargetTable, key: ForeignKey, child: NamedPlan, pairs: Sequence[tuple[Values, Values]]
) -> bool:
    """Whether the target can tell which children are meant: text that is compared without case is to be ASCII."""
    folded = _folded(key, key.referenced)
    if not folded:
        return True
    if any(not _PRINTABLE.issuperset(old.get(one) or b"") for old, _ in pairs for one in folded):
        return False
    found: list[bytes | None] = []
    odd = " OR ".join(_odd(one) for one in _folded(key, _columns(child, key.columns)))
    wire.enqueue(
        Prepared(f"SELECT EXISTS (SELECT FROM {place.sql} WHERE {odd})"),
        check=lambda r: found.append(r.get_value(0, 0)),
    )
    wire.flush()
    return found == [b"f"]


def _keep(wanted: Sequence[str], found: list[Values], result: PGresult) -> None:
    found += [{name: result.get_value(row, at) for at, name in enumerate(wanted)} for row in range(result.ntuples)]


def _sql(place: TargetTable, key: ForeignKey, child: NamedPlan, op: str, wanted: Sequence[str]) -> str:
    columns, old = _columns(child, key.columns), names(_columns(child, wanted))
    compared = [_MATCHES[how] for how in key.compared()]
    where = " AND ".join(
        f"{how.format(quoted(one))} = {how.format(f'${n}')}"
        for n, (one, how) in enumerate(zip(columns, compared, strict=True), 1)
    )
    action = key.action(op)
    if op == "d" and action == "cascade":
        return f"DELETE FROM {place.sql} WHERE {where}" + (f" RETURNING {old}" if wanted else "")
    sets = [
        f"{quoted(one)} = " + (f"${len(columns) + n}" if action == "cascade" else "NULL")
        for n, one in enumerate(columns, 1)
    ]
    sets += [f"{quoted(place.loaded_at)} = now()"] if place.loaded_at else []
    if not wanted:
        return f"UPDATE {place.sql} SET {', '.join(sets)} WHERE {where}"
    given = ", ".join(f"o{n}" for n in range(len(wanted)))
    return (
        f"WITH was (at, {given}) AS (SELECT ctid, {old} FROM {place.sql} WHERE {where}), "
        f"done AS (UPDATE {place.sql} t SET {', '.join(sets)} FROM was WHERE t.ctid = was.at) SELECT {given} FROM was"
    )


def _oids(session: WriterSession, plan: NamedPlan, columns: Sequence[str]) -> tuple[int, ...]:
    """The types of a parent's columns, whose values the parameters are."""
    kinds = [plan.columns[at].postgres_type for at in plan.places(columns)]
    known = session.types_of
    for kind in kinds:
        if kind not in known:
            described = session.connection.execute(f"SELECT NULL::{kind} LIMIT 0".encode()).pgresult
            assert described is not None
            known[kind] = described.ftype(0)
    return tuple(known[kind] for kind in kinds)
