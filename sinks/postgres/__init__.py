"""The sink's side of PostgreSQL: statements, tables, merges, fences, quarantine, copies."""
