"""The `cdc` command as a process: exit codes, one document on stdout, signals, and no value in any line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cdc import __version__
from cdc.cli.main import execute
from tests.helpers.documents import faults

ROOT = Path(__file__).resolve().parents[2]
CDC = [sys.executable, "-m", "cdc"]
WITH_APP = [sys.executable, str(ROOT / "tests" / "helpers" / "cdc_without_servers.py")]
CONFIG = '[pipeline]\nname = "od"\n[source]\nurl = "mysql://u@127.0.0.1:1"\ntables = ["a.*"]\nserver_id = 1\n[target]\nurl = "postgresql://u@127.0.0.1:1/d"\n'
NOT_YET = ["dashboard", "top", "schema", "schedule", "jobs", "compare"]
SECRET = "row-value-4711"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pipeline.toml").write_text(CONFIG)
    return tmp_path


def environ(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


def cdc(folder: Path, *arguments: str, command: list[str] = CDC, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, *arguments], cwd=folder, env=environ(**more), capture_output=True, text=True, timeout=60, check=False)


def documented(folder: Path, *arguments: str, command: list[str] = CDC, **more: str) -> tuple[int, dict[str, Any]]:
    """Exit code and the one document on stdout."""
    done = cdc(folder, *arguments, command=command, **more)
    assert 1 == done.stdout.count("\n"), done
    return done.returncode, json.loads(done.stdout)


def streaming(folder: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """The command, from the moment it says that it has started."""
    process = begun(folder, *arguments, **more)
    seen = [""]
    while '"started"' not in seen[-1]:
        seen.append(line(process))
        assert seen[-1], seen
    return process


def begun(folder: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    command = [*WITH_APP, *arguments]
    return subprocess.Popen(command, cwd=folder, env=environ(**more), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def line(process: subprocess.Popen[str]) -> str:
    """The next line of its log; empty at its end."""
    assert process.stderr
    return process.stderr.readline()


def test_help_names_every_command_and_needs_no_configuration(tmp_path):
    done = cdc(tmp_path, "-h")
    names = ["up", "down", "demo", "doctor", "run", "snapshot", "capture", "apply", "status", "wait", "reconcile", "quarantine"]
    assert (0, []) == (done.returncode, [name for name in names if f" {name} " not in done.stdout])
    assert [] == [name for name in NOT_YET if f" {name} " in done.stdout]


@pytest.mark.parametrize("words", [("copy",), ("quarantine",), ("quarantine", "list"), ("topics", "read")])
def test_each_command_has_help_by_its_short_name(tmp_path, words, capsys):
    assert 0 == execute([*words, "-h"])
    assert f"Usage: cdc {' '.join(words)}" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("arguments", [("--json", "--help"), ("run", "--help", "--json")])
def test_help_is_a_document_too(tmp_path, arguments):
    code, document = documented(tmp_path, *arguments)
    assert (0, []) == (code, faults("help", document))


def test_the_version_is_printed(tmp_path):
    done = cdc(tmp_path, "--version")
    assert (0, f"cdc {__version__}\n") == (done.returncode, done.stdout)
    code, document = documented(tmp_path, "--version", "--json")
    assert (0, []) == (code, faults("version", document))


@pytest.mark.parametrize("command", NOT_YET)
def test_commands_of_later_steps_say_so(folder, command):
    code, document = documented(folder, command, "x", "--option", "--json")
    assert (2, "not_yet", []) == (code, document["error"]["code"], faults("error", document))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--json", "nonsense"),
        ("status", "--nonsense", "--json"),
        ("wait", "--timeout", "soon", "--json"),
        ("--json",),
        ("status", "x", "--json"),
        ("up", "--source", "oracle", "--json"),
        ("status", "--json", "--config"),
        ("status", "--json", "--log-level", "loud"),
        ("status", "--json", "--log-format=xml"),
    ],
)
def test_a_wrong_command_line_is_one_document_and_exit_2(folder, arguments):
    code, document = documented(folder, *arguments)
    assert (2, "usage", []) == (code, document["error"]["code"], faults("error", document))


def test_a_wrong_command_line_is_a_sentence_for_people(folder):
    done = cdc(folder, "nonsense")
    assert (2, "") == (done.returncode, done.stdout)
    assert "error [usage]" in done.stderr
    assert "hint: " in done.stderr


@pytest.mark.parametrize("command", ["doctor", "run", "snapshot", "capture", "apply", "status", "wait", "reconcile"])
def test_a_missing_configuration_is_refused_before_anything_else(tmp_path, command):
    code, document = documented(tmp_path, command, "--json")
    assert (2, "config", "pipeline.toml") == (code, document["error"]["code"], document["error"]["place"])


def test_every_problem_of_a_configuration_is_in_the_document(folder):
    (folder / "pipeline.toml").write_text(CONFIG + "typo = 1\n[apply]\nmax_delay_seconds = -1\n")
    code, document = documented(folder, "status", "--json")
    assert (2, []) == (code, faults("error", document))
    assert {"target.typo", "apply.max_delay_seconds"} == {one["key"] for one in document["error"]["problems"]}


@pytest.mark.parametrize(
    "arguments", [("--config", "other.toml", "status"), ("status", "--config", "other.toml"), ("status", "--config=other.toml")]
)
def test_the_configuration_is_named_before_or_after_the_command(folder, arguments):
    (folder / "pipeline.toml").rename(folder / "other.toml")
    code, document = documented(folder, *arguments, "--json", command=WITH_APP, CDC_TEST="yes")
    assert (0, "od") == (code, document["pipeline"])


@pytest.mark.parametrize(
    ("command", "answer", "expected"),
    [("wait", "yes", 0), ("wait", "no", 1), ("doctor", "yes", 0), ("doctor", "no", 3), ("reconcile", "yes", 0), ("reconcile", "no", 3),
     ("status", "yes", 0), ("status", "no", 0), ("status", "away", 1), ("status", "refused", 2),
     ("status", "halt", 1), ("status", "retry", 1)],
)  # fmt: skip
def test_the_answer_decides_the_exit_code(folder, command, answer, expected):
    code, document = documented(folder, command, "--json", command=WITH_APP, CDC_TEST=answer)
    assert expected == code
    assert ("error" in document) == (answer in ("refused", "halt", "retry"))


def test_an_error_is_lines_on_stderr_for_people(folder):
    done = cdc(folder, "status", command=WITH_APP, CDC_TEST="refused")
    assert (2, "", ["error [source_auth] 127.0.0.1:3306: the password is wrong", "hint: mend it"]) == (
        done.returncode, done.stdout, done.stderr.splitlines(),
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json")])
def test_a_defect_is_one_line_with_its_place_and_without_its_message(folder, arguments):
    done = cdc(folder, *arguments, command=WITH_APP, CDC_TEST="defect")
    assert (1, 1) == (done.returncode, done.stderr.count("\n"))
    assert SECRET not in done.stdout + done.stderr
    said = json.loads(done.stderr)
    assert ("internal", "KeyError") == (said["event"], said["rule"])
    if "--json" in arguments:
        assert [] == faults("error", json.loads(done.stdout))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("command", ["run", "snapshot", "capture", "apply"])
def test_a_signal_ends_the_work_cleanly(folder, command, number):
    process = streaming(folder, command, "--json")
    process.send_signal(number)
    out, _ = process.communicate(timeout=10)
    assert (0, {"pipeline": "od"}) == (process.returncode, json.loads(out))


def test_a_second_signal_ends_at_once(folder):
    process = streaming(folder, "run", CDC_TEST="stuck")
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(signal.SIGTERM)
    assert -signal.SIGTERM == process.wait(timeout=1)
    process.communicate()


def test_a_question_that_a_signal_breaks_off_has_no_answer(folder):
    process = streaming(folder, "wait", "--json", CDC_TEST="slow")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=10)
    assert (1, "interrupted") == (process.returncode, json.loads(out)["error"]["code"])


def test_stdout_holds_the_document_alone_and_stderr_no_value(folder):
    process = streaming(folder, "run", "--json")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert {"pipeline": "od"} == json.loads(out)
    assert SECRET not in err


def test_log_lines_are_json_with_a_reason_code_and_no_value(folder):
    process = begun(folder, "run")
    lines = [json.loads(line(process)) for _ in range(3)]
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert ["library", "library", "started"] == [one["event"] for one in lines]
    assert SECRET not in str(lines)
    assert ("<bytes>", "ValueError") == (lines[2]["value"], lines[2]["error"]["rule"])


def test_log_lines_are_as_plain_and_as_many_as_asked(folder):
    process = begun(folder, "run", "--log-format", "plain", "--log-level=error")
    library = line(process)
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=10)
    assert re.match(r"\d\d-\d\dT\d\d:\d\d:\d\dZ \[error\] library ", library), library
    assert "started" not in rest
    assert SECRET not in library + rest


def test_the_servers_options_are_checked_before_anything_starts(tmp_path):
    assert 2 == cdc(tmp_path, "demo", "--seconds", "0").returncode
    assert 2 == cdc(tmp_path, "demo", "--transport", "pigeon").returncode


def test_down_without_a_stack_stops_nothing(tmp_path):
    code, document = documented(tmp_path, "down", "--json")
    assert (0, [], []) == (code, document["stopped"], faults("down", document))
