"""Targets that are closed when the test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sinks.postgres import merge
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.by_hand import HandTarget
from tests.sinks.postgres.opening import config
from tests.sinks.postgres.plans import HandPlan

Opened = Callable[..., HandTarget]


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of a few hundred rows goes to COPY in several pieces, as one of tens of thousands does."""
    monkeypatch.setattr(merge, "PIECE_ROWS", 50)


@pytest.fixture
def opened(postgres: TargetDatabase) -> Iterator[Opened]:
    """Opens a target for a pipeline, by default "p", with tables made for some plans."""
    made: list[HandTarget] = []

    def start(*plans: HandPlan, pipeline: str = "p", port: int = 0, **more: Any) -> HandTarget:
        target = HandTarget(config(postgres, port, **more), pipeline)
        made.append(target)
        target.open()
        for plan in plans:
            target.create_table(plan)
        return target

    yield start
    for target in made:
        target.close()
