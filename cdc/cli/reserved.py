"""Commands that have a name and a purpose, and are not in this version."""

from __future__ import annotations

from typing import NoReturn

import typer

from cdc.errors import Refused

RESERVED = {
    "dashboard": "The lag page, in the browser.",
    "top": "The lag page, in the terminal.",
    "schema": "Reserved.",
    "schedule": "Reserved.",
    "jobs": "Reserved.",
    "compare": "Reserved.",
}
_ANY_ARGUMENTS = {"ignore_unknown_options": True, "allow_extra_args": True}


def reserve(cli: typer.Typer) -> None:
    """Have each answer that it is not there yet."""
    for name, purpose in RESERVED.items():
        _reserve(cli, name, purpose)


def _reserve(cli: typer.Typer, name: str, purpose: str) -> None:
    def answer() -> NoReturn:
        rule = "this version does not have the command yet"
        raise Refused("not_yet", f"cdc {name}", rule, "cdc --help lists the commands that work")

    text = purpose + " Not in this version yet."
    cli.command(name, help=text, hidden=True, context_settings=_ANY_ARGUMENTS)(answer)
