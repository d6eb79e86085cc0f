"""The practice's tables: shaped like OpenDental's (names, widths, type mix, sizes in proportion), filled with invented
data.

The tables named `site_..` are what sites add on their own: they hold the types and kinds of key that the application
itself avoids.
"""

from __future__ import annotations

from cdc.demo.opendental.columns import Spec
from cdc.demo.opendental.tables_clinical import CLINICAL
from cdc.demo.opendental.tables_empty import EMPTY
from cdc.demo.opendental.tables_money import MONEY
from cdc.demo.opendental.tables_office import LEFTOVERS, LISTS, LOGS, SITE

TABLES: tuple[Spec, ...] = CLINICAL + MONEY + LOGS + LISTS + LEFTOVERS + SITE + EMPTY
BY_NAME: dict[str, Spec] = {spec.name: spec for spec in TABLES}


def rows_at(spec: Spec, size: float) -> int:
    """How many rows the table holds at this size: lists stay as they are,
    anything else that is used has at least 10."""
    if spec.fixed or not spec.rows:
        return spec.rows
    return max(10, round(spec.rows * size))
