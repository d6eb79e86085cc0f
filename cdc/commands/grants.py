"""`cdc grants`: the accounts of source and target, as SQL for their administrators. Pure: it connects to nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cdc.config.load import Config
from cdc.model.names import target_of
from cdc.model.record import Document

PASSWORD = "the password"
"""Stands for the passwords: they are nobody's to print."""


def grants(config: Config) -> Document:
    """Statements by where they are run: on the source, on the target's server, in the target's database."""
    return {
        "pipeline": config.pipeline.name,
        "source": _source(config),
        "target": _target(config),
        "target_database": _database(config),
    }


def script(found: Document) -> str:
    """The same to be read, and to be given to the clients of both servers."""
    parts = (
        ("On the source, as an administrator (mariadb, mysql)", "source"),
        ("On the target, as an administrator (psql)", "target"),
        ("In the target's database, as an administrator (psql)", "target_database"),
    )
    text = f"-- The accounts of pipeline {found['pipeline']}. Put the passwords in; what is there already, leave out.\n"
    for title, name in parts:
        text += f"\n-- {title}\n" + "".join(_line(one) for one in found[name])
    return text


def _line(one: Document) -> str:
    return (f"-- {one['why']}\n" if one["why"] else "") + f"{one['sql']};\n"


def _statement(sql: str, why: str = "") -> Document:
    return {"sql": sql, "why": why}


def _source(config: Config) -> list[Document]:
    account = f"{_text(config.source.url.user)}@'%'"
    patterns = config.source.tables
    return [
        _statement(
            f"CREATE USER {account} IDENTIFIED BY '{PASSWORD}'",
            "'%' is any machine: narrow it to the pipeline's address",
        ),
        _statement(
            f"GRANT REPLICATION SLAVE, REPLICATION CLIENT /*!80000 , XA_RECOVER_ADMIN */ ON *.* TO {account}",
            "to read the log; what is in the comment MySQL alone reads: it shows prepared XA transactions to it only",
        ),
        *(_statement(f"GRANT SELECT ON {scope} TO {account}") for scope in dict.fromkeys(map(_scope, patterns))),
        *(
            _statement(
                f"GRANT LOCK TABLES ON {scope} TO {account}",
                "for tables without a primary key that are not InnoDB: a copy locks them. Are there none, leave it out",
            )
            for scope in dict.fromkeys(_database_scope(one) for one in patterns)
        ),
    ]


def _scope(pattern: str) -> str:
    """What a pattern of tables selects at least: one table, or what its database's pattern means."""
    db, _, table = pattern.partition(".")
    exact = not any(sign in pattern for sign in "*?") and table
    return f"{_quoted(db)}.{_quoted(table)}" if exact else _database_scope(pattern)


def _database_scope(pattern: str) -> str:
    """A grant's database is a pattern too, with % for any characters and _ for one."""
    db = pattern.partition(".")[0]
    return "*.*" if db == "*" else _quoted(re.sub(r"[%_\\]", r"\\\g<0>", db).replace("*", "%").replace("?", "_")) + ".*"


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _text(name: str) -> str:
    return "'" + name.replace("\\", "\\\\").replace("'", "''") + "'"


def _target(config: Config) -> list[Document]:
    user, database = _identifier(config.target.url.user), _identifier(config.target.url.database)
    return [
        _statement(f"CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'"),
        _statement(f"CREATE DATABASE {database} ENCODING 'UTF8' TEMPLATE template0", "unless the database is there"),
        _statement(f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {user}", "rows are merged by temporary tables"),
    ]


def _database(config: Config) -> list[Document]:
    user, databases = config.target.url.user, {pattern.partition(".")[0] for pattern in config.source.tables}
    schemas = _schemas(config.target.schema_, databases)
    made = [
        _statement(
            f"CREATE SCHEMA {_identifier(name)} AUTHORIZATION {_identifier(user)}",
            "the pipeline's own state" if name == "cdc" else "",
        )
        for name in ("cdc", *schemas)
    ]
    if len(schemas) == len(databases) or "{db}" not in config.target.schema_:
        return made
    sql = f"GRANT CREATE ON DATABASE {_identifier(config.target.url.database)} TO {_identifier(user)}"
    return [*made, _statement(sql, "databases are named by a pattern: their schemas are made when they are seen")]


def _schemas(schema: str, databases: Iterable[str]) -> list[str]:
    """The schemas that the configuration names; those of a database's pattern are not known before it is asked."""
    named = [db for db in sorted(databases) if "{db}" not in schema or not any(sign in db for sign in "*?")]
    return list(dict.fromkeys(target_of(schema, db, "t")[0] for db in named))


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
