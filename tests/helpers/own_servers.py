"""Servers of a module's own, for tests whose statements would stop the pipelines of tests that share a server.

Import both fixtures into the module; `mariadb`, `mysql` and `source` are then databases on them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cdc.stack import Server
from tests import run


@pytest.fixture(scope="module")
def mariadb_server() -> Iterator[Server]:
    server = run.private("mariadb")
    yield server
    server.purge()


@pytest.fixture(scope="module")
def mysql_server() -> Iterator[Server]:
    server = run.private("mysql")
    yield server
    server.purge()
