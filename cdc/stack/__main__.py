"""`python -m cdc.stack`: puts all servers' programs on this machine and says where they are; starts none."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from cdc.errors import CdcError
from cdc.stack import SOURCES, Kafka, MariaDb114, Postgres, Server, Settings


def main() -> int:
    """Installs what is missing; 2 with a reason when that cannot be done."""
    kinds: list[type[Server]] = [*SOURCES.values(), MariaDb114, Postgres, Kafka]
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            server = kind(Path(folder) / kind.name, Settings(mark="none"))
            try:
                server.install()
            except CdcError as error:
                print(f"{kind.name}: {error}", file=sys.stderr)
                return error.exit_code
            print(f"{kind.name}: {server.command()[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
