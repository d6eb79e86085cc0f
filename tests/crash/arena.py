"""Where a run takes place: a source, a target and perhaps a broker, each behind a proxy when faults are to reach the network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdc.stack import Server
from tests import run
from tests.crash.proxy import Proxy
from tests.helpers.servers import Broker, SourceDatabase, TargetDatabase, fresh_name, lent

SOURCE, TARGET, BROKER = "source", "target", "broker"
FLAVOURS, TRANSPORTS = ("mariadb", "mysql"), ("direct", "kafka")
COMBINATIONS = tuple((flavour, transport) for flavour in FLAVOURS for transport in TRANSPORTS)
"""Every pair of source and transport."""


_RESTLESS = ("log.retention.check.interval.ms=500", "log.cleaner.backoff.ms=500", "log.cleaner.min.cleanable.ratio=0.01")
"""A broker that forgets as soon as it may: topics of the lane of time may within seconds, others after a week."""


@dataclass
class Place:
    """What one pipeline uses: databases and a prefix of its own, the servers that may be hurt, the proxies before them."""

    flavour: str
    source: SourceDatabase
    target: TargetDatabase
    broker: Broker | None
    proxies: dict[str, Proxy] = field(default_factory=dict)
    tls: bool = True
    """Whether the connections to source and target are encrypted."""

    @property
    def servers(self) -> dict[str, Server]:
        found: dict[str, Server] = {SOURCE: self.source.server, TARGET: self.target.server}
        return found if self.broker is None else {**found, BROKER: self.broker.server}

    def sections(self) -> dict[str, dict[str, Any]]:
        """The addresses for pipeline.toml: those of the proxies, where there are any."""
        if not self.proxies:
            return {}
        source, target = self.source.url, self.target.url
        found: dict[str, dict[str, Any]] = {
            "source": {
                "url": source.replace(f":{self.source.port}/", f":{self.proxies[SOURCE].port}/"),
                "ssl_mode": "required" if self.tls else "disabled",
            },
            "target": {
                "url": target.replace(f":{self.target.port}/", f":{self.proxies[TARGET].port}/")
                + f"?sslmode={'require' if self.tls else 'disable'}"
            },
        }
        if self.broker is not None:
            found["transport"] = {"bootstrap": f"{self.broker.server.host}:{self.proxies[BROKER].port}"}
        return found


class Arena:
    """The servers of one worker, kept from run to run."""

    def __init__(self, private: bool) -> None:
        """`private`: servers of our own, behind proxies, that may be killed; else those that all tests share."""
        self._private = private
        self._servers: dict[str, Server] = {}
        self._proxies: dict[str, Proxy] = {}

    def server(self, kind: str) -> Server:
        """The server of this kind, started if it is not there."""
        if not self._private:
            return run.shared(kind)
        if kind not in self._servers:
            os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")  # a broker that is killed again and again never gets warm
            proxy = self._proxies[kind] = Proxy(lambda: self._servers[kind].port)
            options = {
                "kafka": (f"advertised.listeners=PLAINTEXT://127.0.0.1:{proxy.port}", "file.delete.delay.ms=1000", *_RESTLESS),
                "postgres": ("max_wal_size = '256MB'",),
            }
            changes: dict[str, Any] = {"options": options.get(kind, ()), **({"tls": None} if kind == "kafka" else {})}
            self._servers[kind] = run.private_in(self._folder(kind), kind, changes)
        self._servers[kind].start()
        return self._servers[kind]

    def _folder(self, kind: str) -> Path:
        """Where a server of our own keeps its files."""
        return run.folder() / fresh_name()

    @contextmanager
    def place(self, flavour: str, transport: str, *, tls: bool = True) -> Iterator[Place]:
        """A fresh place; healed, started again and emptied when the block ends."""
        kafka: Any = self.server("kafka") if transport == "kafka" else None
        source, target = SourceDatabase(self.server(flavour)), TargetDatabase(self.server("postgres"))  # type: ignore[arg-type]
        proxies = {SOURCE: flavour, TARGET: "postgres", **({BROKER: "kafka"} if kafka else {})}
        found = {name: self._proxies[kind] for name, kind in proxies.items()} if self._private else {}
        for proxy in found.values():
            proxy.heal()
        with lent(source), lent(target):
            broker = Broker(kafka) if kafka else None
            place = Place(flavour, source, target, broker, found, tls)
            try:
                yield place
            finally:
                for proxy in found.values():
                    proxy.heal()
                for server in place.servers.values():
                    server.start()
                if broker is not None:
                    broker.drop()
                if self._private:
                    source.execute("FLUSH BINARY LOGS", f"PURGE BINARY LOGS TO '{_newest_log(source)}'")
                source.close()

    def close(self) -> None:
        """End the servers of our own."""
        for proxy in self._proxies.values():
            proxy.close()
        for server in self._servers.values():
            server.purge()


def _newest_log(source: SourceDatabase) -> str:
    """What lies before it is read by nobody any more, and would fill the memory that servers keep their files in."""
    return str(source.execute("SHOW BINARY LOGS")[-1][0])
