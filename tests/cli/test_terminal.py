"""What a person sees in a terminal of 80 columns and 24 lines: bars that end with what they show, no line that is folded."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEMO = [sys.executable, str(ROOT / "tests" / "helpers" / "demo_without_servers.py")]
BAR, UP = "━", "\x1b[1A"


def seen(command: list[str]) -> str:
    """All that a command writes into a terminal of 80x24."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environ = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR", "CI")}
    environ |= {"TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ, close_fds=True)
    os.close(theirs)
    found = b""
    while piece := _read(ours):
        found += piece
    os.close(ours)
    assert 0 == process.wait(timeout=10), found.decode()
    return found.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # nobody has the other end any more
        return b""


def test_the_demo_s_bars_end_with_the_copy_and_fit_the_terminal():
    text = seen(DEMO)
    copying, _, streaming = text.partition("copied 300 rows")
    watching, _, comparing = streaming.partition("comparing every table")
    assert BAR in copying
    assert UP in copying
    assert (False, False) == (BAR in watching, UP in watching)
    assert BAR in comparing
    assert "every table is equal" in comparing
    assert BAR not in comparing.partition("every table is equal")[2]
    drawn = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text))
    assert 4 == sum("copy_progress" in line and BAR not in line for line in drawn), drawn
    assert [] == [line for line in drawn if len(line) > 80]
    assert any(re.search(r"^opendental\.a_table.*… .*━.* 49\.4M of ~123M rows", line) for line in drawn), drawn
