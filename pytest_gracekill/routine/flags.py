"""What a kill may do: libvirt's two flags."""

from __future__ import annotations

from enum import IntFlag

from pytest_gracekill.errors import UsageError


class KillFlags(IntFlag):
    """``VIR_QEMU_PROCESS_KILL_FORCE`` and ``..._NOWAIT``; 0 is the graceful kill.

    ``FORCE`` allows SIGKILL after the grace. ``NOWAIT`` sends one signal and returns: SIGTERM, and
    with ``FORCE`` SIGKILL.
    """

    FORCE = 1
    NOWAIT = 2

    def __str__(self) -> str:
        return "|".join(flag.name or "" for flag in KillFlags if flag in self) or "0"


def parse_flags(flags: object) -> KillFlags:
    """Check flags as they were handed in; a bit that nobody knows is a usage error."""
    known = KillFlags.FORCE | KillFlags.NOWAIT
    if isinstance(flags, bool) or not isinstance(flags, int) or not 0 <= flags <= known:
        raise UsageError(
            f"flags={flags!r} cannot be used: it has to be 0, KillFlags.FORCE, KillFlags.NOWAIT "
            "or KillFlags.FORCE | KillFlags.NOWAIT"
        )
    return KillFlags(flags)
