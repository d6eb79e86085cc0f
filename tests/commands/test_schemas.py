"""`cdc schemas export`: files by the names of their subjects; those of the practice's main tables are kept in schemas/avro."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import fastavro
import pytest

from cdc.demo import opendental
from tests.helpers.documents import faults
from tests.helpers.servers import PASSWORD, SourceDatabase, TargetDatabase

FOLDER = Path(__file__).resolve().parents[2] / "schemas" / "avro"
MAIN = ("patient", "appointment", "procedurelog", "claim", "payment", "paysplit", "adjustment", "provider", "definition")
OWN = ("control", "schemas", "signal")
DATABASE, PREFIX = "opendental", "practice"


@pytest.fixture
def exported(pipeline: Any, mariadb: SourceDatabase, postgres: TargetDatabase, tmp_path: Path) -> dict[str, str]:
    """The practice's files, as if its database were called as people call it."""
    account = {"host": mariadb.host, "port": mariadb.port, "user": "root", "password": PASSWORD}
    opendental.create(account, mariadb.name, "MyISAM")
    made = pipeline(mariadb, postgres, transport={"prefix": PREFIX})
    wanted = [f"{mariadb.name}.{name}" for name in MAIN]
    patterns = ["--tables", ",".join(wanted[:2]), "--tables", ",".join(wanted[2:])]
    document = made.json("schemas", "export", str(tmp_path / "new" / "folder"), *patterns)
    assert [] == faults("schemas_export", document)
    files = sorted((tmp_path / "new" / "folder").iterdir())
    assert sorted(document["schemas"]) == [file.name for file in files]
    return {file.name.replace(mariadb.name, DATABASE): file.read_text().replace(mariadb.name, DATABASE) for file in files}


def test_the_schemas_of_the_practice_are_those_in_the_repository(exported: dict[str, str]) -> None:
    """`make schemas` writes them anew, for a change of the envelope is a change on the wire."""
    if os.environ.get("CDC_WRITE_SCHEMAS") == "1":
        FOLDER.mkdir(exist_ok=True)
        for old in FOLDER.iterdir():
            old.unlink()
        for name, text in exported.items():
            (FOLDER / name).write_text(text)
    assert exported == {file.name: file.read_text() for file in FOLDER.iterdir()}


def test_each_file_is_a_schema_by_the_name_of_its_subject_and_a_table_without_a_key_has_none_for_it(exported: dict[str, str]) -> None:
    keyed = {name for name in MAIN if f"{PREFIX}.{DATABASE}.{name}-key.avsc" in exported}
    assert set(MAIN) == keyed
    tables = {f"{PREFIX}.{DATABASE}.{name}-{kind}.avsc" for name in MAIN for kind in ("key", "value")}
    assert tables | {f"{PREFIX}.{topic}-value.schema.json" for topic in OWN} == set(exported)
    for name in tables:
        text = exported[name]
        parsed: Any = fastavro.parse_schema(json.loads(text))
        table = name.removesuffix("-key.avsc").removesuffix("-value.avsc")
        assert f"{table}.{'Key' if name.endswith('-key.avsc') else 'Envelope'}" == parsed["name"]


def test_tables_that_the_pipeline_does_not_select_have_no_schema(
    pipeline: Any, mariadb: SourceDatabase, postgres: TargetDatabase, tmp_path: Path
) -> None:
    mariadb.execute("CREATE TABLE heap (v INT)", "CREATE TABLE away (id INT PRIMARY KEY)")
    made = pipeline(mariadb, postgres, transport={"prefix": PREFIX}, source={"exclude": [f"{mariadb.name}.away"]})
    document = made.json("schemas", "export", str(tmp_path))
    assert [f"{PREFIX}.{mariadb.name}.heap-value.avsc"] == [name for name in document["schemas"] if name.endswith(".avsc")]
    assert [f"{PREFIX}.{topic}-value.schema.json" for topic in OWN] == [name for name in document["schemas"] if name.endswith(".json")]
