"""One process of the fuzzing: a range of iterations of one seed. It may die of what it finds; the campaign then reads how far it got."""

from __future__ import annotations

import faulthandler
import importlib
import json
import mmap
import os
import resource
import signal
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

BATCH = 20_000
MEMORY = 1 << 30


def driver() -> ModuleType:
    """The compiled driver of the folder that comes first in the path, or its source beside the uncompiled kernels."""
    return importlib.import_module("tests.fuzz.driver" if os.environ.get("CDC_PURE") == "1" else "fuzz_driver")


def fuzz(seed: int, *, kinds: str = "", tight: bool = False, digesting: bool = False) -> Any:
    """A fuzz of all lanes, or of those whose name begins with `kinds`."""
    from cdc import codec
    from tests.fuzz import corpus

    module = driver()
    beside = Path(module.__file__ or "").parents[2 if codec.KIND == "pure" else 1]
    if not Path(codec.__file__).is_relative_to(beside):
        raise RuntimeError(f"the codec of {codec.__file__} is not the one beside {module.__file__}")
    groups = corpus.groups(module)
    if kinds:
        groups = [found for group in groups if (found := [lane for lane in group if lane.name.startswith(kinds)])]
    return module.Fuzz(seed, groups, corpus.stamp(), tight, digesting)


def work(order: dict[str, Any]) -> dict[str, Any]:
    """Run the iterations of an order; what came out, also when its time was up first."""
    faulthandler.enable()
    faulthandler.register(signal.SIGVTALRM, chain=True)  # says where it hangs, then dies of it
    signal.setitimer(signal.ITIMER_VIRTUAL, order["hang_seconds"])
    one = fuzz(order["seed"], kinds=order["kinds"], tight=order["form"] == "asan", digesting=order["form"] == "pure" or order["digesting"])
    if order["form"] != "asan":  # a sanitizer reserves terabytes of addresses, and has a limit of its own
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    with Path(order["progress"]).open("r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
        place = memoryview(shared).cast("q")
        at, last = order["first"], order["first"] + order["count"]
        try:
            while at < last and time.time() < order["until"]:
                signal.setitimer(signal.ITIMER_VIRTUAL, order["hang_seconds"])
                one.run(at, min(BATCH, last - at), place)
                at += min(BATCH, last - at)
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            place.release()
    return {"executions": at - order["first"], "digest": one.digest}


def mutant(order: dict[str, Any]) -> dict[str, Any]:
    """The lane and the image of one iteration, which is not decoded."""
    lane, image = fuzz(order["seed"], kinds=order["kinds"]).mutant(order["first"])
    return {"lane": lane, "image": image.hex()}


def again(order: dict[str, Any]) -> list[int]:
    """The outcomes of kept cases."""
    module, one = driver(), fuzz(1, tight=order["form"] == "asan")
    from tests.fuzz import corpus

    known = {lane.name: lane for lane in corpus.lanes(module)}
    return [one.again(known[lane], bytes.fromhex(image)) for lane, image in order["cases"]]


if __name__ == "__main__":
    task = json.loads(sys.argv[1])
    print(json.dumps({"work": work, "mutant": mutant, "again": again}[task["task"]](task)))
