"""What storage engines of the source do to those who write while somebody reads."""

from __future__ import annotations

_LOCKING = frozenset({"myisam", "aria", "memory", "csv", "archive", "mrg_myisam"})
"""As information_schema.TABLES writes them, in lower case.
https://dev.mysql.com/doc/refman/8.4/en/internal-locking.html"""


def locks_on_read(engine: str) -> bool:
    """Whether a reader of such a table keeps its writers waiting; `engine` as the server writes it."""
    return engine.lower() in _LOCKING
