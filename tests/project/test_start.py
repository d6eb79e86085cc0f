"""The first pages of a user, docs/start.md and docs/dbt.md: what they name exists, and what they show is so."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from cdc.cli.main import cli
from cdc.commands.grants import grants, script
from cdc.config import load as config
from cdc.runtime.counters import ApplyCounters, CaptureCounters
from cdc.runtime.metrics import Metrics
from tests.helpers.servers import TargetDatabase

ROOT = Path(__file__).resolve().parents[2]
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("start", "dbt")}
UNITS = sorted((ROOT / "config" / "systemd").iterdir())
ENVIRON = {"CDC_SOURCE_PASSWORD": "s", "CDC_TARGET_PASSWORD": "t"}


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)


def parsed(words: list[str]) -> None:
    """The words behind `cdc` are options of ours, a command, and options of that."""
    command = typer.main.get_command(cli)
    known = {option for one in command.params for option in one.opts} | {"--help"}
    while words and words[0].startswith("-"):
        assert words[0] in known, words
        words = words[2 if words[0] == "--config" else 1 :]
    if not words:
        return
    assert words[0] in command.commands, words  # type: ignore[attr-defined]
    inner = command.commands[words[0]]  # type: ignore[attr-defined]
    known |= {option for one in inner.params for option in one.opts}
    assert {word for word in words[1:] if word.startswith("--")} <= known, words


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_the_page_exists_with_its_options(page: str) -> None:
    said = re.findall(r"`cdc ([a-z-][^`>|]*?)(?: >[^`]*)?`", PAGES[page]) + re.findall(r"^    cdc ([^#&\n]*)", PAGES[page], re.MULTILINE)
    assert said
    for words in said:
        parsed(shlex.split(words))


def test_the_file_of_the_page_is_one_and_the_accounts_are_those_that_the_command_prints(tmp_path: Path) -> None:
    (tmp_path / "pipeline.toml").write_text(blocks("start", "toml")[0])
    found = config.load(tmp_path / "pipeline.toml", ENVIRON)
    statements = [line for line in script(grants(found)).splitlines() if line and not line.startswith("--")]
    assert statements == [line for line in blocks("start", "sql")[0].splitlines() if line and not line.startswith("--")]
    (tmp_path / "dbt.toml").write_text(
        blocks("start", "toml")[0] + blocks("dbt", "toml")[0].replace("[target]\n", "")
    )  # the keys of its [target] belong to the section that the file ends with
    assert {"raw"} == {config.load(tmp_path / "dbt.toml", ENVIRON).target.schema_}


def test_every_metric_is_listed_and_no_other() -> None:
    metrics = Metrics("od")
    metrics.watch_capture(CaptureCounters())
    metrics.watch_apply(ApplyCounters())
    served = {family.name for family in metrics.registry.collect() if family.name.startswith("cdc_")}
    listed = set(re.findall(r"`(cdc_[a-z_]+)`", "\n".join(line for line in PAGES["start"].splitlines() if line.startswith("| `cdc_"))))
    assert served - {"cdc_position_file_number", "cdc_position_offset_bytes"} == listed


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_starts_what_the_page_installs(path: Path) -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(path.read_text())
    assert path.name in PAGES["start"]
    if "Service" not in unit:
        assert (ROOT / "config" / "systemd" / path.name.replace(".timer", ".service")).is_file()
        return
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    parsed(words)
    for place in (program.rsplit("/", 2)[0], unit["Service"]["EnvironmentFile"], words[words.index("--config") + 1]):
        assert place in PAGES["start"], place
    if "--report" in words:
        assert words[-1].startswith(f"/var/lib/{unit['Service']['StateDirectory']}/")


def test_the_sources_of_dbt_are_yaml_with_a_query_per_table() -> None:
    new, old = (yaml.safe_load(block)["sources"][0] for block in blocks("dbt", "yaml"))
    assert "from cdc.loaded_at" in new["config"]["loaded_at_query"]
    assert ("loaded_at", "loaded_at") == (old["loaded_at_field"], old["tables"][0]["identifier"])


def test_the_sql_for_readers_runs_and_says_what_is_loaded(postgres: TargetDatabase) -> None:
    from cdc.state.store import StateStore
    from tests.sinks.postgres.opening import config as target

    with StateStore(target(postgres), "p") as state:
        state.migrate()
    postgres.execute(
        "CREATE SCHEMA raw", "CREATE TABLE raw.patient (id int)",
        """INSERT INTO cdc.tables (pipeline, db, "table", target_schema, target_table, state, rows_loaded)
           VALUES ('p', 'od', 'patient', 'raw', 'patient', 'consistent', 7), ('p', 'od', 'fee', 'raw', 'fee', 'copying', 1)""",
        """INSERT INTO cdc.progress (pipeline, cut_no, epoch, control_next, position, source_ts)
           VALUES ('p', 1, 1, 1, '{}', now() - interval '5 seconds')""",
    )  # fmt: skip
    with postgres.connect("postgres") as administrator:
        administrator.execute("CREATE ROLE reporting")
        try:
            for block in blocks("dbt", "sql"):
                postgres.execute(*(one for one in block.split(";\n") if one.strip()))
            with postgres.connect("postgres") as reader:
                reader.execute("SET ROLE reporting")
                rows = reader.execute("SELECT table_name, load_status, rows_loaded, _loaded_at < now() FROM raw.etl_load_status ORDER BY 1")
                assert [("fee", "running", 1, None), ("patient", "completed", 7, True)] == rows.fetchall()
                for block in blocks("dbt", "yaml")[:1]:
                    query = yaml.safe_load(block)["sources"][0]["config"]["loaded_at_query"]
                    query = query.replace("{{ this.schema }}", "raw").replace("{{ this.identifier }}", "patient")
                    (age,) = reader.execute(f"SELECT now() - ({query})".encode()).fetchone() or (None,)
                    assert 5 <= age.total_seconds() < 60
        finally:
            administrator.execute("DROP OWNED BY reporting")
            administrator.execute("DROP ROLE reporting")
