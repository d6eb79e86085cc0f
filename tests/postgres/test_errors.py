"""What is done about an SQLSTATE is one table, and what is not in it stops."""

from __future__ import annotations

import pytest

from cdc.errors import Halt, Refused, Retry, RowRefused, RowSuspected
from cdc.postgres.errors import CAUSES, Cause, cause, verdict


@pytest.mark.parametrize(
    ("kind", "states"),
    [
        (Cause.AWAY, ("08006", "53100", "53300", "55P03", "57P01", "57014", "25006", "25P03")),
        (Cause.CONFLICT, ("40001", "40P01")),
        (
            Cause.ROW,
            ("22001", "22003", "22P02", "22021", "23502", "23503", "23505", "23514", "23P01", "54000", "54001", "P0001", "20000", "44000"),
        ),
        (Cause.DENIED, ("28P01", "55000", "42501", "42P01", "42703", "3D000", "3F000")),
        (Cause.UNKNOWN, ("58030", "XX000", "0A000", "F0000", "45000", "")),
    ],
)
def test_each_class_has_its_cause(kind, states):
    assert {kind} == {cause(state)[0] for state in states}


def test_a_lost_connection_has_no_sqlstate_and_passes():
    assert (Cause.AWAY, "target_lost") == cause("", lost=True)
    assert (Cause.ROW, "target_value") == cause("22003", lost=True)


@pytest.mark.parametrize(
    ("kind", "states"),
    [
        (Retry, ("57P01", "40001", "53200")),
        (RowRefused, ("23514", "54000")),
        (RowSuspected, ("42601", "42883", "XX000", "0A000", "38000", "45000", "U0001")),
        (Halt, ("42501", "42P01", "42P05", "26000", "XX001", "F0000", "")),
    ],
)
def test_a_verdict_names_the_place_and_what_to_do(kind, states):
    for state in states:
        error = verdict(state, "a.b", f"PostgreSQL says {state}")
        assert (kind, "a.b", True, True) == (type(error), error.place, state in error.rule, bool(error.hint)), state


def test_what_is_denied_before_anything_was_written_is_refused():
    assert {Refused} == {type(verdict(state, "a.b", "", starting=True)) for state, (kind, _) in CAUSES.items() if kind is Cause.DENIED}


def test_a_refused_row_keeps_its_sqlstate():
    error = verdict("23514", "a.b", "PostgreSQL says 23514")
    assert isinstance(error, RowRefused)
    assert "23514" == error.sqlstate
