"""No error of the target holds a row's value, whatever PostgreSQL says about it."""

from __future__ import annotations

import traceback

import pytest

from cdc.errors import CdcError, Halt
from cdc.protocol.applied import LedgerChunk
from sinks.quarantine import key_hash
from tests.helpers.servers import TargetDatabase
from tests.sinks.postgres.conftest import Opened
from tests.sinks.postgres.opening import at, batch, cut, rows
from tests.sinks.postgres.plans import KEYED, KEYLESS, HandPlan, Values

SECRET = "Jane Doe, HIV positive, and much more than forty characters"


def whole(error: BaseException) -> str:
    """All that anybody could print: text, attributes, and every error behind it, suppressed or not."""
    seen: list[str] = []
    inner: BaseException | None = error
    while inner is not None:
        seen += [str(inner), repr(inner), repr(inner.args), repr(vars(inner)), *traceback.format_exception(inner)]
        inner = inner.__cause__ or inner.__context__
    return "\n".join(seen)


def poisoned(plan: HandPlan, count: int) -> list[tuple[str, Values | None, Values | None]]:
    rest = (None,) * (len(plan.columns) - 2)
    return [("c", None, (n, SECRET if n == count // 2 else "fine", *rest)) for n in range(count)]


@pytest.mark.parametrize("count", [1, 20, 500])
@pytest.mark.parametrize("plan", [KEYED, KEYLESS], ids=lambda plan: plan.table)
def test_a_row_that_the_target_refuses_is_named_by_table_and_hash_alone(
    postgres: TargetDatabase, opened: Opened, plan: HandPlan, count: int
):
    target = opened(plan)
    with pytest.raises(Halt) as stop:
        target.write(batch(plan, *poisoned(plan, count)))
        target.commit(cut(1))
    said = whole(stop.value)
    assert "target_value" == stop.value.code
    assert "Jane" not in said
    assert "22001" in said
    culprit = poisoned(plan, count)[count // 2][2] or ()
    expected = key_hash(plan.key_tuple(culprit) if plan.key else plan.packed(culprit))
    assert f"app.{plan.table}, key {expected}" == stop.value.place
    assert 0 == rows(postgres, plan).total()
    target.commit(cut(2))


@pytest.mark.parametrize("size", [1, 200])
def test_a_constraint_of_an_adopted_table_is_named_without_what_violates_it(postgres: TargetDatabase, opened: Opened, size: int):
    target = opened(KEYED)
    postgres.execute('ALTER TABLE app."Keyed Table" ADD CONSTRAINT one_note UNIQUE ("Note")')
    changes = [("c", None, (n, f"Jane {min(n, size - 1)}", None, None)) for n in range(size + 1)]
    with pytest.raises(Halt) as stop:
        target.write(batch(KEYED, *changes))
        target.commit(cut(1))
    assert ("target_value", True, False) == (stop.value.code, "one_note" in stop.value.rule, "Jane" in whole(stop.value))


def test_a_loaded_row_that_the_target_refuses_is_not_shown(opened: Opened):
    target = opened(KEYED)
    load, loader = target.begin_load(KEYED, at(1)), target.loader()
    with pytest.raises(CdcError) as stop, loader.chunk(load, LedgerChunk(1)) as chunk:
        chunk.write(KEYED.packed((1, SECRET, None, None)))
    loader.close()
    assert ("target_value", False) == (stop.value.code, "Jane" in whole(stop.value))


def test_a_tuple_that_does_not_fit_its_table_is_not_shown(opened: Opened):
    target = opened(KEYED)
    load, loader = target.begin_load(KEYED, at(1)), target.loader()
    with pytest.raises(CdcError) as stop, loader.chunk(load, LedgerChunk(1)) as chunk:
        chunk.write(KEYLESS.packed((1, "Jane Doe", None, None, None)))
    loader.close()
    assert ("target_value", False) == (stop.value.code, "Jane" in whole(stop.value))
