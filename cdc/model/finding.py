"""What a check finds: of the source, the target, the broker or the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One obstacle ("error": capture will not start or would lose something) or risk ("warning"),
    and the SQL that mends it."""

    level: Literal["error", "warning"]
    code: str
    place: str
    rule: str
    hint_sql: str = ""
