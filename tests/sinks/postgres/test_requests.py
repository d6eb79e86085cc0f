"""Requests in the target keep numbers that only grow, whatever is deleted of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cdc.protocol.copy_progress import Copies
from cdc.state import requests as state_requests
from cdc.state.requests import RequestTable
from cdc.state.store import StateStore
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.conftest import Opened
from tests.sinks.postgres.opening import config, cut


def _ask(postgres: TargetDatabase) -> int:
    with StateStore(config(postgres), "p") as state:
        return state_requests.ask(state, {"id": "x"})


@pytest.mark.parametrize("forget", ["DELETE FROM cdc.request", "TRUNCATE cdc.request"])
def test_a_request_is_heard_after_all_before_it_were_deleted(forget: str, postgres: TargetDatabase, opened: Opened) -> None:
    opened()
    heard = RequestTable(StateStore(config(postgres), "p"), "p")
    assert [0, 1, 2] == [_ask(postgres) for _ in range(3)]
    assert [0, 1, 2] == [number for number, _, _ in heard.take()]
    postgres.execute(forget)  # before any cut has told the target how far they are read
    assert 3 == _ask(postgres)
    assert [3] == [number for number, _, _ in heard.take()]
    heard.close()


@pytest.mark.parametrize("by_hand", [lambda _: None, lambda postgres: postgres.execute("DELETE FROM cdc.request")], ids=["", "emptied"])
def test_numbers_go_on_behind_what_is_stored_and_what_was_written_by_hand(
    by_hand: Callable[[TargetDatabase], None], postgres: TargetDatabase, opened: Opened
) -> None:
    """As in a target of a version that kept no count, and for whoever writes into the table."""
    target = opened()
    target.commit(replace(cut(1), copies=Copies(next=5, read=5)))
    assert 5 == _ask(postgres)
    postgres.execute("INSERT INTO cdc.request (pipeline, number, signal) VALUES ('p', 6, '{}')")
    assert 7 == _ask(postgres)
    by_hand(postgres)
    assert 8 == _ask(postgres)
