"""What becomes of a domain: uses after its last reference, and who cleans up after which run.

The model says what happens (`routine.domain.Notices`); here it is put on record with the thread and
the line. Only the model's own domains are seen, not the objects of a manager of the user's.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gracekill.clock import monotonic_ns
from pytest_gracekill.witness.history import Frame, current_stack

if TYPE_CHECKING:
    from pytest_gracekill.routine.incarnation import Incarnation
    from pytest_gracekill.witness.history import History


@dataclass(frozen=True, slots=True, kw_only=True)
class FreedUse:
    """Something of a domain was used after its last reference had been dropped."""

    domain: str
    what: str
    actor: str
    at_ns: int
    site: Frame | None

    def __str__(self) -> str:
        return f"{self.what} of domain {self.domain} by {self.actor}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanUp:
    """A domain was torn down; ``incarnation`` is the id of its run, None when it was inactive."""

    domain: str
    incarnation: int | None
    actor: str
    at_ns: int
    site: Frame | None

    def __str__(self) -> str:
        return f"domain {self.domain} (incarnation {self.incarnation}) by {self.actor}"


class IdentityWitness:
    """Takes the model's notices down, in their order."""

    def __init__(self, history: History) -> None:
        self.uses: list[FreedUse] = []
        self.clean_ups: list[CleanUp] = []
        self._history = history

    def used_after_free(self, domain: str, what: str) -> None:
        """Note a use of freed memory, as it would be in C."""
        use = FreedUse(
            domain=domain, what=what, actor=_actor(), at_ns=monotonic_ns(), site=_caller()
        )
        self.uses.append(use)
        self._history.record("used_after_free", use.actor, use.at_ns, domain=domain, what=what)

    def torn_down(self, domain: str, incarnation: Incarnation | None) -> None:
        """Note a clean-up."""
        run = None if incarnation is None else incarnation.id
        clean_up = CleanUp(
            domain=domain, incarnation=run, actor=_actor(), at_ns=monotonic_ns(), site=_caller()
        )
        self.clean_ups.append(clean_up)
        self._history.record(
            "torn_down", clean_up.actor, clean_up.at_ns, domain=domain, incarnation=run
        )


def _actor() -> str:
    return threading.current_thread().name


def _caller() -> Frame | None:
    stack = current_stack(threading.get_ident())
    return stack[0] if stack else None
