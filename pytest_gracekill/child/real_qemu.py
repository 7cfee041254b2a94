"""A real QEMU behind the handle of a fake: whom to kill, how it ended, what it has lost.

What the fake writes into its journal about itself is here written by us (`real_record`); what
cannot be had: a lock on the image, which over NBD QEMU does not take.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from .ending import Ending, Exit
from .handle import FakeQemu
from .journal import Journal
from .real_image import RealDisk
from .real_knobs import RealKnobs, names
from .real_launch import Started, start

if TYPE_CHECKING:
    from collections.abc import Callable

    from .journal import Entry
    from .knobs import Knobs
    from .nbd_gate import Gate

__all__ = ["RealKnobs", "RealQemu", "spawn"]

#: Seconds for QEMU's last words to be heard when it has ended.
_HEARD_WITHIN = 5.0


def spawn(knobs: RealKnobs, directory: Path) -> RealQemu:
    """Start a real QEMU in `directory`, which it gets for itself, and return it ready.

    :raises MissingQemuError: QEMU is not installed.
    :raises StartError: it did not become ready in time; nothing is left running.
    """
    return RealQemu(start(knobs, Path(directory).absolute()))


class RealQemu(FakeQemu):
    """A real QEMU that has been started; `spawn` and the fixture `real_qemu` return it."""

    disk: RealDisk

    _kind = "QEMU"
    fixture = "real_qemu"
    knob_names = names()
    own_child = ("child", "wrapped")

    def __init__(self, started: Started) -> None:
        self._started = started
        self._settling = threading.Lock()
        #: QEMU's version, as "7.2.22".
        self.version = started.version
        directory = started.launched.prepared.directory
        super().__init__(
            started.launched,
            journal=_SettledJournal(directory / "journal", self._settle),
            ending=_RealEnding,
        )
        self.disk = RealDisk(directory / "disk", self.journal, self._settle)

    @property
    def fault(self) -> None:
        """Nothing of ours runs in a real QEMU."""

    @property
    def gate(self) -> Gate:
        """What holds the disk: ``.hold()``, ``.let(N)``, ``.open()``, and the event ``.seen``."""
        return self._started.server.gate

    @property
    def knobs(self) -> Knobs:
        """What a fake would have to be asked for that behaves the same now."""
        gate = self.gate
        return self._started.knobs.as_fake(held=gate.held, stood=gate.stood)

    def _settle(self) -> None:
        """When QEMU is dead, hear its last words, and see that nobody writes to its disk."""
        if self._ending.alive:
            return
        with self._settling:
            self._started.monitor.join(_HEARD_WITHIN)
            self._started.server.close()

    def close(self) -> None:
        """End QEMU and everything of it, and give back all descriptors.

        The directory stays, with image, journal and stderr; idempotent.
        """
        if os.getpid() != self._owner:
            return  # a forked child of ours: what it would hang up is not its own
        try:
            super().close()
        finally:
            self._started.guest.close()
            self._started.monitor.close()
            self._started.server.close()
            self._started.record.close()


class _SettledJournal(Journal):
    """The journal, read when everything that is to come has been written."""

    def __init__(self, path: Path, settle: Callable[[], None]) -> None:
        super().__init__(path)
        self._settle = settle

    def entries(self) -> list[Entry]:
        """Return all lines, oldest first."""
        self._settle()
        return super().entries()


class _RealEnding(Ending):
    """How and when QEMU ended: the kernel says how, and the disk that it let go of, when.

    Who was killed in the middle has let go of nothing.
    """

    def _conclude(self) -> Exit:
        code, by_signal = self._status
        let_go = self._journal.last("exit")
        if let_go is None or by_signal is not None:
            return Exit(code=code, signal=by_signal, at=self._seen_at)
        return Exit(code=code, signal=None, at=let_go.at_ns / 1e9)
