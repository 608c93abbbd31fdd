"""Only `make interop` collects these: they fetch programs of others."""

import os

from tests.kafka.conftest import broker

__all__ = ["broker"]

collect_ignore_glob = [] if os.environ.get("INTEROP") else ["test_*.py"]
