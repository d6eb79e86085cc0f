"""A broker loses the end of what it acknowledged: its files are cut off while it is down, as a disk cache that lied would.

Data records come again, below a base that makes void what named the lost ones. What the broker keeps of the control topic stays: that
a lost control record stops apply is shown by tests/e2e/test_lost_records.py, for nothing goes on after it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.crash.arena import BROKER, Arena
from tests.crash.lane import Case, Run, beginning, ending, on_a_broker
from tests.crash.workload import PLAIN, TABLES

LOG = "log"
"""The victim's name in a case: not the broker, but what it wrote."""
_ROUND = 5


def cases() -> Iterator[Case]:
    """The long lane's share: several losses in one pipeline, on each source."""
    yield from on_a_broker(LOG, _ROUND)


def losses(arena: Arena, case: Case, folder: Path) -> Run:
    """Lose the end of some partitions again and again; the pipeline goes on before the next time."""
    rng = Random(f"losses {case.seed}")
    with arena.place(case.flavour, case.transport, tls=False) as place, beginning(place, case, folder, PLAIN) as run:
        run.works.load()
        run.works.await_cut()
        for _ in range(case.times):
            if rng.random() < 0.5:
                run.works.pipeline.run("copy", f"{run.works.name}.{rng.choice(TABLES)}", "--no-wait")
            before, broker = run.works.cut_no(), place.servers[BROKER]
            broker.kill()
            lost = [cut_off(file, rng.randint(1, 4)) for file in _files(broker.data, run.works.name) if rng.random() < 0.5]
            broker.start()
            run.faults.append(f"{sum(lost)} batches lost")
            if rng.random() < 0.5:  # and its first commits behind the base that went back are its last
                run.works.kill(run.works.of("apply"))
                run.works.start(run.works.of("apply"), f"target.committed:{rng.randint(1, 3)}")
            run.works.await_cut(before)
        ending(run)
        return run


def _files(data: Path, source: str) -> list[Path]:
    """The newest file of each data partition of this source database, in an order that the seed can rely on."""
    folders = sorted(folder for folder in (data / "log").iterdir() if f".{source}." in folder.name)
    return [max(folder.glob("*.log")) for folder in folders]


def cut_off(file: Path, batches: int) -> int:
    """Shorten a partition's file by so many record batches, or by all that it has; how many that were."""
    starts = batch_starts(file)
    lost = starts[-batches:]
    if lost:
        with file.open("r+b") as log:
            log.truncate(lost[0])
    return len(lost)


def batch_starts(file: Path) -> list[int]:
    """Where each record batch begins: base offset (8 bytes), length of what follows (4)."""
    content, at, found = file.read_bytes(), 0, list[int]()
    while at + 12 <= len(content) and (length := struct.unpack(">I", content[at + 8 : at + 12])[0]):
        found.append(at)
        at += 12 + length
    return found
