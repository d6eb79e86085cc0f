"""What others have attached to a table of the target, which goes with it when it is dropped: named, and put back where
that can be done."""

from __future__ import annotations

import psycopg

from cdc.postgres.connection import Connection
from cdc.runtime import logs
from sinks.postgres.tables import TargetTable

_TABLE = "WITH t AS (SELECT oid, relowner, relacl FROM pg_class WHERE oid = to_regclass(%(table)s))"
_GRANTS = """,
grants AS (
    SELECT a.*, NULL::name AS attname FROM t, aclexplode(t.relacl) a WHERE a.grantee <> t.relowner
    UNION ALL SELECT a.*, c.attname FROM t JOIN pg_attribute c ON c.attrelid = t.oid, aclexplode(c.attacl) a
     WHERE a.grantee <> t.relowner),
indexes AS (
    SELECT i.indexrelid FROM t JOIN pg_index i ON i.indrelid = t.oid AND NOT i.indisprimary
     WHERE NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid))"""
_LOOSE = f"""{_TABLE}{_GRANTS}
SELECT 'grant to ' || CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee)::text END FROM grants
UNION SELECT 'index ' || indexrelid::regclass FROM indexes ORDER BY 1"""
_AGAIN = f"""{_TABLE}{_GRANTS}
SELECT pg_get_indexdef(indexrelid) FROM indexes
UNION ALL SELECT format('GRANT %%s%%s ON %%s TO %%s%%s', privilege_type, ' (' || quote_ident(attname) || ')', %(table)s,
        CASE grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
        CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) FROM grants"""
_FAST = f"""{_TABLE}
SELECT 'view ' || v.oid::regclass FROM t JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid
  JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid JOIN pg_class v ON v.oid = r.ev_class
 WHERE v.oid <> t.oid
UNION SELECT 'foreign key of ' || c.conrelid::regclass FROM t JOIN pg_constraint c
    ON c.contype = 'f' AND c.confrelid = t.oid AND c.conrelid <> t.oid
UNION SELECT 'constraint ' || c.conname FROM t JOIN pg_constraint c
    ON c.conrelid = t.oid AND c.contype NOT IN ('p', 'n', 't')
UNION SELECT 'trigger ' || g.tgname FROM t JOIN pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal
UNION SELECT 'policy ' || o.polname FROM t JOIN pg_policy o ON o.polrelid = t.oid
UNION SELECT 'rule ' || r.rulename FROM t JOIN pg_rewrite r ON r.ev_class = t.oid
UNION SELECT 'publication ' || b.pubname FROM t JOIN pg_publication_rel l ON l.prrelid = t.oid
  JOIN pg_publication b ON b.oid = l.prpubid
UNION SELECT 'statistics ' || s.stxname FROM t JOIN pg_statistic_ext s ON s.stxrelid = t.oid
UNION SELECT 'child ' || i.inhrelid::regclass FROM t JOIN pg_inherits i ON i.inhparent = t.oid
UNION SELECT 'comment' FROM t JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = t.oid
ORDER BY 1"""


def attached(connection: Connection, place: TargetTable) -> list[str]:
    """All of it, each as a word and a name: views, grants, indexes and the like."""
    return fast(connection, place) + _asked(connection, _LOOSE, place)


def fast(connection: Connection, place: TargetTable) -> list[str]:
    """What cannot be put back on a table that is made anew."""
    return _asked(connection, _FAST, place)


def ways_back(connection: Connection, place: TargetTable) -> list[str]:
    """The statements that put back the rest, grants and indexes."""
    return _asked(connection, _AGAIN, place)


def put_back(connection: Connection, place: TargetTable, statements: list[str]) -> None:
    """Do so; what does not fit the new columns is said in the log, and left out."""
    for statement in statements:
        try:
            with connection.transaction():
                connection.execute(statement.encode())
        except psycopg.Error as error:
            lost = " ".join(statement.split()[:2]).lower()
            logs.logger("apply").warning("not_put_back", table=str(place), what=lost, sqlstate=error.sqlstate or "")


def _asked(connection: Connection, sql: str, place: TargetTable) -> list[str]:
    return [str(row[0]) for row in connection.execute(sql.encode(), {"table": place.sql})]
