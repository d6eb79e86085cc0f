"""Mend what a reconciliation found: capture reads the rows that differ again, through the same topics as every change.

A table whose rows can be named by the texts of their keys gets exactly these back; any other one is copied again whole,
while its old rows stay readable. What is said to be mended is what a second comparison found equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cdc.model.digest import Key
from cdc.model.table import Table
from cdc.mysql.key_text import are_tellable
from snapshot.reconcile.compare import Result, Verdict

ROUNDS = 3
MOST_KEYS = 10_000
"""Differences of one table that are named one by one; of more the table is copied whole."""

Ask = Callable[[Table, Sequence[Key]], tuple[str, str]]
"""Has capture read these keys again, or without any the whole table: outcome and reason."""
Again = Callable[[Table], Result]


@dataclass(frozen=True, slots=True)
class Repair:
    """What was done for one table."""

    table: Table
    kind: str
    """keys or whole."""
    keys: int
    """How many rows were read again by their keys."""
    outcome: str
    """done, stopped, refused or waiting (the time was up); done says that it was read again,
    `Result` whether that mended it."""
    reason: str = ""

    def document(self) -> dict[str, object]:
        """Its part of the report."""
        return {
            "source": self.table.qualified,
            "kind": self.kind,
            "keys": self.keys,
            "outcome": self.outcome,
            "reason": self.reason,
        }


def repair(results: list[Result], ask: Ask, again: Again) -> Iterator[Repair]:
    """What is done for each table that differs, as it is done; the results become those after it."""
    for at in range(len(results)):
        for _ in range(ROUNDS):
            if results[at].state is not Verdict.DIFFERENT:
                break
            done = _read_again(results[at], ask)
            yield done
            if done.outcome != "done":
                break
            results[at] = again(done.table)


def _read_again(result: Result, ask: Ask) -> Repair:
    table, keys = result.table, [one.key for one in result.differences]
    if not (keys and are_tellable(table) and len(keys) < MOST_KEYS):
        return Repair(table, "whole", 0, *ask(table, ()))
    outcome, reason = ask(table, keys)
    if outcome == "refused" and reason in ("key_text", "key_type"):
        return Repair(table, "whole", 0, *ask(table, ()))
    return Repair(table, "keys", len(keys), outcome, reason)
