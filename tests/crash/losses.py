"""A broker loses the end of what it acknowledged: its files are cut off while it is down, as a disk cache that lied would.

Data records come again, below a base that makes void what named the lost ones. Now and then capture stands at its base, above records that
are void and may be lost; or it has just begun anew, and all is lost that it wrote to a partition: a broker that still knew its last
numbers would refuse the next one. What the broker keeps of the control topic stays: that a lost control record stops apply is shown by
tests/e2e/test_lost_records.py, for nothing goes on after it.
"""

from __future__ import annotations

import signal
import struct
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from random import Random

from tests.crash.arena import BROKER, Arena
from tests.crash.lane import Case, Run, beginning, ending, on_a_broker
from tests.crash.workload import PLAIN, TABLES
from tests.crash.works import until

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
        for number in range(case.times):
            files = _files(place.servers[BROKER].data, run.works.name)
            based, anew = number % 4 == 1, number % 4 == 3
            if based:
                files = _stop_at_its_base(run, rng, files)
            elif anew:
                _begin_anew(run)
            elif rng.random() < 0.5:
                run.works.copy(rng.choice(TABLES))
            before, broker = run.works.cut_no(), place.servers[BROKER]
            broker.kill()
            lost = [cut_off(file, 1 if based else rng.randint(1, 4), whole=anew) for file in files if based or rng.random() < 0.5]
            broker.start()
            run.work.may_work.set()
            run.works.processes[run.works.of("capture")].process.send_signal(signal.SIGCONT)
            run.faults.append(f"{sum(lost)} batches lost")
            if rng.random() < 0.5:  # and its first commits behind the base that went back are its last
                run.works.kill(run.works.of("apply"))
                run.works.start(run.works.of("apply"), f"target.committed:{rng.randint(1, 3)}")
            run.works.await_cut(before)
        ending(run)
        return run


def _stop_at_its_base(run: Run, rng: Random, files: list[Path]) -> list[Path]:
    """An epoch ends above its last cut; the next one stands at its base, which tells of records that are void and may be lost: where."""
    works, command = run.works, run.works.of("capture")
    works.kill(command)
    works.start(command, f"capture.acknowledged:{rng.randint(2, 4)}")
    works.dies(command)
    assert works.place.broker is not None
    control = max((files[0].parents[1] / f"{works.place.broker.prefix}.control-0").glob("*.log"))
    void = [file for file in files if file.stat().st_mtime_ns > control.stat().st_mtime_ns]
    successor = works.start(command, "capture.based:1:stop")
    until(lambda: successor.stopped, works.patience(60), "capture at its base")
    return void


def _begin_anew(run: Run) -> None:
    """A new epoch that has written little, while the writers rest."""
    works, command = run.works, run.works.of("capture")
    _rest(run)
    before = works.cut_no()
    works.kill(command)
    works.start(command)
    works.await_cut(before)
    run.work.may_work.set()
    works.await_cut(works.cut_no() + 1)
    _rest(run)


def _rest(run: Run) -> None:
    """Nobody writes, and all that was written is in the target; an idle log is cut seldom."""
    run.work.may_work.clear()
    run.works.start_all()
    said = run.works.pipeline.run("wait", "--timeout", "60")
    assert said.returncode == 0, f"{said.stderr}{run.works.said()}"


def _files(data: Path, source: str) -> list[Path]:
    """The newest file of each data partition of this source database, in an order that the seed can rely on."""
    folders = sorted(folder for folder in (data / "log").iterdir() if f".{source}." in folder.name)
    return [max(folder.glob("*.log")) for folder in folders]


def cut_off(file: Path, batches: int, *, whole: bool = False) -> int:
    """Shorten a partition's file by so many record batches, or by all that it has; how many that were.

    With `whole` rather by all that its last producer wrote, if those are more: nobody knows that producer afterwards.
    """
    starts = batch_starts(file)
    if whole:
        producers = [_producer(file, start) for start in starts]
        batches = max(batches, len(list(takewhile(lambda one: one == producers[-1], reversed(producers)))))
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


def _producer(file: Path, start: int) -> bytes:
    """A batch's producer id, behind 43 bytes of its header (message format 2)."""
    with file.open("rb") as log:
        log.seek(start + 43)
        return log.read(8)
