"""Findings as a document, and as errors that stop a start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from cdc.errors import AllRefused, CdcError, Refused
from cdc.model.finding import Finding

LOCAL = ("127.0.0.1", "::1", "localhost")

T = TypeVar("T")


class Demands(list[Finding]):
    """Findings of a start: what cannot be asked is not noted, it stops."""

    def enforce(self) -> None:
        """Raise Refused with the first error, if there is one."""
        errors = [one for one in self if one.level == "error"]
        if errors:
            more = f" (and {len(errors) - 1} more: cdc doctor lists them)" if errors[1:] else ""
            raise Refused(errors[0].code, errors[0].place, errors[0].rule + more, errors[0].hint_sql)


def document(
    findings: Iterable[Finding],
    source: Mapping[str, str] | None,
    version: str | None,
    tables: Sequence[str],
    codec: str,
) -> dict[str, Any]:
    """Findings as a document, errors first."""
    ordered = sorted(findings, key=lambda one: (one.level != "error", one.code, one.place))
    shown = [
        {"level": one.level, "code": one.code, "place": one.place, "rule": one.rule, "hint": one.hint_sql}
        for one in ordered
    ]
    errors = sum(one.level == "error" for one in ordered)
    return {
        "errors": errors,
        "warnings": len(ordered) - errors,
        "codec": codec,
        "source": source,
        "target": None if version is None else {"version": version},
        "tables": list(tables),
        "findings": shown,
    }


def tried(findings: list[Finding], otherwise: T, ask: Callable[[], T]) -> T:
    """The answer; what cannot be asked is a finding, or stops a start, and `otherwise` stands for it."""
    try:
        return ask()
    except CdcError as error:
        if isinstance(findings, Demands):
            raise
        parts = error.parts if isinstance(error, AllRefused) else (error,)
        findings += [Finding("error", one.code, one.place, one.rule, one.hint) for one in parts]
        return otherwise
