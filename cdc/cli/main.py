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
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer

import cdc
from cdc.cli import reset
from cdc.cli.call import Call, asking, call_of, judged, patterns_of, streaming
from cdc.cli.output import Outcome, Output, copy_progress
from cdc.errors import CdcError, Refused
from cdc.runtime import logs

_UsageError: type[Exception] = typer.BadParameter.__bases__[0]
_ANY_ARGUMENTS = {"ignore_unknown_options": True, "allow_extra_args": True}
RESERVED = {
    "dashboard": "The lag page, in the browser.",
    "top": "The lag page, in the terminal.",
    "schema": "Reserved.",
    "schedule": "Reserved.",
    "jobs": "Reserved.",
    "compare": "Reserved.",
}

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Source = Annotated[Literal["mariadb", "mysql"], typer.Option(help="Which server to replicate from.")]
Directory = Annotated[Path, typer.Option("--dir", help="Where the servers' data, pipeline.toml and env are kept.")]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The entry point of the `cdc` command."""
    sys.exit(execute(list(sys.argv[1:] if argv is None else argv)))


def execute(argv: list[str]) -> int:
    """Run one command; its exit code. A defect leaves through sys.excepthook, as one line without its message."""
    call, rest = _common(argv)
    call.stop.listen()
    output = call.output = Output(call.as_json)
    logs.configure()
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
        elif word == "--config" or word.startswith("--config="):
            value = word.partition("=")[2] if "=" in word else next(words, None)
            call.path = Path(value) if value else call.path
            rest += [] if value else [word]  # without its value: the parser says so
        else:
            rest.append(word)
    return call, rest


def _dispatch(call: Call, rest: list[str]) -> Any:
    command = typer.main.get_command(cli)
    if not (call.as_json and "--help" in rest):
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
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """MySQL and MariaDB to PostgreSQL, continuously and provably.

    Exit codes: 0 done, 1 failed or timed out, 2 to be mended in configuration, arguments or privileges, 3 differences
    or errors found.
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
    with copy_progress(call.as_json) as progress:
        found = demo.demo(
            source=source, transport=transport, seconds=seconds, size=size, stop=call.stop.event, progress=progress
        )
    return judged("demo", found)


@cli.command()
def doctor(ctx: typer.Context) -> Outcome:
    """Check settings, privileges and data of both sides; shows the SQL that mends each finding."""
    from cdc.commands import doctor

    return judged("doctor", doctor.doctor(asking(ctx)))


@cli.command()
def run(ctx: typer.Context) -> Outcome:
    """Copy what is missing, then stream until stopped: capture and apply in one process."""
    from cdc.commands import run

    return Outcome("run", run.run(*streaming(ctx)))


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
def status(ctx: typer.Context) -> Outcome:
    """Positions, lag and the state of every table."""
    from cdc.monitoring import status

    return judged("status", status.status(asking(ctx)))


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
) -> Outcome:
    """Prove that both sides agree; 3 when they do not."""
    from cdc.commands import reconcile

    return judged("reconcile", reconcile.reconcile(asking(ctx), patterns_of(tables), repair, report))


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


schemas = typer.Typer(no_args_is_help=True, help="The Avro schemas of the topics: export.")
cli.add_typer(schemas, name="schemas")


@schemas.command()
def export(
    ctx: typer.Context,
    directory: Annotated[Path, typer.Argument(help="Where the files go; made if it is not there.")],
    tables: Annotated[
        list[str] | None, typer.Option(help="Only these (db.table, * and ?); may be repeated or parted by commas.")
    ] = None,
) -> Outcome:
    """Write the schemas of key and value of each table as files, by the names of their subjects."""
    from cdc.commands import schemas

    return judged("schemas_export", schemas.export(asking(ctx), directory, patterns_of(tables)))


topics = typer.Typer(no_args_is_help=True, help="The topics of a pipeline over Kafka: read.")
cli.add_typer(topics, name="topics")


@topics.command("read")
def read_(
    ctx: typer.Context,
    topic: Annotated[
        str, typer.Argument(help="A table as db.table; control, schemas or signal; or a topic's whole name.")
    ],
    partition: Annotated[int | None, typer.Option(min=0, help="Only this one; else all, one after the other.")] = None,
    start: Annotated[str, typer.Option("--from", help="An offset, begin or end.")] = "begin",
    limit: Annotated[int, typer.Option(min=0, help="The most records; 0: all.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes, until stopped.")] = False,
    values: Annotated[bool, typer.Option("--values", help="Show values of columns and keys; that is logged.")] = False,
) -> Outcome | int:
    """The records of a topic, a JSON line each; of values and keys only types and lengths, unless asked."""
    from cdc.commands import topics

    call = call_of(ctx)
    if follow and call.as_json:
        rule = "--json is one document, which --follow never ends"
        raise Refused("usage", "cdc topics read", rule, "without --json a record is a line")
    config = call.config()
    call.stop.forces_an_end() if follow else call.stop.breaks_off()
    name, records = topics.read(config, topic, topics.Wanted(partition, start, limit, follow, values), call.stop.event)
    if call.as_json:
        return Outcome("topics_read", {"pipeline": config.pipeline.name, "topic": name, "records": list(records)})
    return call.output.lines(records)


quarantine = typer.Typer(
    no_args_is_help=True, help="Keys whose changes the target refused: list | show | replay | discard."
)
cli.add_typer(quarantine, name="quarantine")
OfTable = Annotated[str, typer.Option("--table", help="Only this table, as db.table.")]
OfKey = Annotated[str, typer.Option("--key", help="Only the key with this hash.")]


@quarantine.command("list")
def list_(ctx: typer.Context, table: OfTable = "", key: OfKey = "") -> Outcome:
    """The keys that wait, why, since when and how much."""
    from cdc.commands import quarantine

    return judged("quarantine_list", quarantine.listed(asking(ctx), table, key))


@quarantine.command()
def show(
    ctx: typer.Context, key: Annotated[str, typer.Argument(help="The key's hash.")], table: OfTable = ""
) -> Outcome:
    """Each change that waits for one key; columns, sizes and positions, never a value."""
    from cdc.commands import quarantine

    return judged("quarantine_show", quarantine.shown(asking(ctx), table, key))


@quarantine.command()
def replay(ctx: typer.Context, table: OfTable = "", key: OfKey = "") -> Outcome:
    """Apply what waits, key by key, also while the pipeline runs; 1 when the target refuses a key again."""
    from cdc.commands import quarantine

    return judged("quarantine_replay", quarantine.replayed(asking(ctx), table, key))


@quarantine.command()
def discard(
    ctx: typer.Context,
    table: OfTable = "",
    key: OfKey = "",
    everything: Annotated[bool, typer.Option("--all", help="Every key.")] = False,
) -> Outcome:
    """Drop what waits: the target goes on without these changes, and cdc reconcile shows the difference."""
    from cdc.commands import quarantine

    return judged("quarantine_discard", quarantine.discarded(asking(ctx), table, key, everything))


def _reserve(name: str, purpose: str) -> None:
    def answer() -> NoReturn:
        rule = "this version does not have the command yet"
        raise Refused("not_yet", f"cdc {name}", rule, "cdc --help lists the commands that work")

    cli.command(name, help=purpose + " Not in this version yet.", context_settings=_ANY_ARGUMENTS)(answer)


cli.command()(reset.reset)
for _name, _purpose in RESERVED.items():
    _reserve(_name, _purpose)
