"""What happens to a pipeline in the lane of time: what its operator does, what the tables do, what a topic's age does."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from random import Random

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from tests.crash.comers import Comer, Comers
from tests.crash.counting import Counting
from tests.crash.lane import Run
from tests.crash.sightings import Sightings
from tests.crash.timed_works import TimedWorks
from tests.crash.timeplan import Act, TimePlan
from tests.crash.truth import LAG_SECONDS, Truth
from tests.crash.workload import TABLES, patiently
from tests.crash.works import GROUP, SPLIT, Violation, reason
from tests.helpers.pipelines import Running

_COMMAND_SECONDS = 20.0
"""A command that waits for what does not come is ended after that: it may wait for what stands still by right."""
_BACKLOG = 400
_POINT_SECONDS = 6.0
"""A start takes a second or two, and not every point is come by."""


@dataclass
class Timed(Run):
    """What stands ready for acts."""

    works: TimedWorks
    plan: TimePlan = field(kw_only=True)
    comers: Comers = field(kw_only=True)
    truth: Truth = field(kw_only=True)
    sightings: Sightings = field(kw_only=True)
    counting: Counting | None = field(kw_only=True)
    anew: list[str] = field(default_factory=list)
    """Topics that somebody deleted and made again."""

    def watch(self) -> None:
        """Stop at what was seen already."""
        if found := [*self.truth.faults, *self.poller.faults]:
            raise Violation("\n".join([f"{len(found)} looks saw what cannot be: {found[0]}", *found[1:5], self.works.said()]))


def do(run: Timed, act: Act) -> None:
    """Do it, and see to it that everything runs again."""
    time.sleep(act.after_seconds)
    run.works.start_all()
    told = _KINDS[act.kind](run, act, Random(f"act {act.detail}"))
    run.works.start_all()
    run.faults.append(f"{act}{f' {told}' if told else ''}")
    run.watch()


# -- processes -------------------------------------------------------------------------------------------------------------


def _nap(run: Timed, act: Act, rng: Random) -> str:
    """A process is held still at a point of its work, while the world goes on."""
    works, command = run.works, run.works.of(act.role)
    works.kill(command)
    process = works.start(command, f"{act.point}:{act.ordinal}:stop")
    if act.point.startswith(("copying.", "capture.copy", "apply.emptied")):
        works.copy(rng.choice([*TABLES, *run.comers.followed()]))
    if act.point == "apply.entered" and works.of("capture") != command:
        works.kill("capture")  # a base is entered once
    patience = works.patience(_POINT_SECONDS)
    while process.alive and not process.stopped and not patience.over():
        works.start_all(command)
        time.sleep(0.02)
    came = process.stopped
    for inner in act.meanwhile:
        time.sleep(min(inner.after_seconds, 0.3))
        _KINDS[inner.kind](run, inner, Random(f"act {inner.detail}"))
    time.sleep(act.seconds)
    process.process.send_signal(signal.SIGCONT)
    if not came:  # else its death would come at some time later
        works.kill(command)
    return "" if came else "not come by"


def _kill(run: Timed, act: Act, rng: Random) -> str:
    """A process dies at a point, or at any moment; the others go on for a while."""
    works, command = run.works, run.works.of(act.role)
    if act.point:
        works.kill(command)
        works.start(command, f"{act.point}:{act.ordinal}")
        if act.point.startswith(("copying.", "capture.copy")):
            works.copy(rng.choice([*TABLES, *run.comers.followed()]))
        _ended(run, command)
    works.kill(command)
    time.sleep(act.seconds)
    return ""


def _ended(run: Timed, command: str) -> bool:
    """Whether the process ends soon, which was told to die at a point."""
    process, patience = run.works.processes[command], run.works.patience(_POINT_SECONDS)
    while process.alive and not patience.over():
        run.works.start_all(command)
        time.sleep(0.02)
    return not process.alive


def _stop(run: Timed, act: Act, rng: Random) -> str:
    run.works.stop(run.works.of(act.role))
    time.sleep(act.seconds)
    return ""


def _freeze(run: Timed, act: Act, rng: Random) -> str:
    """A process does nothing for a while, and lag must grow."""
    process = run.works.processes.get(run.works.of(act.role))
    if process is not None and process.alive:
        process.process.send_signal(signal.SIGSTOP)
        time.sleep(act.seconds)
        process.process.send_signal(signal.SIGCONT)
    return ""


# -- the source ------------------------------------------------------------------------------------------------------------


def _idle(run: Timed, act: Act, rng: Random) -> str:
    """Nobody writes."""
    run.work.may_work.clear()
    run.comers.may_work.clear()
    time.sleep(max(act.seconds, 0.5))
    run.work.may_work.set()
    run.comers.may_work.set()
    return ""


def _backlog(run: Timed, act: Act, rng: Random) -> str:
    """Much is written while capture is down, and tables come while it is read."""
    command = run.works.of("capture")
    run.works.kill(command)
    run.comers.burst(_BACKLOG)
    if rng.random() < 0.3:
        run.comers.create(rng, foreign=_may_be_taken(run) and rng.random() < 0.3)
    time.sleep(act.seconds)
    run.works.start(command)
    for _ in range(rng.randint(0, 3)):
        run.comers.burst(_BACKLOG // 8)
        time.sleep(0.3 * rng.random())
        run.comers.create(rng, foreign=_may_be_taken(run) and rng.random() < 0.3)
    return ""


def _may_be_taken(run: Timed) -> bool:
    return run.works.way in (SPLIT, GROUP)


def _burst(run: Timed, act: Act, rng: Random) -> str:
    run.comers.burst(_BACKLOG // 2)
    return ""


def _create(run: Timed, act: Act, rng: Random) -> str:
    return run.comers.create(rng, foreign=False).name


def _foreign(run: Timed, act: Act, rng: Random) -> str:
    """A table comes whose place in the target is taken; capture may die while it copies it in vain."""
    during = rng.random() < 0.5
    comer = run.comers.create(rng, foreign=True, large=during)
    if not during:
        return comer.name
    command, point = run.works.of("capture"), f"{rng.choice(('copying.read', 'copying.opened'))}:{rng.randint(2, 3)}"
    run.works.kill(command)
    run.works.start(command, point)
    died = _ended(run, command)
    return f"{comer.name} {point}{'' if died else ' not come by'}"


def _empty(run: Timed, act: Act, rng: Random) -> str:
    """The last that happens to an idle table is that a row goes."""
    run.comers.empty_still()
    return ""


def _travel(run: Timed, act: Act, rng: Random) -> str:
    """A session of the source lives in another time."""
    run.comers.ahead_seconds = rng.choice((0, 3, 3600, 86_400 * 365, -3600, -86_400))
    return f"{run.comers.ahead_seconds:+d}s"


# -- the operator ----------------------------------------------------------------------------------------------------------


def _leave(run: Timed, act: Act, rng: Random) -> str:
    """A table leaves the selection; it comes back, or is dropped. What selects is read at a start."""
    tables = list(run.comers.tables.values())
    away = [comer for comer in tables if comer.there and not comer.selected]
    for comer in away:
        if rng.random() < 0.4:
            run.comers.drop(comer)
        else:
            comer.selected = True
    chosen = [comer for comer in tables if comer.there and comer.selected and comer not in away and comer.name != "still"]
    gone = rng.choice(chosen) if chosen and rng.random() < 0.7 else None
    if gone is not None:
        gone.selected, gone.ever_away = False, True
    _select(run, [comer for comer in tables if not comer.selected])
    for command in run.works.commands:
        if command in run.works.sinks and len(run.works.commands) > 1 and rng.random() < 0.5:
            continue
        process = run.works.processes.get(command)
        if rng.random() < 0.5 or (process is not None and process.stopped):
            run.works.kill(command)
        else:
            run.works.stop(command)
    return " ".join([*(f"{'+' if one.selected else '-'}{one.name}" for one in away), *([f"-{gone.name}"] if gone else [])])


def _select(run: Timed, excluded: list[Comer]) -> None:
    names = json.dumps([f"{run.works.name}.{comer.name}" for comer in excluded])
    for pipeline in (run.works.pipeline, run.works.alone):
        text = pipeline.path.read_text()
        pipeline.path.write_text(re.sub(r"^exclude = .*$", f"exclude = {names}", text, flags=re.MULTILINE))


def _copy(run: Timed, act: Act, rng: Random) -> str:
    """A table is copied again; once that is done it holds what the source did when it was asked for."""
    name = rng.choice([*TABLES, *run.comers.followed()])
    swap = rng.random() < 0.4
    known = _now(run)
    code, told = _ask(run, "copy", f"{run.works.name}.{name}", *(["--swap"] if swap else []))
    if code == 0:
        _holds(run, known, [name], "the copy of a table was done")
    return f"{name}{' beside' if swap else ''} {told}"


def _keys(run: Timed, act: Act, rng: Random) -> str:
    known = _now(run).get("ledger", set())
    if not known:
        return ""
    keys = rng.sample(sorted(known), min(3, len(known)))
    code, told = _ask(run, "copy", f"{run.works.name}.ledger", "--keys", ",".join(map(str, keys)))
    if code == 0:
        _holds(run, {"ledger": set(keys)}, ["ledger"], "a copy of keys was done")
    return told


def _rest(run: Timed, act: Act, rng: Random) -> str:
    """Copies are paused for a while."""
    first = _ask(run, "snapshot", "--pause")[1]
    run.works.copy(rng.choice(TABLES))
    time.sleep(act.seconds)
    return f"{first}, {_ask(run, 'snapshot', '--resume')[1]}"


def _prove(run: Timed, act: Act, rng: Random) -> str:
    return _ask(run, "reconcile", "--repair", "--tables", f"{run.works.name}.slot")[1]


def _wait(run: Timed, act: Act, rng: Random) -> str:
    """What `wait` promises is asked of the target at once; idle or not."""
    known = _now(run)
    code, told = _ask(run, "wait", "--timeout", str(rng.choice((0, 0, 1, 5))))
    if code == 0:
        _holds(run, known, list(known), "cdc wait said that all of it is there")
    return told


def _held(run: Timed, act: Act, rng: Random) -> str:
    """The target is to refuse rows, and their keys wait; then they are applied, or given up."""
    run.work.wounding = True
    time.sleep(max(act.seconds, 0.3))
    words = rng.choice((("replay",), ("discard", "--table", f"{run.works.name}.scar", "--all")))
    return f"{words[0]} {_ask(run, 'quarantine', *words)[1]}"


def _status(run: Timed, act: Act, rng: Random) -> str:
    """The lag that `cdc status` shows is not shorter than a row waits that was missing before and is missing after it."""
    began = time.monotonic()
    process = run.works.beside("--json", "status")
    code, told = _ended_with(run, process, "status")
    if code not in (0, 3):  # 3: a process is down just now
        return told
    found = next(json.loads(line) for line in process.output().splitlines() if line.startswith('{"pipeline"'))
    lag, states = found["lag_seconds"]["total"], {table["source"].rpartition(".")[2]: table["state"] for table in found["tables"]}
    there = {op for (op,) in run.works.place.target.execute(f'SELECT op FROM "{run.works.name}".ledger')}
    at = run.sightings.oldest_missing("ledger", there)
    if not run.truth.clocks or states.get("ledger") != "consistent" or lag is None or at is None:
        return told
    if lag < began - at - LAG_SECONDS:
        raise Violation(f"cdc status says a lag of {lag:.1f} s, and a row that was committed {began - at:.1f} s before is missing after it")
    return told


def _ask(run: Timed, *words: str) -> tuple[int | None, str]:
    """Run a command beside the pipeline; its exit code, None when it was ended, and what became of it."""
    return _ended_with(run, run.works.beside(*words), *words)


def _ended_with(run: Timed, process: Running, *words: str) -> tuple[int | None, str]:
    """Wait for it, while the pipeline's ended processes are started again."""
    until = time.monotonic() + _COMMAND_SECONDS
    while process.alive and time.monotonic() < until:
        run.works.start_all()
        with suppress(subprocess.TimeoutExpired):
            process.process.wait(0.05)
    if process.alive:
        process.kill()
        return None, "given up"
    code = process.process.returncode
    if code not in (0, 1, 2, 3) or (code in (1, 2) and reason(process) == "internal"):
        raise Violation(f"cdc {' '.join(words)} ended with {code}\n{process.output()[-3000:]}")
    return code, {0: "done", 3: "different"}.get(code, reason(process))


def _now(run: Timed) -> dict[str, set[int]]:
    source = run.works.place.source

    def look() -> dict[str, set[int]]:
        with closing(source.connect()) as line, line.cursor() as cursor:
            selected = {comer.name for comer in run.comers.tables.values() if comer.selected and not comer.foreign}
            return {name: ops for name, ops in run.sightings.now(cursor).items() if name in selected or name in ("ledger", "audit")}

    found: dict[str, set[int]] = patiently(look, source)
    return found


def _holds(run: Timed, known: Mapping[str, set[int]], names: list[str], when: str) -> None:
    for name in names:
        if name not in known:
            continue
        there = {op for (op,) in run.works.place.target.execute(f'SELECT op FROM "{run.works.name}".{name}')}
        if lost := known[name] - there:
            raise Violation(
                f"{when}, and {len(lost)} rows of {name} are missing that were committed before it was asked, {min(lost)} first"
            )


# -- topics ----------------------------------------------------------------------------------------------------------------


def expire(run: Timed, act: Act | None = None, rng: Random | None = None) -> str:
    """All goes that a broker's retention may take when no sink is behind by more: tombstones at the end as well."""
    assert run.works.place.broker is not None
    assert run.counting is not None
    admin = AdminClient({"bootstrap.servers": run.works.place.broker.bootstrap})
    wanted = [TopicPartition(*partition, run.counting.needed_from(partition, offset)) for partition, offset in run.truth.offsets.items()]
    gone = 0
    for done in admin.delete_records(wanted).values() if wanted else ():
        with suppress(KafkaException):  # the topic may be gone, or hold less
            done.result(10)
            gone += 1
    return f"{gone} partitions"


def _anew(run: Timed, act: Act, rng: Random) -> str:
    """Somebody deletes the topic of a table, and makes it again."""
    assert run.works.place.broker is not None
    assert run.counting is not None
    names = [name for name in ("keyed0", "keyless0", "ledger") if name not in run.comers.tables or run.comers.tables[name].selected]
    topic = f"{run.works.place.broker.prefix}.{run.works.name}.{rng.choice(names)}"
    admin = AdminClient({"bootstrap.servers": run.works.place.broker.bootstrap})
    count = len(admin.list_topics(timeout=10).topics[topic].partitions)
    run.truth.topics_lost.add(topic)
    run.anew.append(topic)
    for done in admin.delete_topics([topic]).values():
        done.result(30)
    run.counting.forget(topic)
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            admin.create_topics([NewTopic(topic, count, -1)])[topic].result(10)
            break
        except KafkaException:
            time.sleep(0.1)
    return topic.rpartition(".")[2]


_KINDS: Mapping[str, Callable[[Timed, Act, Random], str]] = {
    "nap": _nap, "kill": _kill, "stop": _stop, "freeze": _freeze, "idle": _idle, "backlog": _backlog, "burst": _burst, "create": _create,
    "foreign": _foreign, "empty": _empty, "travel": _travel, "leave": _leave, "copy": _copy, "keys": _keys, "rest": _rest, "prove": _prove,
    "wait": _wait, "status": _status, "held": _held, "expire": expire, "anew": _anew,
}  # fmt: skip
