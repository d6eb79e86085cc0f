"""The `cdc` command: parse, call one function, print, exit 0, 1, 2 or 3. What a command does is elsewhere.

Each command imports what it calls when it is called: drivers and the codec are slow to load, and `cdc --help` needs
none of them.
"""

from __future__ import annotations

import contextlib
import io
import platform
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

import cdc
from cdc.cli import groups, installing, reset
from cdc.cli.bars import check_progress, copy_progress
from cdc.cli.call import VALUED, Call, asking, call_of, judged, patterns_of, streaming
from cdc.cli.output import Outcome, Output
from cdc.cli.reserved import reserve
from cdc.errors import CdcError, Refused

_UsageError: type[Exception] = typer.BadParameter.__bases__[0]
cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Source = Annotated[Literal["mariadb", "mysql"], typer.Option(help="Which server to replicate from.")]
Everything = Annotated[bool, typer.Option("--all", help="Show what is as it should be, too.")]
Directory = Annotated[Path, typer.Option("--dir", help="Where the servers' data, pipeline.toml and env are kept.")]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The entry point of the `cdc` command."""
    installing.ready_to_complete()
    sys.exit(execute(list(sys.argv[1:] if argv is None else argv)))


def execute(argv: list[str]) -> int:
    """Run one command; its exit code. A defect leaves through sys.excepthook, as one line without its message."""
    call, rest = _common(argv)
    call.stop.listen()
    output = call.output = Output(call.as_json)
    call.log()
    sys.excepthook = output.defect
    try:
        outcome = Outcome("version", _version()) if call.version else _dispatch(call, rest)
        return output.outcome(outcome) if isinstance(outcome, Outcome) else int(outcome or 0)
    except CdcError as error:
        return output.error(error)
    except _UsageError as error:
        return output.error(_usage(error))


def _common(argv: list[str]) -> tuple[Call, list[str]]:
    """Take out what is understood before and after the command alike,
    so that even a wrong command is answered as asked."""
    call, rest, words = Call(), list[str](), iter(argv)
    for word in words:
        if word == "--json":
            call.as_json = True
        elif word == "--version":
            call.version = True
        elif word.partition("=")[0] in VALUED:
            option, equals, value = word.partition("=")
            value = value if equals else next(words, "")
            if not call.take(option, value):
                rest = [option, value, *rest] if value else [*rest, word]  # the parser says what is wrong with it
        else:
            rest.append(word)
    return call, rest


def _dispatch(call: Call, rest: list[str]) -> Any:
    command = typer.main.get_command(cli)
    if not (call.as_json and {"-h", "--help"} & set(rest)):
        return command.main(args=rest, prog_name="cdc", standalone_mode=False, obj=call)
    with contextlib.redirect_stdout(io.StringIO()) as text:
        command.main(args=rest, prog_name="cdc", standalone_mode=False, obj=call)
    return Outcome("help", {"help": text.getvalue()})


def _usage(error: Exception) -> Refused:
    message = getattr(error, "format_message", lambda: str(error))()
    rule = " ".join(str(message).split()) or "a command is missing"
    return Refused("usage", "command line", rule, "cdc --help lists commands and options")


def _version() -> dict[str, Any]:
    from cdc import codec

    return {"version": cdc.__version__, "codec": str(codec.KIND), "python": platform.python_version()}


@cli.callback()
def common(
    config: Annotated[Path, typer.Option(help="The pipeline's file; also understood after the command.")] = Path(
        "pipeline.toml"
    ),
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on stdout, errors too; also understood after the command.")
    ] = False,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(help="The least that is logged, on stderr.")
    ] = "info",
    log_format: Annotated[
        Literal["plain", "json"] | None, typer.Option(help="How; else plain on a terminal, json elsewhere.")
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """MySQL and MariaDB to PostgreSQL, continuously and provably.

    Exit codes: 0 done, 1 failed or timed out, 2 to be mended in
    configuration, arguments or privileges, 3 differences or errors found.
    """


@cli.command()
def up(
    ctx: typer.Context,
    source: Source = "mariadb",
    kafka: Annotated[bool, typer.Option("--kafka", help="Start a broker too.")] = False,
    directory: Directory = Path(".cdc"),
) -> Outcome:
    """Start local servers to try a pipeline on; writes DIR/pipeline.toml and DIR/env."""
    from cdc import stack

    call_of(ctx).stop.breaks_off()
    found = stack.up(directory, source=source, kafka=kafka)
    servers = [{"name": server.name, "host": server.host, "port": server.port} for server in found.servers]
    return Outcome(
        "up", {"directory": str(found.folder), "config": str(found.config), "env": str(found.env), "servers": servers}
    )


@cli.command()
def down(
    ctx: typer.Context,
    purge: Annotated[bool, typer.Option("--purge", help="Delete their data too.")] = False,
    directory: Directory = Path(".cdc"),
) -> Outcome:
    """Stop the servers that `up` started."""
    from cdc import stack

    call_of(ctx).stop.breaks_off()
    stopped = stack.down(directory, purge=purge)
    return Outcome("down", {"directory": str(directory.resolve()), "purged": purge, "stopped": stopped})


@cli.command()
def demo(
    ctx: typer.Context,
    source: Source = "mariadb",
    transport: Annotated[Literal["direct", "kafka"], typer.Option(help="How changes travel.")] = "direct",
    seconds: Annotated[float, typer.Option(min=1, help="How long the practice works.")] = 30.0,
    size: Annotated[float, typer.Option(min=0.001, help="Size of the practice; 1 is a small one.")] = 1.0,
) -> Outcome:
    """Everything at work on this machine: servers, a practice at work, snapshot, stream, lag, reconcile."""
    from cdc.demo import demo

    call = call_of(ctx)
    bars, checked = partial(copy_progress, call.as_json), partial(check_progress, call.as_json)
    found = demo.demo(
        source=source, transport=transport, seconds=seconds, size=size, stop=call.stop.event, bars=bars, checked=checked
    )
    return judged("demo", found)


@cli.command()
def doctor(ctx: typer.Context, everything: Everything = False) -> Outcome:
    """Check settings, privileges and data of both sides; shows the SQL that mends each finding."""
    from cdc.commands import doctor

    return judged("doctor", doctor.doctor(asking(ctx)), everything)


@cli.command()
def run(ctx: typer.Context) -> Outcome:
    """Copy what is missing, then stream until stopped: capture and apply in one process."""
    from cdc.commands import run

    bars = partial(copy_progress, call_of(ctx).as_json)
    return Outcome("run", run.run(*streaming(ctx), bars))


@cli.command()
def snapshot(
    ctx: typer.Context,
    pause: Annotated[
        bool, typer.Option("--pause", help="Have the copy rest, wherever it runs, until --resume.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Have it go on.")] = False,
) -> Outcome:
    """Copy the tables once; started again, it goes on where it was."""
    call = call_of(ctx)
    if pause or resume:
        if pause and resume:
            raise Refused("usage", "command line", "--pause and --resume are opposites", "give one of them")
        from cdc.state import copies

        config = asking(ctx)
        return Outcome("snapshot_rest", copies.rest(config.target, config.pipeline.name, pause))
    from cdc.commands import snapshot

    config, stop = streaming(ctx)
    with copy_progress(call.as_json) as progress:
        return Outcome("snapshot", snapshot.snapshot(config, stop, progress))


@cli.command()
def capture(ctx: typer.Context) -> Outcome:
    """Read the source's log into the topics until stopped."""
    from cdc.commands import capture

    return Outcome("capture", capture.capture(*streaming(ctx)))


@cli.command()
def apply(ctx: typer.Context) -> Outcome:
    """Apply the topics to the target until stopped."""
    from cdc.commands import apply

    return Outcome("apply", apply.apply(*streaming(ctx)))


@cli.command()
def status(ctx: typer.Context, everything: Everything = False) -> Outcome:
    """Positions, lag and the state of every table."""
    from cdc.monitoring import status

    return judged("status", status.status(asking(ctx)), everything)


@cli.command()
def wait(ctx: typer.Context, timeout: Annotated[float, typer.Option(min=0, help="Seconds.")] = 60.0) -> Outcome:
    """Wait until the target holds everything that the source has committed by now; 1 when the time is up."""
    from cdc.monitoring import wait

    return judged("wait", wait.wait(asking(ctx), timeout))


@cli.command()
def reconcile(
    ctx: typer.Context,
    tables: Annotated[
        list[str] | None, typer.Option(help="Only these (db.table, * and ?); may be repeated or parted by commas.")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Have capture read differing keys again.")] = False,
    report: Annotated[Path | None, typer.Option(help="Directory for the report, as HTML and JSON.")] = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="The longest wait for a target that is behind, in seconds; else 60.")
    ] = None,
    everything: Everything = False,
) -> Outcome:
    """Prove that both sides agree; 3 when they do not, 1 when it ended before that was known."""
    from cdc.commands import reconcile

    config = asking(ctx)
    with check_progress(call_of(ctx).as_json) as told:
        found = reconcile.reconcile(config, patterns_of(tables), repair, report, timeout=timeout, told=told)
    return judged("reconcile", found, everything)


@cli.command()
def copy(
    ctx: typer.Context,
    table: Annotated[str, typer.Argument(help="The table, as db.table.")],
    where: Annotated[str, typer.Option(help="Only the rows that meet this SQL condition; in place.")] = "",
    keys: Annotated[str, typer.Option(help='Only these keys: "1,2,3", or JSON: [["a","1"],["b","2"]]; in place.')] = "",
    swap: Annotated[
        bool, typer.Option("--swap", help="The old rows stay readable until the new ones are complete.")
    ] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="Take back what was asked for this table, under way or waiting.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is done, or only ask for it.")] = True,
    timeout: Annotated[float, typer.Option(min=0, help="The longest wait, in seconds; 0: as long as it takes.")] = 0.0,
) -> Outcome:
    """Copy a followed table (again) while the pipeline streams; 1 when it is not done."""
    from cdc.commands import copy

    call = call_of(ctx)
    if stop and (where or keys or swap):
        rule = "--stop goes with none of --where, --keys and --swap"
        raise Refused("usage", "cdc copy", rule, "it takes back all that was asked")
    config = asking(ctx)
    if stop:
        return judged("copy_stop", copy.stop(config, table, wait, timeout))
    with copy_progress(call.as_json) as progress:
        return judged("copy", copy.copy(config, table, where, keys, swap, wait, timeout, progress))


for _group in (groups.schemas, groups.topics, groups.quarantine):
    cli.add_typer(_group)


cli.command()(reset.reset)
installing.register(cli)
reserve(cli)
