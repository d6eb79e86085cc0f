"""What must hold when the work is over: read from both servers by plain SELECT, judged by code that is none of the product's.

The names I1 to I10 are those of docs/decisions/015-crash-lane.md.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.crash.milestones import log_end
from tests.crash.workload import LISTED, TABLES, Workload, patiently
from tests.crash.works import GROUP, Violation, Works
from tests.e2e import oracle

PROGRESS_SECONDS = 120.0
"""So long the target may stand still once every server is back, the time not counted in which processes waited for a processor."""
_MEMORY_BYTES, _FILES = 1 << 30, 200


def arrived(works: Works, op: int, seconds: float = PROGRESS_SECONDS, states: tuple[str, ...] = ("consistent",)) -> None:
    """I7: the last operation arrives, and every table is in one of these states. Ended processes are started again."""
    patience, count = works.patience(seconds), 0
    shown = ", ".join(f"'{state}'" for state in states)
    there = f"""SELECT ((SELECT count(*) FROM "{works.name}".ledger WHERE op = {op}) = 1 AND {_everywhere(works)} AND {works.copied()}
      AND (SELECT count(*) FROM cdc.tables WHERE pipeline = '{works.name}' AND state IN ({shown})
       AND "table" IN ({LISTED})) = {len(TABLES)})::int"""
    while not works.asked(there):
        if (newer := works.asked(f'SELECT count(*)::int FROM "{works.name}".ledger')) > count:  # not cuts: an idle log is cut too
            count = newer
            patience.renew()
        if patience.over():
            works.dump()
            raise Violation(f"I7: operation {op} did not arrive, and nothing else for {patience}; ended: {works.ended}\n{works.said()}")
        works.start_all()
        time.sleep(0.05)


def _everywhere(works: Works) -> str:
    """Of several sinks one may have the last operation before others have what precedes it: then all of them, by the position shown."""
    if works.way != GROUP:
        return "true"
    file, offset = patiently(lambda: log_end(works.place.source), works.place.source)
    place = "substring(position ->> 'file' FROM '[0-9]+$')::int8, (position ->> 'offset')::int8"
    return f"(SELECT ({place}) >= ({file}, {offset}) FROM cdc.progress WHERE pipeline = '{works.name}')"


def judge(works: Works, work: Workload, more: Iterable[str] = ()) -> None:
    """Everything that can be judged at rest, of the lane's tables and of more; raises a Violation that lists all that does not hold."""
    source, target = works.place.source, works.place.target
    found = [
        f"I1 {table}: {what}" for table, what in patiently(lambda: oracle.differences(source, target, [*TABLES, *more]), source).items()
    ]
    found += _operations(works, work)
    found += _audit(works)
    found += _silence(works)
    found += _resources(works)
    if found:
        raise Violation("\n".join([*found, f"ended: {works.ended}", works.said()]))


def _operations(works: Works, work: Workload) -> list[str]:
    committed = {op for (op,) in works.place.source.execute("SELECT op FROM ledger")}
    arrived_ops = [op for (op,) in works.place.target.execute(f'SELECT op FROM "{works.name}".ledger')]
    lost, invented = committed - set(arrived_ops), set(arrived_ops) & work.rolled_back
    return [
        *([f"I2: {len(lost)} of {len(committed)} committed operations are missing, {min(lost)} first"] if lost else []),
        *([f"I3: {len(invented)} operations that the source rolled back are there, {min(invented)} first"] if invented else []),
    ]


def _audit(works: Works) -> list[str]:
    """I6: each value of each counter once in the table without a key."""
    rows = Counter(works.place.target.execute(f'SELECT k, n::int8 FROM "{works.name}".audit'))
    wanted = {(k, i) for k, n in works.place.target.execute(f'SELECT k, n::int8 FROM "{works.name}".counter') for i in range(1, n + 1)}
    double = [entry for entry, times in rows.items() if times > 1]
    gaps, strange = wanted - set(rows), set(rows) - wanted
    return [
        f"I6: {len(some)} entries of the audit {what}"
        for some, what in ((double, "are there twice"), (gaps, "lack"), (strange, "are strange"))
        if some
    ]


def _silence(works: Works) -> list[str]:
    """I8: nothing was set aside or changed on the way; nothing in this workload has to be."""
    found = [(name, works.place.target.execute(f"SELECT count(*) FROM cdc.{name}")[0][0]) for name in ("quarantine", "anomaly")]
    return [f"I8: {count} rows in cdc.{name}" for name, count in found if count]


def _resources(works: Works) -> list[str]:
    """I10: no process grows without bound, no session of ours sits in an open transaction."""
    idle = works.place.target.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'"
        " AND application_name LIKE 'cdc %' AND now() - state_change > interval '5 s'"
    )
    found = [f"I10: {idle[0][0]} sessions idle in a transaction"] if idle[0][0] else []
    for command, process in works.processes.items():
        if process.alive:
            memory, files = _used(process.process.pid)
            if memory > _MEMORY_BYTES or files > _FILES:
                found.append(f"I10: cdc {command} holds {memory >> 20} MiB and {files} files")
    return found


def _used(pid: int) -> tuple[int, int]:
    place = Path(f"/proc/{pid}")
    status: dict[str, Any] = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line)
    return int(status.get("VmRSS", "0 kB").split()[0]) << 10, sum(1 for _ in (place / "fd").iterdir())
