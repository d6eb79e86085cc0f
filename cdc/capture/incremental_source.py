"""The source as copies beside the stream need it: connections to ask and to read by, made when they are wanted."""

from __future__ import annotations

from dataclasses import dataclass

from cdc.config.load import SourceConfig
from cdc.model.table import Table
from cdc.mysql.catalog import Catalog
from cdc.mysql.table_reader import TableReader


@dataclass(frozen=True, slots=True)
class SourceServer:
    """The server of a pipeline's configuration."""

    source: SourceConfig

    def catalog(self) -> Catalog:
        """A connection to ask questions by."""
        return Catalog(self.source)

    def reader(self, catalog: Catalog, table: Table) -> TableReader:
        """A connection to read one table by."""
        return TableReader(self.source, catalog, table)
