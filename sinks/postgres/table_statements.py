"""The statements that write one table: made once, for every batch."""

from __future__ import annotations

from sinks.contract import Plan
from sinks.postgres.statements import Prepared
from sinks.postgres.tables import TargetTable, Type, column_sql, names, quoted

_INT8 = 20


class TableStatements:
    """The statements for one table, made once per connection and plan."""

    def __init__(self, plan: Plan, place: TargetTable, types: list[Type], number: int) -> None:
        self.plan, self.place, self.types, self.number = plan, place, types, number
        oids = [oid for oid, _ in types]
        self.columns = names(column.name for column in plan.columns)
        self.key = names(plan.columns[at].name for at in plan.key)
        self.rows, self.keys, self.gone = (f"pg_temp.cdc_{kind}_{number}" for kind in ("rows", "keys", "gone"))
        insert = f"INSERT INTO {place.sql} ({self.columns}) VALUES ({_marks(len(oids))}){self._conflict()}"
        self.insert = Prepared(self._update("${0}", "") if plan.partial else insert, tuple(oids))
        self.delete = Prepared(
            f"DELETE FROM {place.sql} WHERE "
            f"{' AND '.join(f'{self._name(at)} = ${n}' for n, at in enumerate(plan.key, 1))}",
            tuple(oids[at] for at in plan.key),
        )
        self.remove = Prepared(
            f"DELETE FROM {place.sql} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {place.sql} "
            f"WHERE ROW({self.columns})::record"
            f" OPERATOR(pg_catalog.*=) ROW({self._typed()})::record LIMIT ${len(oids) + 1}))",
            (*oids, _INT8),
        )
        self.written = tuple(plan.columns)
        self.skip_straight = self.misses = 0

    def _name(self, at: int) -> str:
        return quoted(self.plan.columns[at].name)

    def _conflict(self) -> str:
        if not self.plan.key:
            return ""
        sets = [
            f"{quoted(one.name)} = EXCLUDED.{quoted(one.name)}"
            for at, one in enumerate(self.plan.columns)
            if at not in self.plan.key
        ]
        if sets and self.place.loaded_at:
            sets.append(f"{quoted(self.place.loaded_at)} = now()")
        return f" ON CONFLICT ({self.key}) DO " + (f"UPDATE SET {', '.join(sets)}" if sets else "NOTHING")

    def _update(self, value: str, source: str) -> str:
        """Set the columns of a row that is there; `value`: how the column of a number is said."""
        numbers = range(len(self.plan.columns))
        said = {at: f"{self._name(at)} = " + value.format(at + 1, self._name(at)) for at in numbers}
        sets = [said[at] for at in numbers if at not in self.plan.key] or [said[at] for at in self.plan.key]
        if self.place.loaded_at:
            sets.append(f"{quoted(self.place.loaded_at)} = now()")
        match = " AND ".join("t." + said[at] for at in self.plan.key)
        return f"UPDATE {self.place.sql} t SET {', '.join(sets)}{source} WHERE {match}"

    def _typed(self) -> str:
        """Parameters to compare by their bytes; a numeric's bytes hold its scale, so it is given the column's."""
        typed = [(f"${n}", one.postgres_type) for n, one in enumerate(self.plan.columns, 1)]
        return ", ".join(f"{mark}::{kind}" if kind.startswith("numeric") else mark for mark, kind in typed)

    @property
    def merge(self) -> str:
        """From the staging table into the table."""
        if self.plan.partial:
            return self._update("s.{1}", f" FROM {self.rows} s")
        return f"INSERT INTO {self.place.sql} ({self.columns}) SELECT {self.columns} FROM {self.rows}{self._conflict()}"

    @property
    def delete_staged(self) -> str:
        """Delete the rows whose keys are staged."""
        match = " AND ".join(f"t.{self._name(at)} = s.{self._name(at)}" for at in self.plan.key)
        return f"DELETE FROM {self.place.sql} t USING {self.keys} s WHERE {match}"

    @property
    def of_no_row(self) -> tuple[str, str]:
        """Insert no row, and delete none."""
        rows = f"SELECT {self.columns} FROM {self.place.sql} WHERE false"
        return (
            f"INSERT INTO {self.place.sql} ({self.columns}) {rows}{self._conflict()}",
            f"DELETE FROM {self.place.sql} WHERE false",
        )

    @property
    def count_name(self) -> str:
        """A column name that the table does not have."""
        taken = {column.name for column in self.plan.columns}
        return quoted(next(name for n in range(len(taken) + 1) if (name := f"n{n}") not in taken))

    @property
    def remove_staged(self) -> str:
        """Delete, of the rows that equal a staged one, as many as it says."""
        mine, staged = (", ".join(f"{side}.{quoted(one.name)}" for one in self.plan.columns) for side in "ts")
        return (
            f"DELETE FROM {self.place.sql} t USING (SELECT t.ctid AS at, s.{self.count_name} AS wanted,"
            f" row_number() OVER (PARTITION BY s.ctid ORDER BY t.ctid) AS nth FROM {self.gone} s "
            f"JOIN {self.place.sql} t"
            f" ON ROW({mine})::record OPERATOR(pg_catalog.*=) ROW({staged})::record) x WHERE t.ctid = x.at "
            "AND x.nth <= x.wanted"
        )

    def staging_sql(self, relation: str) -> str:
        """A temporary table for rows, keys, or rows with a count before them."""
        columns = [column_sql(column) for column in self.plan.columns]
        if relation == self.keys:
            columns = [column_sql(self.plan.columns[at]) for at in self.plan.key]
        elif relation == self.gone:
            columns.insert(0, f"{self.count_name} int4")
        return f"CREATE TEMP TABLE {relation.removeprefix('pg_temp.')} ({', '.join(columns)}) ON COMMIT DELETE ROWS"


def _marks(count: int) -> str:
    return ", ".join(f"${n}" for n in range(1, count + 1))
