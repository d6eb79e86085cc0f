"""Time, waiting and chance, where what is done depends on them: one place, so that a simulation can stand in for it.

Every name is a plain function of the standard library until `lend` puts another in its place.

`CDC_CLOCK`, a JSON object, makes a process's clock wrong: `{"seconds": 3600, "drift": 0.01, "jumps": [[2.5, -60]]}` is
an hour ahead, gains a hundredth, and goes back by a minute 2.5 s after the start. It is for tests, and moves `now`
alone: durations stay true.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator

VARIABLE = "CDC_CLOCK"


def wrong(text: str | None) -> Callable[[], float]:
    """A clock that is wrong as the text says from this moment on; this machine's without any."""
    if not text:
        return time.time
    said = {"seconds": 0.0, "drift": 0.0, "jumps": [], **json.loads(text)}
    seconds, drift, jumps = said.pop("seconds"), said.pop("drift"), said.pop("jumps")
    if said:
        raise ValueError(f"{VARIABLE}: {', '.join(said)}")
    began = time.monotonic()

    def now() -> float:
        passed = time.monotonic() - began
        return float(time.time() + seconds + drift * passed + sum(by for at, by in jumps if passed >= at))

    return now


monotonic: Callable[[], float] = time.monotonic
"""Seconds since some moment; never goes back. For durations."""
now: Callable[[], float] = wrong(os.environ.get(VARIABLE))
"""Seconds since 1970 by this machine's clock, which may be set."""
sleep: Callable[[float], None] = time.sleep
"""Wait for so many seconds."""


def now_us() -> int:
    """Microseconds since 1970 by this machine's clock."""
    return int(now() * 1_000_000)


def _fresh_id() -> str:
    return uuid.uuid4().hex


fresh_id: Callable[[], str] = _fresh_id
"""A text that nothing else is called by."""
condition: Callable[[], threading.Condition] = threading.Condition
"""What threads of one process that share state wait on."""


@contextlib.contextmanager
def lend(**functions: Callable[..., object]) -> Iterator[None]:
    """Use these functions in place of those of the same name, until the block ends."""
    before = {name: globals()[name] for name in functions}
    globals().update(functions)
    try:
        yield
    finally:
        globals().update(before)
