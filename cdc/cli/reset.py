"""`cdc reset`, as it is typed: what it would take away is said, and then asked."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from cdc.cli.call import asking, call_of, judged
from cdc.cli.output import Outcome
from cdc.errors import Refused


def reset(
    ctx: typer.Context,
    tables: Annotated[list[str] | None, typer.Argument(help="Tables, as db.table.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All tables, the pipeline's state and its topics.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> Outcome:
    """Take tables away from the target, to be copied anew; says what goes, and asks. Nothing may run."""
    from cdc.commands import reset

    if bool(tables) == everything:
        raise Refused("usage", "cdc reset", "takes names of tables, or --all", "cdc status lists the tables")
    config, as_json = asking(ctx), call_of(ctx).as_json

    def agreed(lines: Sequence[str]) -> bool:
        for line in () if as_json else lines:
            typer.echo(line, err=True)
        if yes:
            return True
        if as_json or not sys.stdin.isatty():
            raise Refused("not_agreed", "cdc reset", "asks before it takes anything away", "on a terminal; else: --yes")
        return typer.confirm("Take all this away?", default=False, err=True)

    return judged("reset", reset.reset(config, tuple(tables or ()), agreed))
