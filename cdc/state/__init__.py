"""Schema `cdc` in the target: migrations, positions, ledgers, requests, quarantine. SQL in, values out."""
