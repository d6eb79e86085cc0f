"""The two files that `cdc up` writes: a pipeline's configuration without secrets, and the secrets that it names."""

from __future__ import annotations

from collections.abc import Sequence

from cdc.stack.kafka import Kafka
from cdc.stack.mysql import MysqlFamily
from cdc.stack.postgres import Postgres


def pipeline_toml(source: MysqlFamily, target: Postgres, kafka: Kafka | None, databases: Sequence[str]) -> str:
    """A configuration for these servers; every key it leaves out has its default."""
    tables = ", ".join(f'"{name}.*"' for name in databases)
    lines = [
        "# Written by `cdc up`. The passwords are in the file env beside it:",
        "#     set -a; . ./env; set +a; cdc run",
        "# Their administrators are root and postgres, with the passwords CDC_SOURCE_ADMIN_PASSWORD and "
        "CDC_TARGET_ADMIN_PASSWORD.",
        "# No table is there yet: make some as root in these databases (the account cdc may read them), or a practice:",
        "#     for step in create load; do python -m cdc.demo.opendental $step \\",
        f'#         --url "mysql://root:$CDC_SOURCE_ADMIN_PASSWORD@{source.host}:{source.port}/"; done',
        "[pipeline]",
        'name = "od"',
        "[source]",
        f'url = "mysql://cdc:${{CDC_SOURCE_PASSWORD}}@{source.host}:{source.port}/"',
        f"tables = [{tables}]",
        "server_id = 4201",
        "[target]",
        f'url = "postgresql://cdc:${{CDC_TARGET_PASSWORD}}@{target.host}:{target.port}/{target.settings.target_database}"',
        "[transport]",
        *(['kind = "kafka"', f'bootstrap = "{kafka.bootstrap}"'] if kafka else ['kind = "direct"']),
    ]
    return "\n".join(lines) + "\n"
