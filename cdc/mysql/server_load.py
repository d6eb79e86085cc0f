"""The source's own signs of load, asked over a connection of its own:
who runs, who waits for a table, how late it is as a replica."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from cdc.config.load import SourceConfig
from cdc.errors import Refused
from cdc.mysql.connection import connect, deciding
from cdc.mysql.preflight import replica_status_sql
from cdc.runtime import logs

_STATUS = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Threads_running', 'Table_locks_waited')"
_LAGS = ("Seconds_Behind_Source", "Seconds_Behind_Master")


class ServerLoad(NamedTuple):
    """How busy the source is."""

    threads_running: int
    lock_waits_per_second: float
    """Requests for a table's lock that had to wait, since the last question."""
    replica_lag_seconds: float | None
    """The furthest that it is behind a server that it follows; None: it follows none, or the account may not ask."""


class LoadProbe:
    """Asks the source; give it up with `close`."""

    def __init__(self, source: SourceConfig) -> None:
        self.place = f"{source.url.host}:{source.url.port}"
        self._connection = connect(source)
        version = str(self._rows("SELECT VERSION() AS version")[0]["version"])
        self._replica = replica_status_sql(version)
        self._waited: tuple[float, int] | None = None

    def close(self) -> None:
        """End the connection, also one that was lost."""
        if self._connection.open:
            self._connection.close()

    def read(self) -> ServerLoad:
        """How busy it is now."""
        status = {row["Variable_name"].lower(): int(row["Value"]) for row in self._rows(_STATUS)}
        return ServerLoad(
            status["threads_running"], self._waits(time.monotonic(), status["table_locks_waited"]), self._lag()
        )

    def _waits(self, now: float, waited: int) -> float:
        before, self._waited = self._waited, (now, waited)
        return max(0, waited - before[1]) / (now - before[0]) if before and now > before[0] else 0.0

    def _lag(self) -> float | None:
        if not self._replica:
            return None
        try:
            rows = self._rows(self._replica)
        except Refused:
            self._replica = ""
            logs.logger("snapshot").info(
                "replica_lag_unknown", place=self.place, hint="GRANT REPLICA MONITOR, or REPLICATION CLIENT"
            )
            return None
        lags = [row[name] for row in rows for name in _LAGS if row.get(name) is not None]
        return float(max(map(int, lags))) if lags else None

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        with deciding(self.place), self._connection.cursor() as cursor:
            cursor.execute(sql)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
