"""Asks a source what `preflight` judges: its settings, the account's privileges, and tables that cannot be followed."""

from __future__ import annotations

from cdc.errors import Refused
from cdc.model.finding import Finding
from cdc.model.table import Table
from cdc.mysql import preflight, privileges
from cdc.mysql.catalog import Catalog
from cdc.runtime import logs


def examine_server(catalog: Catalog) -> list[Finding]:
    """What of the server's settings and the account's privileges stands in the way, with the SQL that mends it."""
    settings, place = catalog.settings, catalog.place
    logged_only = _log_filters(catalog)
    tables = catalog.tables(catalog.source.tables, catalog.source.exclude)
    findings = preflight.settings(settings, place) + preflight.filters(logged_only, place)
    findings += preflight.unlogged_updates(settings.values, lambda: _follows(catalog), place)
    grants = privileges.Grants(_grants(catalog))
    to_lock = [table for table in tables if not table.key and not catalog.has_snapshots(table)]
    findings += privileges.privileges(settings.flavour, grants, tables, gtids=settings.gtid_mode, to_lock=to_lock)
    findings += preflight.prepared(len(catalog.log.prepared()), place) + privileges.recovers_xa(
        settings.flavour, grants, place
    )
    selected = {(table.db, table.name): table for table in tables}
    findings += [preflight.system_versioned(name) for name in sorted(catalog.versioned & selected.keys())]
    if settings.flavour == "mysql" and preflight.version_of(settings.version) >= (9, 6, 0):
        return findings  # cascades are logged
    for table in tables:
        if grants.may_read(table):
            with logs.about(table.qualified):
                findings += _cascades(catalog, table)
    return findings


def _follows(catalog: Catalog) -> bool | None:
    """Whether this server is a replica; None: it may be one that rests, and the account may not ask."""
    try:
        return bool(catalog.session.all(preflight.replica_status_sql(catalog.version)))
    except Refused:
        running = catalog.session.all("SHOW GLOBAL STATUS LIKE 'Slaves_running'")  # MariaDB tells everybody
        return (
            True
            if any(int(count) for _, count in running)
            else (None if catalog.settings.values.get("gtid_slave_pos") else False)
        )


def _cascades(catalog: Catalog, table: Table) -> list[Finding]:
    """information_schema shows foreign keys only to accounts that may do more than read."""
    rows = catalog.session.all("SHOW CREATE TABLE " + preflight.dotted((table.db, table.name)))
    return preflight.cascades(table, str(rows[0][1]))


def _log_filters(catalog: Catalog) -> tuple[object, ...]:
    """The two columns of the log's status that name databases; none where it cannot be asked."""
    try:
        rows = catalog.session.all(catalog.log.log_end_sql)
    except Refused:
        return ()  # the missing privilege is a finding of its own
    return rows[0][2:4] if rows else ()


def _grants(catalog: Catalog) -> list[str]:
    role = str(catalog.session.one("SELECT CURRENT_ROLE()") or "NONE")
    using = f" FOR CURRENT_USER() USING {role}" if catalog.flavour == "mysql" and role != "NONE" else ""
    return [str(row[0]) for row in catalog.session.all("SHOW GRANTS" + using)]
