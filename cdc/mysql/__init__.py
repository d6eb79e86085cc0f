"""The only place that asks MySQL and MariaDB by SQL: connection, catalog, identity, preflight,
reading tables in pieces."""
