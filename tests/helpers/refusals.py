"""What every refusal owes its reader: one error as text and as a document, the right exit code, no secret, and nothing written."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
from psycopg import sql

from tests.helpers.documents import faults
from tests.helpers.pipelines import Pipeline, Running
from tests.helpers.servers import PASSWORD, Broker, SourceDatabase, TargetDatabase, fresh_name

WRONG = "wr0ng-s3cret"
SECRETS = (PASSWORD, WRONG)
_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public')"


def refused(made: Pipeline, command: str, *, exit_code: int = 2) -> dict[str, Any]:
    """The error with which a command ends, the same as a document and as text."""
    said = error(made, command, exit_code=exit_code)
    done = made.run(command)
    assert exit_code == done.returncode, done.stderr
    expected = [f"error [{said['code']}] {said['place']}:", said["rule"] if "problems" not in said else said["problems"][0]["rule"]]
    assert [] == [part for part in (*expected, said["hint"]) if part not in done.stderr], (said, done.stderr)
    assert 1 == done.stderr.count("error [")
    discreet(done.stdout + done.stderr)
    return said


def error(made: Pipeline, command: str, *, exit_code: int = 2) -> dict[str, Any]:
    """The error's document, which keeps its schema and names place, rule and mend."""
    done = made.run("--json", command, timeout_seconds=60)
    discreet(done.stdout + done.stderr)
    assert exit_code == done.returncode, (done.stdout, done.stderr)
    document = json.loads(done.stdout)
    assert [] == faults("error", document)
    said: dict[str, Any] = document["error"]
    assert [] == [part for part in ("code", "place", "rule", "hint") if not said[part]], said
    return said


def found(made: Pipeline) -> list[dict[str, Any]]:
    """The doctor's errors."""
    done = made.run("--json", "doctor")
    discreet(done.stdout + done.stderr)
    document = json.loads(done.stdout)
    assert [] == faults("doctor", document)
    errors = [one for one in document["findings"] if one["level"] == "error"]
    assert (3 if errors else 0) == done.returncode
    assert [] == [one for one in errors if not (one["place"] and one["rule"] and one["hint"])]
    return errors


def discreet(text: str) -> None:
    """No secret and no traceback."""
    assert [] == [secret for secret in (*SECRETS, "Traceback") if secret in text], text


def untouched(target: TargetDatabase, broker: Broker | None = None, *, besides: tuple[str, ...] = ()) -> None:
    """Neither schema nor table on the target, no topic on the broker. The source cannot be written: the account may not."""
    schemas = {name for (name,) in target.execute(_SCHEMAS)} - set(besides)
    assert (set(), []) == (schemas, broker.topics() if broker else [])


def ended(running: Running, exit_code: int = 1, seconds: float = 60.0) -> str:
    """What a process has said when it ends by itself, with this exit code."""
    assert exit_code == running.process.wait(seconds), running.output()
    discreet(running.output())
    return running.output()


def outcome(running: Running) -> dict[str, Any]:
    """The document with which a process that was started with --json ends; logs are in the same stream."""
    lines = [line for line in running.output().splitlines() if line.startswith('{"error"')]
    assert 1 == len(lines), running.output()
    document = json.loads(lines[0])
    assert [] == faults("error", document)
    said: dict[str, Any] = document["error"]
    return said


def until(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.05)


def streaming(made: Pipeline, *commands: str) -> list[Running]:
    """The commands at work, and everything that the source holds by now applied."""
    running = [made.start("--json", command) for command in commands or ("run",)]

    end = time.monotonic() + 120
    while made.run("wait", "--timeout", "30").returncode != 0:
        assert [] == [one.output() for one in running if not one.alive or time.monotonic() > end]
    return running


def rows(target: TargetDatabase, schema: str, table: str = "t") -> list[tuple[Any, ...]]:
    """All rows of a target table, in order."""
    with target.connect() as line:
        return line.execute(sql.SQL("SELECT * FROM {} ORDER BY 1").format(sql.Identifier(schema, table))).fetchall()


@contextlib.contextmanager
def account(source: SourceDatabase, *grants: str, require: str = "NONE") -> Iterator[str]:
    """An account on a source with these grants alone; its name. None of it is in the log."""
    name = fresh_name()
    create = f"CREATE USER '{name}'@'%' IDENTIFIED BY '{PASSWORD}' REQUIRE {require}"
    statements = [create, *(f"GRANT {grant} TO '{name}'@'%'" for grant in grants)]
    with contextlib.closing(source.connect()) as line, line.cursor() as cursor:
        for statement in ("SET sql_log_bin = 0", *statements):
            cursor.execute(statement)
        try:
            yield name
        finally:
            cursor.execute(f"DROP USER '{name}'@'%'")


@contextlib.contextmanager
def role(target: TargetDatabase, *statements: str) -> Iterator[str]:
    """A role on a target, made fit or unfit by statements that a superuser runs ({role} stands for its name)."""
    name = fresh_name()
    with target.connect("postgres") as line:
        line.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(name), sql.Literal(PASSWORD)))
        try:
            for statement in statements:
                line.execute(statement.format(role=name).encode())
            yield name
        finally:
            with contextlib.suppress(psycopg.Error):
                line.execute(f"DROP OWNED BY {name} CASCADE".encode())
            line.execute(f"DROP ROLE {name}".encode())
