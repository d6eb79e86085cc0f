"""Commands for who sets a pipeline up: the accounts it needs, and completion for the shell."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer
from typer.completion import completion_init, get_completion_script  # type: ignore[attr-defined]

from cdc.cli.call import call_of
from cdc.cli.output import Outcome

_COMPLETE = "_CDC_COMPLETE"
"""Set by the shell's script while it asks for what may follow."""


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command()(grants)
    cli.command()(completion)


def ready_to_complete() -> None:
    """Let typer answer a shell that asks what may follow, which it else does only with options of its own."""
    if _COMPLETE in os.environ:
        completion_init()


def grants(ctx: typer.Context) -> Outcome | int:
    """The SQL that makes the two accounts with what they need and no more; connects to nothing."""
    from cdc.commands import grants

    call = call_of(ctx)
    found = grants.grants(call.config())
    if call.as_json:
        return Outcome("grants", found)
    typer.echo(grants.script(found), nl=False)
    return 0


def completion(
    ctx: typer.Context, shell: Annotated[Literal["bash", "zsh", "fish"], typer.Argument(help="Which shell reads it.")]
) -> Outcome | int:
    """A script that completes commands and options; for bash: source <(cdc completion bash)."""
    script = get_completion_script(prog_name="cdc", complete_var=_COMPLETE, shell=shell)
    if call_of(ctx).as_json:
        return Outcome("completion", {"shell": shell, "script": script})
    typer.echo(script)
    return 0
