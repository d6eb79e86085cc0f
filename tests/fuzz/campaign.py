"""Many iterations over several processes; each death is kept with its image, and the rest goes on behind it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdc.codec import kernels
from tests.fuzz.build import ROOT, Plant, built
from tests.fuzz.corpus import KINDS

FOUND = Path(__file__).with_name("found.jsonl")
LEDGER = Path(__file__).with_name("ledger.jsonl")
PYTHON = (sys.executable, "-P", "-m", "tests.fuzz.worker")  # -P: the folder we stand in has a `cdc` too
MENDED = 1
"""What is expected of a case once it is mended: 0 taken, 1 malformed, 2 halted."""
NAMES = ("taken", "malformed", "halted")
SANITIZED = {
    "PYTHONMALLOC": "malloc",  # Python's own arenas would hide what lies around a block
    # CPython leaks by design; what is freed is held back for as long as 32 MiB of it take.
    "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=32:max_allocation_size_mb=64:allocator_may_return_null=0:exitcode=99",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:exitcode=98",
}


@dataclass
class Campaign:
    """What to run; `form` is plain, asan or pure."""

    form: str
    seed: int
    count: int
    first: int = 0
    jobs: int = 1
    kinds: str = ""
    seconds: float = 1e9
    digesting: bool = False
    plant: Plant | None = None
    most_failures: int = 10
    hang_seconds: float = 60
    """Of the processor's time, not of the clock's: beside other load a batch may wait for long. No batch needs so much."""


@dataclass
class Outcome:
    """What a campaign came to; a failure is lane, image (hex), seed, iteration, and the last words of the process."""

    executions: int = 0
    seconds: float = 0.0
    outcomes: list[int] = field(default_factory=lambda: [0] * (3 * len(KINDS)))
    digests: list[int] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)


def environment(form: str, plant: Plant | None = None) -> dict[str, str]:
    """Under which a worker of this form runs."""
    environ = {key: value for key, value in os.environ.items() if key not in ("CDC_PURE", "LD_PRELOAD")}
    if form == "pure":
        return environ | {"CDC_PURE": "1", "PYTHONPATH": str(ROOT)}
    environ["PYTHONPATH"] = os.pathsep.join(map(str, (*built(form, plant), ROOT)))
    if form == "asan":
        library = subprocess.run(["cc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True).stdout.strip()
        environ |= SANITIZED | {"LD_PRELOAD": str(Path(library).resolve())}
    return environ


def run(campaign: Campaign) -> Outcome:
    """Run it all; the processes share the iterations evenly."""
    begun = time.monotonic()
    outcome, environ = Outcome(), environment(campaign.form, campaign.plant)
    share = -(-campaign.count // campaign.jobs)
    ranges = [(campaign.first + i * share, min(share, campaign.count - i * share)) for i in range(campaign.jobs)]
    with tempfile.TemporaryDirectory() as folder:
        waiting = [(first, count) for first, count in ranges if count > 0]
        running: list[tuple[subprocess.Popen[str], int, int, Path]] = []
        until = time.time() + campaign.seconds
        while waiting or running:
            running += [_start(campaign, environ, first, count, until, Path(folder)) for first, count in waiting]
            waiting = []
            process, first, count, place = running.pop(0)
            said, complaint = process.communicate()
            iteration, *counted = array("q", place.read_bytes())
            outcome.outcomes = [a + b for a, b in zip(outcome.outcomes, counted, strict=True)]
            if process.returncode == 0:
                outcome.executions += json.loads(said)["executions"]
                outcome.digests.append(json.loads(said)["digest"])
                continue
            outcome.executions += iteration - first
            outcome.failures.append(_kept(campaign, environ, iteration, f"{complaint}\nexit {process.returncode}"))
            if len(outcome.failures) < campaign.most_failures and iteration + 1 < first + count:
                waiting = [(iteration + 1, first + count - iteration - 1)]
    outcome.seconds = round(time.monotonic() - begun, 1)
    return outcome


def _start(
    campaign: Campaign, environ: dict[str, str], first: int, count: int, until: float, folder: Path
) -> tuple[subprocess.Popen[str], int, int, Path]:
    place = folder / f"progress-{first}"
    place.write_bytes(array("q", [first, *[0] * (3 * len(KINDS))]).tobytes())
    order = {
        "task": "work",
        "first": first,
        "count": count,
        "progress": str(place),
        "until": until,
        "digesting": campaign.digesting,
        "hang_seconds": campaign.hang_seconds,
    }
    return (
        subprocess.Popen(_command(campaign, order), env=environ, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True),
        first,
        count,
        place,
    )


def _command(campaign: Campaign, order: dict[str, Any]) -> list[str]:
    order |= {"form": campaign.form, "seed": campaign.seed, "kinds": campaign.kinds}
    return [*PYTHON, json.dumps(order)]


def _kept(campaign: Campaign, environ: dict[str, str], iteration: int, complaint: str) -> dict[str, Any]:
    """The image of a death, made again without decoding it."""
    words = [line for line in complaint.splitlines() if line.strip()]
    told = next((line for line in words if "ERROR: AddressSanitizer" in line or "runtime error" in line), " ".join(words[-2:]))
    case = {
        "seed": campaign.seed,
        "iteration": iteration,
        "form": campaign.form,
        "told": told.strip()[:300],
        "complaint": complaint[-6000:],
    }
    made = subprocess.run(
        _command(campaign, {"task": "mutant", "first": iteration}), env=environ, cwd=ROOT, capture_output=True, text=True, check=False
    )
    return case | (json.loads(made.stdout) if made.returncode == 0 else {"lane": "?", "image": "", "complaint": complaint + made.stderr})


def keep(failures: list[dict[str, Any]]) -> None:
    """Append failures to the cases that every later run goes over; whoever mends one writes there what it then comes to."""
    with FOUND.open("a") as file:
        for case in (one for one in failures if one["lane"] != "?"):  # without one, no image was at fault
            file.write(json.dumps({key: case[key] for key in ("lane", "image", "seed", "iteration", "told")} | {"outcome": MENDED}) + "\n")


def cases() -> list[dict[str, Any]]:
    """What was found once."""
    return [json.loads(line) for line in FOUND.read_text().splitlines()] if FOUND.exists() else []


def again(form: str) -> list[int]:
    """The outcomes of all kept cases: 0 taken, 1 malformed, 2 halted."""
    order = {"task": "again", "form": form, "cases": [(case["lane"], case["image"]) for case in cases()]}
    command = [*PYTHON, json.dumps(order)]
    done = subprocess.run(command, env=environment(form), cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-6000:])
    found: list[int] = json.loads(done.stdout)
    return found


def line(campaign: Campaign, outcome: Outcome) -> dict[str, Any]:
    """The ledger's line of a campaign."""
    by_kind = {kind: dict(zip(NAMES, outcome.outcomes[3 * i : 3 * i + 3])) for i, kind in enumerate(KINDS)}
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), "form": campaign.form, "seed": campaign.seed, "first": campaign.first,
        "executions": outcome.executions, "wanted": campaign.count, "seconds": outcome.seconds, "processes": campaign.jobs,
        "failures": len(outcome.failures), "outcomes": by_kind, "revision": revision, "kernels": kernels.sources_sha256()[:16],
        "python": platform.python_version(), "compiler": _compiler(), "machine": f"{platform.machine()}, {os.cpu_count()} processors",
    }  # fmt: skip


def _compiler() -> str:
    return subprocess.run(["cc", "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
