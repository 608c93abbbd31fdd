"""How often a property is tried, for each time that it usually is.

``HYPOTHESIS_PROFILE=fast`` tries a quarter (``make check``), ``deep`` forty times as much (a night).
"""

import os

TIMES = {"fast": 0.25, "deep": 40}.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 1)


def times(usual: int) -> int:
    """Return how often to try what is usually tried ``usual`` times."""
    return max(5, int(usual * TIMES))
