"""The fence: may this process still write for its consumer group? If it cannot be sure, it exits.

A worker that is frozen past its session (a stopped process, a paused machine, a long swap) and then thawed goes on
where it was, while another worker already owns its partitions: it would overwrite newer rows. Kafka accepts such
writes, and the generation that the worker knows is still the old one. What it can know is how long ago the group last
heard of it: every answered heartbeat is stamped with the time *before* its request was sent. As long as the stamp is
younger than the limit, the session cannot have ended.

limit + producer_request_timeout < session time-out (5 + 8 < 15 s): a write that was let through is acknowledged, or
has failed, before the group can have given the partition away.

:mod:`app.hardening` puts the stamps there (``note_heartbeat``, ``note_expelled``), on the coordinator of each consumer,
since two apps may run in one process.
"""

import logging
import os
import threading
import time
from typing import Any, NoReturn

import faust

log = logging.getLogger(__name__)

#: EX_SOFTWARE: an internal error was detected. The supervisor restarts the worker, Kafka replays.
EXIT_CODE = 70
_FLUSH_S = 2.0
_STAMP = "_last_heard_of"

#: Runs on while the machine sleeps, which the monotonic clock of Linux does not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC_RAW", time.CLOCK_MONOTONIC))


def now() -> float:
    """Return the time by which heartbeats are stamped, in seconds."""
    return time.clock_gettime(_CLOCK)


def note_heartbeat(coordinator: object, sent_at: float) -> None:
    """Note that the group answered a request of this member, sent at sent_at. Called from the consumer's thread."""
    setattr(coordinator, _STAMP, sent_at)


def note_expelled(coordinator: object) -> None:
    """Note that the group no longer knows this member; until it has joined again, it is nobody."""
    setattr(coordinator, _STAMP, None)


def fatal(why: str, exc: BaseException | None = None) -> NoReturn:
    """Log why and end this process at once: nothing is acked, committed or sent any more."""
    # Whatever a log handler waits for (a full pipe, a lock), the process ends.
    last = threading.Timer(_FLUSH_S, os._exit, (EXIT_CODE,))
    last.daemon = True
    last.start()
    try:
        log.critical("fatal: %s", why, exc_info=exc)
        logging.shutdown()
    finally:
        os._exit(EXIT_CODE)


class Fence:
    """Whether one app's consumer is certainly still a member of its group."""

    def __init__(self, app: faust.App, limit_s: float = 5.0) -> None:
        self.app = app
        self.limit_s = limit_s

    def age(self) -> float:
        """Return how many seconds ago the group certainly still counted this worker; infinite before it has joined."""
        stamp: float | None = getattr(self._coordinator(), _STAMP, None)
        return now() - stamp if stamp is not None else float("inf")

    def check(self, where: str) -> None:
        """Return if this worker is certainly still a member of its group; else end the process."""
        if (age := self.age()) > self.limit_s:
            heard = f"last heard of this worker {age:.1f} s ago" if age < float("inf") else "does not know this worker"
            fatal(
                f"fenced at {where}: group {self.app.conf.id} {heard} (limit {self.limit_s:g} s); "
                "another worker may own its partitions by now"
            )

    def _coordinator(self) -> object | None:
        # Not app.consumer: that property would make a consumer where there is none yet.
        thread: Any = getattr(self.app._consumer, "_thread", None)
        consumer: Any = getattr(thread, "_consumer", None)
        return getattr(consumer, "_coordinator", None)
