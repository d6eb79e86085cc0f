"""`python -m cdc.demo.opendental create|load|sample|work|grow`: the practice from a shell. Prints one JSON document."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from urllib.parse import parse_qsl, unquote, urlsplit

import pymysql

from cdc.demo.opendental.build import create, load, sample
from cdc.demo.opendental.large import grow
from cdc.demo.opendental.workload import Workload


def connection_args(url: str) -> dict[str, object]:
    """`mysql://user:password@host:port/?ssl_ca=..`, percent-encoded; further keys go to PyMySQL as they are."""
    parts = urlsplit(url)
    args: dict[str, object] = {
        "host": parts.hostname or "127.0.0.1",
        "port": parts.port or 3306,
        "user": unquote(parts.username or "root"),
    }
    return args | {"password": unquote(parts.password or "")} | dict(parse_qsl(parts.query))


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="cdc.demo.opendental", description="An OpenDental-like practice to replicate."
    )
    parser.add_argument("command", choices=("create", "load", "sample", "work", "grow"))
    parser.add_argument(
        "--url", default=os.environ.get("OPENDENTAL_URL"), help="mysql://user:password@host:port/ (or OPENDENTAL_URL)"
    )
    parser.add_argument("--database", default="opendental")
    parser.add_argument("--engine", choices=("MyISAM", "InnoDB"), default="MyISAM")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replace", action="store_true", help="create, grow: drop the database first")
    parser.add_argument("--size", type=float, default=1.0, help="load, sample: 1 is about 50,000 rows")
    parser.add_argument("--rows", type=int, default=20_000_000, help="grow: about so many in all")
    parser.add_argument("--tables", type=int, default=446, help="grow: so many, the 58 and siblings of them")
    parser.add_argument(
        "--rate", type=float, default=100.0, help="work: row changes per second, 0 for as fast as it goes"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="work: how long, 0 for until SIGTERM or SIGINT")
    known = parser.parse_args(argv)
    if not known.url:
        parser.error("--url or OPENDENTAL_URL is needed")
    return known


def work(args: argparse.Namespace) -> dict[str, object]:
    """Works until the time is up or a signal comes; the act in hand is finished."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    timer = threading.Timer(args.seconds, stop.set) if args.seconds > 0 else None
    if timer:
        timer.daemon = True
        timer.start()
    return Workload(connection_args(args.url), args.database, args.rate, args.seed, args.engine).run(stop).document()


def perform(args: argparse.Namespace) -> dict[str, object]:
    """Does the command; its result as a document."""
    if args.command == "create":
        create(connection_args(args.url), args.database, args.engine, replace=args.replace)
        return {"created": args.database, "engine": args.engine}
    if args.command == "sample":
        return {"total": sum(sample(connection_args(args.url), args.database, args.engine, size=args.size).values())}
    if args.command == "load":
        rows = load(connection_args(args.url), args.database, size=args.size, seed=args.seed)
        return {"total": sum(rows.values()), "rows": rows}
    if args.command == "grow":
        rows = grow(connection_args(args.url), args.database, args.engine, rows=args.rows, tables=args.tables,
        seed=args.seed,
                    replace_it=args.replace)  # fmt: skip
        return {"total": sum(rows.values()), "rows": rows}
    return work(args)


def main(argv: Sequence[str] | None = None) -> int:
    """0 when done or stopped by a signal, 1 when the server refuses."""
    args = arguments(argv)
    try:
        print(json.dumps(perform(args), indent=2))
    except pymysql.MySQLError as e:
        print(f"{args.command}: the server refused: {type(e).__name__} {e.args[0] if e.args else ''}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
