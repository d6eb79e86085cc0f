"""`cdc schemas export`: the schemas of a pipeline's topics as files, as consumers of its topics will meet them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cdc.codec import envelope
from cdc.commands.files import folder
from cdc.config.load import Config
from cdc.model import names
from cdc.model.record import Document
from cdc.model.types import Schema
from cdc.mysql.catalog import Catalog, selected_tables
from cdc.protocol import record_schemas


def export(config: Config, directory: Path, tables: Sequence[str]) -> Document:
    """Write the Avro schemas of key and value of each selected table into `directory`, each by the name of its subject.

    `tables`: patterns of "db.table", empty for all that the pipeline selects. A table without a key has no schema of
    a key. Beside them stand the JSON Schemas of the pipeline's own records: control, schemas and signals.
    """
    folder(directory)
    own = _own_records(config.transport.prefix)
    written = [_write(directory / f"{topic}-value.schema.json", schema) for topic, schema in own]
    with Catalog(config.source) as catalog:
        for table in selected_tables(catalog, config.source, config.policies.policies, tables):
            subject = names.topic(config.transport.prefix, table.db, table.name)
            made = envelope.schemas(config.transport.prefix, table, catalog.flavour)
            for kind, schema in made._asdict().items():
                if schema is not None:
                    written.append(_write(directory / f"{subject}-{kind}.avsc", schema))
    return {"pipeline": config.pipeline.name, "directory": str(directory), "schemas": written}


def _own_records(prefix: str) -> list[tuple[str, Schema]]:
    """The topics whose records are JSON, and what these look like."""
    return [
        (names.control_topic(prefix), record_schemas.control()),
        (names.schemas_topic(prefix), record_schemas.registered_schema()),
        (names.signal_topic(prefix), record_schemas.signal()),
    ]


def _write(path: Path, schema: Schema) -> str:
    path.write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n")
    return path.name
