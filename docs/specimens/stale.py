"""SIGKILL at once: what the guest has rewritten since it last flushed itself is old on the disk."""

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from pytest_gracekill.child.journal import Journal

CAUGHT = {"data": "STALE", "escalation": "KILLED EARLY"}
TRIAL = {"guest": "flushing", "blocks": 32, "flush_time": 0.5, "force": True}


@contextmanager
def _rewritten(journal: Journal) -> Iterator[None]:
    """Every block is on the disk, and some of them were written again."""
    seen: list[str] = []
    while "guest_flush" not in seen or "ack" not in seen[seen.index("guest_flush") :]:
        seen = [entry.event for entry in journal.entries()]
    yield


WITHIN = _rewritten


def destroy(pid: int) -> bool:
    pidfd = os.pidfd_open(pid)
    try:
        # FLAW grace-too-short: there is no SIGTERM before it
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return bool(select.select([pidfd], [], [], 5)[0])
    finally:
        os.close(pidfd)
