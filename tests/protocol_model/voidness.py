"""Which control records count: the one rule that capture and sink share."""

from __future__ import annotations

from tests.protocol_model.scenario import Scenario
from tests.protocol_model.world import Control
from tests.protocol_model.wrong import Wrong


def is_superseded(control: tuple[Control, ...], index: int) -> bool:
    """A record of a lower epoch after a higher epoch's start: a zombie's, or one that arrived late."""
    return any(control[i].kind == "start" for i in range(control[index].epoch + 1, index))


def is_undone(scenario: Scenario, control: tuple[Control, ...], index: int) -> bool:
    """A record of a lower epoch whose number is above that of a later base, itself not superseded."""
    if scenario.wrong is Wrong.NO_VOID_BY_BASE:
        return False
    record = control[index]
    for i in range(index + 1, len(control)):
        base = control[i]
        if base.kind == "base" and base.epoch > record.epoch and is_below(scenario, base, record) and not is_superseded(control, i):
            return True
    return False


def is_below(scenario: Scenario, base: Control, record: Control) -> bool:
    if scenario.wrong is Wrong.VOID_BY_POSITION:
        return base.position < record.position
    return base.number < record.number
