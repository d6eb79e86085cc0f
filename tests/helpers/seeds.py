"""The seed of a test that draws: another one every day, the same all day, so that what a run found the next one finds again.

CDC_TEST_SEED chooses one. The long lanes draw freely, and keep what they find in their ledgers.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

_SPREAD = 2654435761


def seed() -> int:
    """Shown on the screen too, for who reads of a failure."""
    chosen = int(os.environ.get("CDC_TEST_SEED") or datetime.now(UTC).toordinal() * _SPREAD % (1 << 32))
    print(f"CDC_TEST_SEED={chosen}")
    return chosen
