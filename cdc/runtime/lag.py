"""How far each stage is behind the source, as it is told to Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cdc.runtime import clock

READ, PUBLISH, APPLY, TOTAL = STAGES = ("read", "publish", "apply", "total")


@dataclass(slots=True)
class Waits:
    """Which later stage keeps capture from reading, and since when by the clock that never jumps; "": none does."""

    stage: str = ""
    since: float = 0.0

    def begin(self, stage: str) -> None:
        """From now on this one does."""
        self.since, self.stage = clock.monotonic(), stage

    @contextmanager
    def on(self, stage: str) -> Iterator[None]:
        """While the block runs. An error in it changes nothing: then it still does, until capture begins again."""
        self.begin(stage)
        yield
        self.stage = ""


@dataclass(slots=True)
class Lag:
    """How far behind the source the target is, told in the source's own clock, part by part.

    Each mark is the moment of the source up to which a stage has everything; only the newest counts. Nothing is stored
    as a duration: what is stuck gets older by itself. What a stage is kept from by a later one is not its own: its mark
    goes on with the clock meanwhile.
    """

    read_us: int | None = None
    """The log is read up to here (a commit, or a heartbeat that proves there is nothing more)."""
    published_us: int | None = None
    """Acknowledged cuts reach up to here."""
    applied_us: int | None = None
    """The target holds everything up to here."""
    held_by: str = ""
    """The stage that keeps the earlier ones waiting, and"""
    held_us: int = 0
    """for how long so far."""

    def seconds(self, source_now: int) -> dict[str, float | None]:
        """Seconds per stage, by what the source's clock shows;
        their sum is the total. A stage whose marks are unknown here is None."""
        marks = (self.read_us, self.published_us, self.applied_us)
        held = STAGES.index(self.held_by) if self.held_by else 0
        lags: dict[str, float | None] = {}
        before: int = source_now
        for place, (stage, own) in enumerate(zip(STAGES, marks)):
            mark = own if own is None or place >= held else own + self.held_us
            lags[stage] = None if mark is None else max(before - mark, 0) / 1e6
            before = before if mark is None else min(mark, before)
        lags["total"] = None if self.applied_us is None else max(source_now - self.applied_us, 0) / 1e6
        return lags

    def cuts(self, source_now: int) -> dict[str, float]:
        """Age of the newest cut that capture wrote and that the sink applied, as far as this process knows."""
        marks = {"capture": self.published_us, "apply": self.applied_us}
        return {role: max(source_now - mark, 0) / 1e6 for role, mark in marks.items() if mark is not None}
