"""The people and the weather around a pipeline: applications that write, operators, and everything that fails; drawn by chance."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

from cdc.model.names import signal_topic
from cdc.protocol.applied import MADE, Progress, TableProgress
from cdc.protocol.table_states import TableState
from tests.simulation.applications import DAY, MOST_ROWS, Applications
from tests.simulation.oracle import Oracle, Violation
from tests.simulation.sharded import dealt, member
from tests.simulation.source import DB, number_of
from tests.simulation.target import DEFERRED_VALUE, REFUSED_VALUE, Stock
from tests.simulation.world import PREFIX, Process, World, apply, capture, run

_TABLES = {"p": True, "q": True, "k": False, "m": False}
"""Tables that are there from the start: with a key, and without."""
_LATER = {"r": True, "s": False, "t": True, "u": True, "v": False, "w": True}
"""Tables that come, and go."""
_MISHAPS = ("kill", "lose", "remake", "fail_over")
"""What comes at once, in the middle of something else."""
_PATIENCE = 60
"""So many starts the administrator makes at the end before it counts as stuck."""


class Hand(Applications):
    """Does one thing after the other."""

    def __init__(self, world: World, oracle: Oracle, years: float, seed_acts: dict[str, float] | None = None) -> None:
        super().__init__(world, years * 365 * DAY)
        self.oracle = oracle
        self.source.far = self._distance()
        self.retention = math.exp(self.random.uniform(math.log(60), math.log(30 * DAY)))
        self._works: dict[str, Callable[[Process], None]] = {"capture": capture, "apply": apply}
        if world.transport == "direct":
            self._works = {"run": run}
        elif world.shards:
            self._works = {"capture": capture} | {f"member{number}": member(number) for number in range(world.shards)}
        self.done = self._lost = False
        self.acts: dict[str, int] = {}
        self._weights |= self._drawn(seed_acts or {})

    # -- the whole life ----------------------------------------------------------------------------------------------

    def found(self) -> None:
        """Tables, some rows, and their copy in the target: where every pipeline begins."""
        content = self.world.postgres.content
        for name, keyed in _TABLES.items():
            self.source.create(name, keyed=keyed)
        for _ in range(6):
            self._write(self.random.randint(1, 4))
        number = len(self.source.log)
        at = self.source.position(number)
        for name, keyed in _TABLES.items():
            stock = content.stocks[f"{DB}.{name}"] = Stock(keyed)
            for row in self.source.tables[name].at(number):
                if keyed:
                    stock.rows[_avro(row[0])] = row
                else:
                    stock.bag[row] += 1
            content.tables[DB, name] = TableProgress(DB, name, DB, name, TableState.CATCHING_UP, at, at, schema={MADE: True})
        content.progress = Progress(0, -1, 0, at, self.source.clock_us())
        if self.world.shards:
            dealt(content, self.world.shards)

    def live(self) -> None:
        """Until the years are over and everything is at rest; the task of the simulation."""
        try:
            for name in self._works:
                self._start(name)
            while self.scheduler.now < self._until and self.oracle.failed is None:
                self._act()
            if self.oracle.failed is None:
                self._rest()
        except Violation as violation:
            self.oracle.failed = self.oracle.failed or violation
        self.done = True

    def _meanwhile(self) -> None:
        """Nobody waits until the last thing is over."""
        while self.random.random() < 0.6 and self.oracle.failed is None:
            self._pass(math.exp(self.random.uniform(math.log(0.01), math.log(30))))
            mishaps = [name for name in _MISHAPS if self._weights.get(name)]
            if not mishaps or self.random.random() < 0.5:
                self._act()
                continue
            mishap = self.random.choice(mishaps)
            if mishap == "kill":
                self.processes[self._some()].kill()
            else:
                getattr(self, f"_do_{mishap}")()
            self._watch()

    def _act(self) -> None:
        act = self.random.choices(list(self._weights), list(self._weights.values()))[0]
        self.acts[act] = self.acts.get(act, 0) + 1
        getattr(self, f"_do_{act}")()
        self._watch()

    def _drawn(self, fixed: dict[str, float]) -> dict[str, float]:
        """How often each thing happens in this life: some often, some never."""
        usual = {"work": 8.0, "idle": 4.0, "kill": 2.0}
        rare = ["large", "stop", "away", "break_target", "fail_over", "break_broker", "retain", "compact", "late", "lose", "remake",
                "break_source", "clocks", "odd_time", "copy", "signal", "create", "foreign", "mend", "select", "refused", "halfway",
                "deaths", "slow_source", "replay", "far", "drop", "look", "truncate", "vanish"]  # fmt: skip
        if self.world.transport == "direct":
            rare = [name for name in rare if name not in ("break_broker", "retain", "compact", "late", "lose", "remake")]
        weights = usual | {name: self.random.choice((0.0, 0.3, 1.0)) for name in rare}
        return {name: fixed.get(name, weight) for name, weight in weights.items()}

    def _watch(self) -> None:
        """The administrator starts again what has stopped, sooner or later."""
        if self.world.defects:
            raise Violation(self.world.defects[0])
        for name, process in list(self.processes.items()):
            if process.ended and self.random.random() < 0.7:
                self._start(name)

    def _start(self, name: str) -> None:
        self.processes[name] = Process(self.world, name, self._works[name])
        self._lost = self._lost and name != "capture"
        if self._weights.get("clocks"):
            self.processes[name].skew = self.random.choice((0.0, 0.0, self.random.uniform(-DAY, DAY)))

    # -- tables that come and go -------------------------------------------------------------------------------------

    def _do_create(self) -> None:
        name = self.random.choice(list(_LATER))
        if name not in self.source.tables:
            if self.random.random() < 0.3:
                self._plant(name)
            filled = self.random.randint(1, MOST_ROWS) if self.random.random() < 0.5 else 0
            rows = [(self._key() if _LATER[name] else self.random.randint(1, 3), self.random.randint(1, 3)) for _ in range(filled)]
            self.source.create(name, keyed=_LATER[name], rows=rows)
            for _ in range(self.random.randint(0, 5)):
                self._write(3)
            self._meanwhile()

    def _do_drop(self) -> None:
        """A table leaves the selection, and, when everybody knows that, the source."""
        name = self.random.choice(list(_LATER))
        progress = self.world.postgres.content.tables.get((DB, name))
        if f"{DB}.{name}" in self.world.excluded and name in self.source.tables and self._caught_up():
            if progress is None or progress.state == TableState.STOPPED:
                self.source.drop(name)
                self.world.excluded.remove(f"{DB}.{name}")
                self._restart()
        elif name in self.source.tables:
            self.world.excluded.append(f"{DB}.{name}")
            self._restart()

    def _do_truncate(self) -> None:
        """A followed table is emptied by a statement."""
        for _ in range(self.random.randint(1, 3)):
            self.source.truncate(self.random.choice(list(self.source.tables)))
            for _ in range(self.random.randint(0, 4)):
                self._write(3)
        self._meanwhile()

    def _do_vanish(self) -> None:
        """A followed table is dropped, and perhaps made anew."""
        name = self.random.choice(list(_LATER))
        if name in self.source.tables:
            self.source.drop(name)
            for _ in range(self.random.randint(0, 4)):
                self._write(3)
            if self.random.random() < 0.5:
                self._do_create()
            self._meanwhile()

    # -- what fails --------------------------------------------------------------------------------------------------

    def _some(self) -> str:
        return self.random.choice(list(self.processes))

    def _do_kill(self) -> None:
        name = self._some()
        self.processes[name].kill()
        if self.random.random() < 0.5:
            self._do_work()
        if self.random.random() < 0.5:
            self._pause()
        if self.processes[name].ended:
            self._start(name)
        self._meanwhile()

    def _do_deaths(self) -> None:
        """Processes die at every other step for a while."""
        self.world.deaths = math.exp(self.random.uniform(math.log(0.0005), math.log(0.02)))
        for _ in range(self.random.randint(3, 12)):
            self._write(self.random.randint(1, 6))
            self._pass(self.random.uniform(0, 3))
            self._watch()
        self.world.deaths = 0.0

    def _do_stop(self) -> None:
        name = self._some()
        self.processes[name].stop.set()
        self._pause()

    def _do_away(self) -> None:
        """One of them is not there for long, and work goes on."""
        name = self._some()
        self.processes[name].kill()
        for _ in range(self.random.randint(1, 4)):
            self._do_work()
            if self.random.random() < 0.2:
                self._do_create()
            self._pass(min(self.retention / 8, math.exp(self.random.uniform(math.log(1), math.log(2 * DAY)))))
            self._watch_others(name)
        self._start(name)
        self._meanwhile()

    def _watch_others(self, name: str) -> None:
        for other, process in list(self.processes.items()):
            if other != name and process.ended:
                self._start(other)

    def _during(self, begin: Callable[[], None], end: Callable[[], None]) -> None:
        begin()
        for _ in range(self.random.randint(1, 5)):
            self._write(self.random.randint(1, 4))
            self._pass(self.random.uniform(0, 10))
            self._watch()
        end()

    def _do_break_target(self) -> None:
        server = self.world.postgres
        if self.random.random() < 0.5:
            rate = self.random.choice((0.01, 0.05, 0.2))
            self._during(lambda: setattr(server, "breaking", rate), lambda: setattr(server, "breaking", 0.0))
        else:
            self._during(lambda: setattr(server, "down", True), lambda: setattr(server, "down", False))

    def _do_fail_over(self) -> None:
        self.world.postgres.fail_over(self.random.randint(1, 6))

    def _do_break_source(self) -> None:
        self._during(lambda: setattr(self.source, "down", True), lambda: setattr(self.source, "down", False))

    def _do_break_broker(self) -> None:
        self._during(lambda: setattr(self.world.brokers, "down", True), lambda: setattr(self.world.brokers, "down", False))

    def _do_retain(self) -> None:
        if self._caught_up():
            self.world.postgres.keep_up()
            self.world.brokers.retain(self.retention if self.random.random() < 0.5 else 0.0)

    def _do_compact(self) -> None:
        if self._caught_up():
            self.world.postgres.keep_up()
            self.world.brokers.compact(self.random.choice((0.0, self.retention)))

    def _do_late(self) -> None:
        self.world.brokers.deliver_late()

    def _do_lose(self) -> None:
        """A broker that was behind becomes the leader: the last records of a data partition are gone."""
        places = [
            (name, at) for name, ps in self.world.brokers.topics.items() for at in range(len(ps)) if name.startswith(f"{PREFIX}.{DB}.")
        ]
        if places:
            self.world.brokers.notices = bool(self.world.brokers.late) or self.random.random() < 0.5
            for place in self.random.sample(places, self.random.choice((1, 1, len(places)))):
                lost = self.world.brokers.lose(place, self.random.randint(1, 5))
                self.world.say(f"broker loses {lost} records of {place}")
                self._lost = True

    def _do_remake(self) -> None:
        """An operator deletes a table's topic, and makes it again."""
        names = [name for name in self.world.brokers.topics if name.startswith(f"{PREFIX}.{DB}.") or name == signal_topic(PREFIX)]
        if names:
            name = self.random.choice(names)
            self.world.say(f"topic {name} is made anew")
            self.world.brokers.remake(name)
            self._lost = True

    def _do_far(self) -> None:
        """The source answers at once, or takes its time."""
        self.source.far = self._distance()

    def _distance(self) -> float:
        return self.random.choice((0.0, math.exp(self.random.uniform(math.log(0.001), math.log(3)))))

    def _do_clocks(self) -> None:
        self.source.skew_us = int(self.random.choice((0, self.random.uniform(-3600e6, 3600e6))))

    def _caught_up(self) -> bool:
        progress = self.world.postgres.content.progress
        return progress is not None and number_of(progress.position) == len(self.source.log)

    # -- operators ---------------------------------------------------------------------------------------------------

    def _signal(self, type_: str, data: dict[str, object]) -> None:
        value = json.dumps({"id": f"{self.random.getrandbits(32):x}", "type": type_, "data": data}).encode()
        self.world.say(f"signal {type_} {data}")
        if self.world.transport == "direct":
            self.world.requests.append(value)
        elif not self.world.brokers.down and (topic := self.world.brokers.partition((signal_topic(PREFIX), 0))) is not None:
            topic.append(PREFIX.encode(), value, self.scheduler.now)

    def _do_copy(self) -> None:
        name = self.random.choice(list(self.source.tables))
        data: dict[str, object] = {"data-collections": [f"{DB}.{name}"]}
        kind = self.random.random()
        if kind < 0.3:
            data["swap"] = True
        elif kind < 0.5:
            data["keys"] = [[str(self.random.randint(1, max(1, self._next_key)))] for _ in range(self.random.randint(1, 5))]
        self._signal("execute-snapshot", data)
        if self.random.random() < 0.5:
            self._do_work()
        self._meanwhile()

    def _do_signal(self) -> None:
        type_ = self.random.choice(("stop-snapshot", "pause-snapshot", "resume-snapshot", "resume-snapshot"))
        one = f"{DB}.{self.random.choice(list(self.source.tables))}"
        self._signal(type_, {"data-collections": [one]} if type_ == "stop-snapshot" and self.random.random() < 0.5 else {})

    def _do_replay(self) -> None:
        """What waits for a key is applied, all of it in one transaction under the writers' lock, where the target takes it by now."""
        server = self.world.postgres
        if not server.content.waiting or server.holder is not None or server.down:
            return
        name, one = self.random.choice(server.content.waiting)
        last = [other for of, other in server.content.waiting if of == name and other.identity == one.identity][-1]
        if not last.transaction:  # it was read by a copy: its row is not to be found by a transaction
            return
        number = int(last.transaction.rpartition("-")[2])
        table = self.source.table(name[1], number)
        assert table is not None
        row = next((row for row in table.at(number) if _avro(row[0]) == one.identity), None)
        if row is None or not {REFUSED_VALUE, DEFERRED_VALUE} & set(row):
            self.world.say(f"replay of a key of {name[1]}")
            server.release(name, one.identity, row)

    def _plant(self, name: str) -> None:
        """Somebody keeps rows where a table is to go."""
        stock = Stock(_LATER[name])
        if _LATER[name]:
            stock.rows = {_avro(-at): (-at, 9) for at in range(1, 4)}
        else:
            stock.bag.update({(-1, 9): 2})
        place = f"{DB}.{name}"
        if place not in self.world.postgres.content.stocks:
            self.world.postgres.put(place, stock)
            self.oracle.foreign[name] = stock.content()

    def _do_foreign(self) -> None:
        self._do_create()

    def _do_mend(self) -> None:
        """Whoever kept rows in our place takes them away, and the table is asked for again."""
        for name in list(self.oracle.foreign):
            del self.oracle.foreign[name]
            self.world.postgres.put(f"{DB}.{name}", Stock(_LATER[name]))
            self._signal("execute-snapshot", {"data-collections": [f"{DB}.{name}"]})

    def _do_select(self) -> None:
        """A table leaves the selection, or comes back: the configuration is edited, and the processes are started anew."""
        name = f"{DB}.{self.random.choice(list(self.source.tables))}"
        if self.world.excluded and self.random.random() < 0.5:
            name = self.random.choice(self.world.excluded)
        if name in self.world.excluded:
            self.world.excluded.remove(name)
        else:
            self.world.excluded.append(name)
        self.world.say(f"excluded: {self.world.excluded}")
        self._restart()

    def _restart(self) -> None:
        for process in self.processes.values():
            process.stop.set()
        self._pause()
        self._watch()

    def _do_look(self) -> None:
        """A person waits until all is at rest, and stops nothing; only a loss that idle tables alone know of needs capture's restart."""
        if self._lost:
            self.processes["capture"].stop.set()
            self._pause()
        self._signal("resume-snapshot", {})
        excluded = {one.partition(".")[2] for one in self.world.excluded}
        owed: dict[str, TableProgress | None] = {}
        for _ in range(_PATIENCE):
            for name, process in list(self.processes.items()):
                if process.ended:
                    self._start(name)
            self.source.write([])
            self._pass(120)
            states = self.world.postgres.content.tables
            there = {name: states.get((DB, name)) for name in self.source.tables if name not in excluded}
            owed = {name: state for name, state in there.items() if not self._settled(state)}
            if self._caught_up() and not owed:
                return
        raise Violation(f"not at rest by itself: {owed}, caught up: {self._caught_up()}, stops: {self.world.halts[-3:]}")

    def _settled(self, table: TableProgress | None) -> bool:
        """Whether a table's rows are there, or a person knows why they are not."""
        return table is not None and (table.state in (TableState.CONSISTENT, TableState.QUARANTINED) or bool(table.reason))

    # -- the end -----------------------------------------------------------------------------------------------------

    def _rest(self) -> None:
        """All is well from now on: the pipeline must come to equal the source."""
        world = self.world
        world.deaths, world.excluded, world.postgres.breaking, self.source.far = 0.0, [], 0.0, 0.0
        world.postgres.down = world.brokers.down = self.source.down = False
        self._do_mend()
        for process in self.processes.values():
            process.stop.set()
        self._pass(600)
        self._signal("resume-snapshot", {})
        for starts in range(_PATIENCE):
            for name, process in list(self.processes.items()):
                if process.ended:
                    self._start(name)
            self.source.write([])
            self._pass(120)
            if self._at_rest():
                return
            if starts in (20, 40):
                for name in self.source.tables:
                    state = world.postgres.content.tables.get((DB, name))
                    if state is not None and state.state in (TableState.REFUSED, TableState.NEW):
                        self._signal("execute-snapshot", {"data-collections": [f"{DB}.{name}"]})
        states = {name[1]: f"{one.state} {one.reason}" for name, one in world.postgres.content.tables.items()}
        raise Violation(f"not at rest: {states}, caught up: {self._caught_up()}, stops: {world.halts[-3:]}")

    def _at_rest(self) -> bool:
        states = self.world.postgres.content.tables
        names = [(DB, name) for name in self.source.tables]
        if not self._caught_up() or any(name not in states for name in names):
            return False
        held = {name for name, _ in self.world.postgres.content.waiting}
        return all(states[name].state == (TableState.QUARANTINED if name in held else TableState.CONSISTENT) for name in names)


def _avro(value: int) -> bytes:
    """An Avro key of one number."""
    left, out = (value << 1) ^ (value >> 63), bytearray()
    while left > 0x7F:
        out.append(left & 0x7F | 0x80)
        left >>= 7
    out.append(left)
    return bytes(out)
