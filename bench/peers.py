"""pgloader over the same table; only on request, because it has to be installed, and only from MariaDB: it cannot log in to MySQL 9."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import psycopg

from bench.job import Failed, Figures, figures, with_peaks
from bench.machine import Meter, pids
from bench.tables import DATABASE, Shape
from cdc import stack
from cdc.stack import install

_PREFETCH_ROWS, _PREFETCH_LARGE_ROWS, _LARGE = 100_000, 2_000, 2
"""It reads 100,000 rows ahead by default: of the largest rows more than its gigabyte holds; of 100 columns it dies of 20,000 too."""
_LOAD = """LOAD DATABASE FROM {source}{database} INTO {target}
 WITH include drop, create tables, create indexes, reset sequences, workers = 2, concurrency = 1, prefetch rows = {prefetch}
 CAST type date to date drop not null drop default using zero-dates-to-null,
  type datetime to timestamptz drop not null drop default using zero-dates-to-null,
  type timestamp to timestamptz drop not null drop default using zero-dates-to-null
 INCLUDING ONLY TABLE NAMES MATCHING '{table}' ALTER SCHEMA '{database}' RENAME TO '{schema}';
"""


def pgloader(servers: stack.Stack, shape: Shape, rows: int, folder: Path, *, install_it: bool) -> Figures | None:
    """Its load of the table, from its start to its end, zero dates as null as we do it; None where it is not to be had."""
    if install.find("pgloader") is None and install_it:
        with install.alone():
            install.apt("pgloader", "pgloader")
    program = install.find("pgloader")
    if program is None or servers.source.flavour != "mariadb":
        return None
    schema, script = f"pgloader_{shape.label}", folder / f"pgloader-{shape.label}.load"
    source, target = servers.source_admin_url, servers.target_admin_url
    prefetch = _PREFETCH_LARGE_ROWS if shape.share > _LARGE else _PREFETCH_ROWS
    script.write_text(_LOAD.format(source=source, database=DATABASE, target=target, table=shape.table, schema=schema, prefetch=prefetch))
    script.chmod(0o600)
    started, meter = time.perf_counter(), Meter(pids(servers), os.getpid())
    with (folder / "pgloader.log").open("wb") as log, meter.watching():
        process = subprocess.Popen([program, "--root-dir", folder, script], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        _, status, used = os.wait4(process.pid, 0)
        servers_cpu, other = meter.cpu(), meter.other_load(used.ru_utime + used.ru_stime)
    process.returncode, seconds = os.waitstatus_to_exitcode(status), time.perf_counter() - started
    loaded = _count(servers, schema, shape)
    if process.returncode != 0 or loaded != rows:
        log_end = (folder / "pgloader.log").read_text()[-2000:]
        raise Failed(f"pgloader loaded {loaded} of {rows} rows and ended with {process.returncode}: {log_end}")
    cpu = used.ru_utime + used.ru_stime
    found = figures(
        "load_pgloader", shape, rows=rows, seconds=seconds, cpu_seconds=cpu, peak_bytes=used.ru_maxrss * 1024, cpu=servers_cpu,
        other_load=other,
    )  # fmt: skip
    return with_peaks(found, meter.peaks)


def _count(servers: stack.Stack, schema: str, shape: Shape) -> int:
    with psycopg.connect(servers.target_admin_url) as target:
        found = target.execute("SELECT to_regclass(%s)", [f"{schema}.{shape.table}"]).fetchone()
        if found is None or found[0] is None:
            return 0
        row = target.execute(f"SELECT count(*) FROM {schema}.{shape.table}".encode()).fetchone()
        return int(row[0]) if row else 0
