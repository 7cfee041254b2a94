"""The record of one signal: when, which, to which process, from where, and whether it arrived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gracekill.data.requests import signal_name

if TYPE_CHECKING:
    from pytest_gracekill.data.requests import Unheard
    from pytest_gracekill.witness.history import Frame
    from pytest_gracekill.witness.recipients import Recipient

#: How the name of a process begins that is another run of the domain.
OTHER_RUN = "the VM that was started meanwhile"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentSignal:
    """One signal that the process sent, or tried to: when, which, to which process, from where.

    ``at_ns`` is the moment before the call. ``to`` is the kind of the recipient, ``pid`` its number
    (of a group, the group's) and ``comm`` the short name of its program, ``None`` where there is no
    single process; ``target`` is all of that as people read it. ``refused``: the recipient was a
    stranger, and the signal was not sent. ``reached_vm``: it was sent to the VM, alone or with its
    group, without an error, and the VM had not ended. ``held``: the traced locks that the sender
    held. ``unheard``: why the VM could not act on a stop signal at that moment.
    """

    at_ns: int
    signum: int
    to: Recipient
    pid: int | None
    comm: str | None
    target: str
    actor: str
    reached_vm: bool
    refused: bool
    errno: int | None
    site: Frame | None
    held: tuple[str, ...] = ()
    unheard: Unheard | None = None

    @property
    def other_run(self) -> bool:
        """Whether it went to another run of the same domain."""
        return self.to == "other run"

    @property
    def whom(self) -> str:
        """The recipient in short: ``4711 (sh)``, or a group, or a pid that no process has."""
        return self.target if self.pid is None or self.comm is None else f"{self.pid} ({self.comm})"

    def __str__(self) -> str:
        state = " refused" if self.refused else f" errno {self.errno}" if self.errno else ""
        return f"{signal_name(self.signum)} to {self.target} by {self.actor}{state}"
