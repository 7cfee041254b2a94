"""Ends that are not clean: what `Crash` asks for, and the default action of a signal."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn

    from .machine import Machine
else:
    import _signal


def crash(machine: "Machine") -> "NoReturn":
    """End in the way that `Crash` asks for, with everything unflushed lost."""
    knobs, record = machine.configuration, machine.record
    if not knobs.crash_signal:
        record.write("crash", exit=knobs.crash_exit)
        machine.exit(knobs.crash_exit)
    import resource  # noqa: PLC0415  # needed once, here

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file is of use to nobody
    record.write("crash", signal=knobs.crash_signal)
    default_action(knobs.crash_signal)  # Python ignores SIGPIPE, for one
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (knobs.crash_signal,))
    os.kill(os.getpid(), knobs.crash_signal)
    os._exit(os.EX_SOFTWARE)  # a signal that did not end us


def default_action(signal: int) -> None:
    """Let a signal have its default effect."""
    try:
        _signal.signal(signal, _signal.SIG_DFL)
    except OSError:
        pass  # SIGKILL: nothing to reset there
    except ValueError:
        # without a main thread (leaderless) Python leaves dispositions alone
        import ctypes  # noqa: PLC0415  # loaded already, there

        ctypes.CDLL(None).signal(signal, 0)
