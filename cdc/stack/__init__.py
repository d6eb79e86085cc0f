"""MariaDB or MySQL, PostgreSQL and Kafka as real local servers: for `cdc up`, for the demo and for the tests, by one
code.

    with stack.lent(folder, source="mysql", kafka=True) as servers: ...     ends with its block, and with its owner
    stack.up(folder)  /  stack.down(folder, purge=True)                      outlives the caller

Where a Docker engine runs, it is used; else what is on this machine; else packages are installed.
"""

from __future__ import annotations

from cdc.stack.kafka import Kafka
from cdc.stack.mysql import MariaDb, MariaDb114, MySql, MysqlFamily
from cdc.stack.postgres import Postgres
from cdc.stack.server import Server, Settings, Tls
from cdc.stack.stack import SOURCES, Stack, down, lent, up

__all__ = [
    "SOURCES",
    "Kafka",
    "MariaDb",
    "MariaDb114",
    "MySql",
    "MysqlFamily",
    "Postgres",
    "Server",
    "Settings",
    "Stack",
    "Tls",
    "down",
    "lent",
    "up",
]
