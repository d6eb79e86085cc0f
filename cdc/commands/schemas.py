"""`cdc schemas export`: the Avro schemas of a pipeline's tables as files, as consumers of its topics will meet them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from cdc.codec import envelope
from cdc.config.load import Config
from cdc.model import names
from cdc.model.record import Document
from cdc.mysql.catalog import Catalog, selected_tables


def export(config: Config, directory: Path, tables: Sequence[str]) -> Document:
    """Write the schemas of key and value of each selected table into `directory`, each by the name of its subject.

    `tables`: patterns of "db.table", empty for all that the pipeline selects. A table without a key has no schema of a key.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written: list[str] = []
    with Catalog(config.source) as catalog:
        for table in selected_tables(catalog, config.source, config.policies.policies, tables):
            subject = names.topic(config.transport.prefix, table.db, table.name)
            made = envelope.schemas(config.transport.prefix, table, catalog.flavour)
            for kind, schema in made._asdict().items():
                if schema is not None:
                    path = directory / f"{subject}-{kind}.avsc"
                    path.write_text(json.dumps(schema, indent=1, ensure_ascii=False) + "\n")
                    written.append(path.name)
    return {"pipeline": config.pipeline.name, "directory": str(directory), "schemas": written}
