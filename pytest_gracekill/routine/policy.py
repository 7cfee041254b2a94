"""How a kill waits: the choices that the seed's patches left open, and history as constants."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

from pytest_gracekill.errors import UsageError

Wait = Literal["pidfd", "poll", "seed"]
Drop = Literal["none", "driver", "both"]

WAITS: tuple[Wait, ...] = ("pidfd", "poll", "seed")
DROPS: tuple[Drop, ...] = ("none", "driver", "both")


@dataclass(frozen=True, slots=True, kw_only=True)
class KillPolicy:
    """Seconds and manners of a kill that waits.

    :param grace: from SIGTERM to SIGKILL; without ``FORCE`` the SIGKILL never comes.
    :param reap: what is waited after that.
    :param poll: the pause between two looks, for ``wait="poll"`` and ``wait="seed"``.
    :param wait: ``"pidfd"`` sleeps until the exit; ``"poll"`` looks at intervals, against
        deadlines, sees zombies and takes a last look; ``"seed"`` is libvirt's loop of 2012 to the
        letter: counted steps, ``kill(pid, 0)``, so that a zombie counts as alive, and no look after
        the last sleep.
    :param drop: the locks that are let go during the wait.
    """

    grace: float = 10.0
    reap: float = 5.0
    poll: float = 0.2
    wait: Wait = "pidfd"
    drop: Drop = "both"

    def __post_init__(self) -> None:
        _check_seconds("grace", self.grace, positive=False)
        _check_seconds("reap", self.reap, positive=False)
        _check_seconds("poll", self.poll, positive=True)
        _check_word("wait", self.wait, WAITS)
        _check_word("drop", self.drop, DROPS)
        if self.wait != "pidfd" and self.grace < self.poll:
            raise UsageError(
                f"KillPolicy(grace={self.grace!r}) is shorter than poll={self.poll!r}: with "
                f'wait="{self.wait}" the first look comes after one poll, so that grace has to be '
                f'{self.poll!r} or more; or choose a shorter poll, or wait="pidfd"'
            )

    def __str__(self) -> str:
        changed = (
            f"{field.name}={value!r}"
            for field in dataclasses.fields(self)
            if (value := getattr(self, field.name)) != field.default
        )
        return f"KillPolicy({', '.join(changed)})"


def _check_seconds(name: str, value: object, *, positive: bool) -> None:
    right = "more than 0" if positive else "0 or more"
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or value < 0
        or (positive and value == 0)
    ):
        raise UsageError(
            f"KillPolicy({name}={value!r}) cannot be used: {name} has to be a finite number of "
            f"seconds, {right}"
        )


def _check_word(name: str, value: object, words: tuple[str, ...]) -> None:
    if value not in words:
        right = ", ".join(f'"{word}"' for word in words)
        raise UsageError(f"KillPolicy({name}={value!r}) cannot be used: {name} is one of {right}")


#: The policy of a call that names none.
DEFAULT_POLICY = KillPolicy()

#: Before the seed: 15 steps of 200 ms, SIGKILL at the 8th, every lock held. Loses data and stalls
#: everybody.
LIBVIRT_0_9_10 = KillPolicy(grace=1.6, reap=1.4, wait="seed", drop="none")

#: The seed, exactly: 75 steps, SIGKILL at the 50th, the driver lock let go. Keeps the data; others
#: go on, until one of them looks up the same domain.
LIBVIRT_0_9_11 = KillPolicy(grace=10.0, reap=5.0, wait="seed", drop="driver")
