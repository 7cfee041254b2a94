"""What a kill reports: dead or not, by which signal, after how long, or the errno."""

from __future__ import annotations

import errno as errnos
import signal as signals
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KillResult:
    """The truth about one incarnation, as far as the call waited for it.

    :param ok: the call reached what it was asked for.
    :param dead: whether the process has ended; ``None`` when the call did not wait for it.
    :param signal: the signal that ended it: the last one that was sent while it still lived, by
        this call or by an earlier one; ``None`` when nothing was sent, or while it is not dead.
    :param elapsed: seconds from the call to the return.
    :param errno: why a signal could not be sent.
    :param sent: every signal that this incarnation had been sent by the time of the return, by this
        call, an earlier or a concurrent one.
    """

    ok: bool
    dead: bool | None = None
    signal: int | None = None
    elapsed: float = 0.0
    errno: int | None = None
    sent: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"KillResult({self._story()})"

    def _story(self) -> str:
        sent = ", ".join(dict.fromkeys(_name(number) for number in self.sent))
        if self.errno is not None:
            after = f" after {sent}" if sent else ""
            return f"failed: {errnos.errorcode.get(self.errno, f'errno {self.errno}')}{after}"
        if self.dead:
            if self.signal is None:
                return "was not running"
            return f"dead, by {_name(self.signal)}, {self.elapsed:.3f} s"
        if self.dead is None:
            state = f"{sent} sent, not waited" if sent else "not waited"
            return state if self.ok else f"failed: {state}"
        after = f" after {sent}" if sent else ""
        return f"alive{after}, {self.elapsed:.3f} s"


def _name(number: int) -> str:
    try:
        return signals.Signals(number).name
    except ValueError:
        return f"signal {number}"
