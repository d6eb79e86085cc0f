"""What a command leaves on the terminal or, with --json, on stdout:
exactly one document there, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TextIO

from rich.console import Console

from cdc.cli import layout
from cdc.errors import CdcError
from cdc.runtime import logs

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished command: its document (the schema is schemas/json/<kind>.schema.json) and its exit code."""

    kind: str
    document: Document
    exit_code: int = 0
    everything: bool = False
    """People are shown what is as it should be too."""


class Output:
    """The one place that writes to stdout."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._stdout = _private_stdout() if as_json else sys.stdout

    def outcome(self, outcome: Outcome) -> int:
        """Print the document; its exit code."""
        if self.as_json:
            self._write(outcome.document)
        else:
            layout.show(Console(file=self._stdout), outcome.kind, outcome.document, outcome.everything)
        return outcome.exit_code

    def lines(self, documents: Iterable[Document]) -> int:
        """Print each document as it comes, a line each; its exit code. Who reads them may leave."""
        try:
            for document in documents:
                self._write(document)
        except BrokenPipeError:
            os.dup2(
                os.open(os.devnull, os.O_WRONLY), self._stdout.fileno()
            )  # else the interpreter fails again when it flushes
        return 0

    def error(self, error: CdcError) -> int:
        """Print the error, as a document on stdout or as lines on stderr; its exit code."""
        if self.as_json:
            self._write(error.document())
        else:
            layout.show(Console(stderr=True), "error", error.document()["error"])
        return error.exit_code

    def defect(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """A hook for sys.excepthook: one line and one document with type and place, never the message."""
        said = logs.described(error.with_traceback(trace))
        logs.failure(logs.logger("cli"), error)
        if self.as_json:
            self._write({"error": said})

    def _write(self, document: Document) -> None:
        self._stdout.write(json.dumps(document, ensure_ascii=False, indent=None, allow_nan=False) + "\n")
        self._stdout.flush()


def _private_stdout() -> TextIO:
    """Keep stdout for the document alone: whatever libraries and child processes print goes to stderr."""
    sys.stdout.flush()
    kept = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return kept
