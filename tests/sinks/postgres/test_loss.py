"""A connection lost at any moment leaves all of a commit or nothing of it, and the stored position says which."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections import Counter

import pytest

from cdc.errors import Retry
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.by_hand import HandTarget
from tests.sinks.postgres.conftest import Opened
from tests.sinks.postgres.opening import batch, config, cut, rows, shown
from tests.sinks.postgres.plans import KEYED, KEYLESS, Values
from tests.sinks.postgres.test_merge import Change, keyed_changes, keyless_changes
from tests.sinks.postgres.wire import cable


def stored_cut(postgres: TargetDatabase) -> int:
    found = postgres.execute("SELECT cut_no FROM cdc.progress")
    return int(found[0][0]) if found else 0


@pytest.mark.parametrize("count", [1, 200])
@pytest.mark.parametrize(("request_", "reply", "done"), [(b"COMMIT", b"", False), (b"", b"COMMIT\0", True)], ids=["before", "after"])
def test_an_unknown_commit_outcome_is_retried_and_the_positions_tell_it(
    postgres: TargetDatabase, opened: Opened, count: int, request_: bytes, reply: bytes, done: bool
):
    with cable(postgres.host, postgres.port) as line:
        opened(KEYED).close()
        target = HandTarget(config(postgres, line.port), "p")
        target.open()
        target.write(batch(KEYED, *[("c", None, (n, "", None, 0.0)) for n in range(count)]))
        line.cut_request, line.cut_reply = request_, reply
        with pytest.raises(Retry):
            target.commit(cut(1, t=(5, 4)))
        line.cut_request = line.cut_reply = b""
        assert 1 == line.cuts
        stored = target.open()
        assert (cut(1, t=(5, 4)) if done else None) == stored.progress
        assert (count if done else 0) == rows(postgres, KEYED).total()
        target.commit(cut(2, t=(6, 5)))
        assert cut(2, t=(6, 5)) == target.open().progress
        target.close()


def work(chance: random.Random, keyed: dict[bytes, Values], keyless: list[Values]) -> tuple[list[Change], list[Change]]:
    return keyed_changes(KEYED, chance, keyed, chance.choice((3, 150))), keyless_changes(chance, keyless, chance.choice((2, 90)))


@pytest.mark.parametrize("seed", range(2))
def test_backends_killed_at_random_moments_neither_lose_nor_repeat_a_batch(postgres: TargetDatabase, opened: Opened, seed: int):
    chance = random.Random(seed)
    keyed, keyless = dict[bytes, Values](), list[Values]()
    steps: list[tuple[list[Change], list[Change]]] = []
    expected = [(Counter[object](), Counter[object]())]
    for _ in range(40):
        steps.append(work(chance, keyed, keyless))
        expected.append((Counter(shown(KEYED, row) for row in keyed.values()), Counter(shown(KEYLESS, row) for row in keyless)))
    target, kills, turn = opened(KEYED, KEYLESS), 0, queue.SimpleQueue[bool]()

    def killer() -> None:
        with postgres.connect() as line:
            while turn.get():
                time.sleep(chance.uniform(0, 0.02))
                line.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND application_name = 'cdc p apply'"
                )

    thread = threading.Thread(target=killer, daemon=True)
    thread.start()
    done = attempts = 0
    while done < len(steps):
        attempts += 1
        if attempts % 3 == 0:
            turn.put(True)
        try:
            for plan, changes in zip((KEYED, KEYLESS), steps[done], strict=True):
                target.write(batch(plan, *changes))
            target.commit(cut(done + 1))
            done += 1
        except Retry:
            kills += 1
            assert expected[stored_cut(postgres)] == (rows(postgres, KEYED), rows(postgres, KEYLESS))
            done = reopened(target)
    turn.put(False)
    thread.join()
    assert expected[-1] == (rows(postgres, KEYED), rows(postgres, KEYLESS))
    assert kills > 3


def reopened(target: HandTarget) -> int:
    while True:
        try:
            stored = target.open()
        except Retry:
            continue
        return stored.progress.cut_no if stored.progress else 0
