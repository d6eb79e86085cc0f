"""Both sides of a comparison, once per source flavour and module."""

from __future__ import annotations

import pytest

from tests.snapshot.reconcile.servers import paired


@pytest.fixture(scope="module", params=["mariadb", "mysql"])
def both(request, postgres_server):
    """A source and a target with a database of their own."""
    with paired(request.getfixturevalue(f"{request.param}_server"), postgres_server) as found:
        yield found
