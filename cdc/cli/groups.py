"""The commands that have a word of their own before them: `cdc schemas ..`, `cdc topics ..`, `cdc quarantine ..`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cdc.cli.call import asking, call_of, judged, patterns_of
from cdc.cli.output import Outcome
from cdc.errors import Refused

schemas = typer.Typer(name="schemas", no_args_is_help=True, help="The Avro schemas of the topics: export.")


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


topics = typer.Typer(name="topics", no_args_is_help=True, help="The topics of a pipeline over Kafka: read.")


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
    name="quarantine",
    no_args_is_help=True,
    help="Keys whose changes the target refused: list | show | replay | discard.",
)
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
