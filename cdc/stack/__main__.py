"""`python -m cdc.stack`: puts all servers' programs on this machine and says where they are; starts none.

`python -m cdc.stack --missing` installs nothing and prints, in one line, the packages that would have to be.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from cdc.errors import CdcError
from cdc.stack import SOURCES, Kafka, MariaDb114, Postgres, Server, Settings, install

KINDS: list[type[Server]] = [*SOURCES.values(), MariaDb114, Postgres, Kafka]


def main(arguments: list[str]) -> int:
    """Installs what is missing; 2 with a reason when that cannot be done."""
    with tempfile.TemporaryDirectory() as folder:
        servers = [kind(Path(folder) / kind.name, Settings(mark="none")) for kind in KINDS]
        lacking = {server.name: server.lacks() for server in servers}
        if arguments == ["--missing"]:
            print(*dict.fromkeys(package for packages in lacking.values() for package in packages))
            return 0
        try:
            install.demand(lacking)
            for server in servers:
                server.install()
                print(f"{server.name}: {server.command()[0]}")
        except CdcError as error:
            print(error, file=sys.stderr)
            return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
