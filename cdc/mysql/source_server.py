"""The source as copies need it: connections to ask and to read by, made when they are wanted."""

from __future__ import annotations

from dataclasses import dataclass

from cdc.config.load import SnapshotConfig, SourceConfig
from cdc.model.policies import Policies
from cdc.model.table import Table
from cdc.mysql.catalog import Catalog, selected_tables
from cdc.mysql.server_load import LoadProbe
from cdc.mysql.table_reader import Readers, TableReader


@dataclass(frozen=True, slots=True)
class SourceServer:
    """The server of a pipeline's configuration."""

    source: SourceConfig

    def catalog(self) -> Catalog:
        """A connection to ask questions by."""
        return Catalog(self.source)

    def selected(self, catalog: Catalog, policies: Policies) -> list[Table]:
        """The selected tables, with the policies of their columns."""
        return selected_tables(catalog, self.source, policies)

    def reader(self, catalog: Catalog, table: Table) -> TableReader:
        """A connection to read one table by."""
        return TableReader(self.source, catalog, table)

    def readers(self, catalog: Catalog, limits: SnapshotConfig) -> Readers:
        """Connections to read any of the tables by, as fast as the limits allow."""
        return Readers(self.source, catalog, limits)

    def load_probe(self) -> LoadProbe:
        """A connection to ask how busy it is by."""
        return LoadProbe(self.source)
