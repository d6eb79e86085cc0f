"""Completion: each shell's script asks the command itself, which names its own commands and options."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cdc.cli.main import execute

ROOT = Path(__file__).resolve().parents[2]


def asked(shell: str, **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cdc"], cwd=ROOT, env={**os.environ, "_CDC_COMPLETE": f"complete_{shell}", **environ},
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_asks_through_the_variable_that_the_command_hears(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == execute(["completion", shell])
    assert f"_CDC_COMPLETE=complete_{shell}" in capsys.readouterr().out


def test_a_shell_that_nobody_knows_is_a_usage_error() -> None:
    assert 2 == execute(["completion", "csh"])


def test_commands_and_options_are_completed() -> None:
    script = subprocess.run(["bash", "-n"], input=subprocess.run(
        [sys.executable, "-m", "cdc", "completion", "bash"], cwd=ROOT, check=True, capture_output=True, text=True).stdout,
        check=False, capture_output=True, text=True)  # fmt: skip
    assert 0 == script.returncode, script.stderr
    assert ["replay"] == asked("bash", COMP_WORDS="cdc quarantine re", COMP_CWORD="2").split()
    assert "--report" in asked("zsh", _TYPER_COMPLETE_ARGS="cdc reconcile --re")
