"""Each word by which a statement is known to be harmless, and statements that one word alone makes harmful; a followed table is in all."""

from __future__ import annotations

import pytest

from cdc.ddl.classify import Irrelevant, Unsupported, classify
from cdc.model.selection import Selection

WANTS = Selection(["od.*"])
HARMLESS = """\
GRANT ALL ON od.a TO x
REVOKE ALL ON od.a FROM x
FLUSH TABLES od.a
OPTIMIZE TABLE od.a
REPAIR TABLE od.a
CHECK TABLE od.a
CHECKSUM TABLE od.a
INSTALL PLUGIN od SONAME 'x'
UNINSTALL PLUGIN od
KILL 5
SAVEPOINT od
RELEASE SAVEPOINT od
COMMIT
ROLLBACK
USE od
SET PASSWORD = 'x'
SET ROLE od
SET DEFAULT ROLE od TO x
BEGIN
BEGIN WORK
ANALYZE TABLE od.a
ANALYZE TABLES od.a
ANALYZE LOCAL TABLE od.a
ANALYZE NO_WRITE_TO_BINLOG TABLE od.a
ANALYZE PERSISTENT TABLE od.a
CREATE USER od
DROP ROLE od
CREATE VIEW od.v AS SELECT 1
DROP PROCEDURE od.p
DROP FUNCTION od.f
DROP TRIGGER od.t
DROP EVENT od.e
CREATE PACKAGE od.p AS END
CREATE PACKAGE BODY od.p AS END
CREATE SERVER od FOREIGN DATA WRAPPER mysql OPTIONS (HOST 'x')
CREATE LOGFILE GROUP od ADD UNDOFILE 'x'
CREATE SEQUENCE od.s
CREATE RESOURCE GROUP od TYPE = USER
CREATE SPATIAL REFERENCE SYSTEM 4120 NAME 'x'
ALTER INSTANCE ROTATE INNODB MASTER KEY
CREATE LIBRARY od.l LANGUAGE JAVASCRIPT AS 'x'
CREATE OR REPLACE VIEW od.v AS SELECT 1
CREATE DEFINER = od SQL SECURITY INVOKER VIEW od.v AS SELECT 1
CREATE ALGORITHM = UNDEFINED VIEW od.v AS SELECT 1
CREATE ALGORITHM = MERGE VIEW od.v AS SELECT 1
CREATE ALGORITHM = TEMPTABLE VIEW od.v AS SELECT 1
CREATE JSON RELATIONAL DUALITY VIEW od.v AS SELECT 1
CREATE AGGREGATE FUNCTION f RETURNS INT SONAME 'x'
CREATE TEMPORARY TABLE od.a (a INT)
CREATE EXTERNAL TABLE other.a (a INT)
CREATE UNIQUE INDEX od ON other.a (b)
CREATE FULLTEXT INDEX od ON other.a (b)
CREATE SPATIAL INDEX od ON other.a (b)
CREATE VECTOR INDEX od ON other.a (b)
CREATE ONLINE INDEX od ON other.a (b)
CREATE OFFLINE INDEX od ON other.a (b)
ALTER IGNORE TABLE other.a ADD od INT
DROP UNDO TABLESPACE od
DROP TABLES other.a, other.b
ALTER TABLE other.a RENAME COLUMN od TO b
ALTER TABLE other.a RENAME INDEX od TO b
ALTER TABLE other.a RENAME KEY od TO b
RENAME USER od TO b
RENAME ROLE od TO b
UPDATE other.a SET b = 1
DELETE FROM other.a
SET STATEMENT a = (SELECT 1 FOR UPDATE) FOR UPDATE other.a SET b = 1"""
HARMFUL = """\
dropped   DROP TABLES od.a
created   CREATE EXTERNAL TABLE od.a (a INT)
written   UPDATE other.z, a SET b = 1
written   DELETE FROM a USING other.z JOIN a
written   SET STATEMENT a = (SELECT 1 FOR UPDATE) FOR UPDATE od.a SET b = 1
written   SET STATEMENT a = ((1)), b = (2) FOR UPDATE od.a SET b = 1
dropped   SET STATEMENT a = (SELECT (1) FOR UPDATE) FOR DROP TABLE od.a
unknown   SET STATEMENT a = (SELECT 1 FOR UPDATE od.b
unknown   SET od = 1 FOR UPDATE other.a SET b = 1
unknown   SET x = 1
unknown   SET COMMIT = 1
unknown   RENAME TABLE other.a other.b
unknown   RENAME TABLE od.a
unknown   CREATE DEFINER = x
unknown   CREATE OR
unknown   CREATE WHATEVER TABLE other.a (a INT)
unknown   WITH q AS (SELECT 1 AS a) SELECT a
database  DROP DATABASE od
changed   ALTER TABLE other.a RENAME KEY a TO b, RENAME TO od.x"""


@pytest.mark.parametrize("sql", HARMLESS.split("\n"))
@pytest.mark.parametrize("database", ["od", "other"])
def test_each_word_that_proves_a_statement_harmless(sql: str, database: str) -> None:
    """Also where names without a database would be those of followed tables."""
    assert Irrelevant() == classify(sql, database, WANTS)


@pytest.mark.parametrize("line", HARMFUL.split("\n"))
def test_statements_that_are_not_harmless_although_they_look_like_those(line: str) -> None:
    reason, sql = line.split(None, 1)
    found = classify(sql, "od", WANTS)
    assert isinstance(found, Unsupported)
    assert reason == found.reason


def test_the_reason_of_a_set_statement_is_that_of_the_statement_within() -> None:
    sql = "SET STATEMENT a = (SELECT 1 FOR UPDATE) FOR DROP TABLE od.a"
    assert Unsupported("dropped", (("od", "a"),)) == classify(sql, "other", WANTS)


def test_a_database_that_can_hold_no_followed_table_may_go() -> None:
    assert Irrelevant() == classify("DROP DATABASE other", "od", WANTS)
