"""The fake's life: power on, serve the guest, and what it does when it is asked to stop.

One thread. Signals are blocked and taken by `sigwaitinfo`, so that each has its sender's pid and
none interrupts anything; every wait in here is such a wait, with a deadline.
"""

import os
from time import monotonic, sleep

from . import imagelock
from .lifeline import Lifeline, tell
from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn

    from .configuration import Configuration
else:
    import _signal

SIGHUP, SIGINT, SIGTERM = 1, 2, 15
WAKE = 41  # a real-time signal of our own, for threads of the fake that have news for its loop
SIGALRM = 14  # a deadline of our own; QEMU blocks it, too
INTERNAL = (WAKE, SIGALRM)
NAME = "qemu-system-x86_64"
DIRTY_OFFSET = 64  # of blockformat, which is not imported before readiness
WRITE_EVERY = 0.002  # seconds between two writes of a writing guest
GUEST_FLUSH_EVERY = 16  # writes between two flushes by a flushing guest
QUIET = 0.02  # seconds without a signal after which there is time to get ready for the flush


class Restarted(Exception):  # noqa: N818  # control flow, not an error
    """A second signal came and `on_second_term` is "restart"."""


class Machine:
    """The VM: what the guest was told is written, and what is on the disk file."""

    def __init__(self, configuration: "Configuration", lifeline: Lifeline) -> None:
        self.configuration = configuration
        self.record = Record(configuration.journal)
        self.generations = [0] * configuration.blocks
        self.dirty: set[int] = set()
        self.disk = -1
        self._lifeline = lifeline
        self._helpers: list[int] = []
        self._waited: tuple[int, ...] = ()
        self._writes = 0
        self._flushing = False

    # -- start

    def power_on(self) -> None:
        """Do everything that comes before readiness, apart from the handlers."""
        knobs, pid = self.configuration, os.getpid()
        tell(knobs.ready, f"pid {pid}")
        self.record.write(
            "start",
            pid=pid,
            topology=knobs.topology,
            blocks=knobs.blocks,
            block_size=knobs.block_size,
            seed=knobs.seed,
        )
        self.record.write("role", pid=pid, role="vm")
        self.disk = os.open(knobs.disk, os.O_RDWR)
        if knobs.disk_lock and (denied := imagelock.take(self.disk)):
            _say(f'Failed to get "{denied}" lock\nIs another process using the image?')
            self._exit(1)
        os.pwrite(self.disk, b"\1", DIRTY_OFFSET)
        if knobs.helpers:
            from .attendants import attend  # noqa: PLC0415  # not for a start that is timed

            self._helpers = attend(
                knobs.helpers, knobs.helper, self._lifeline, self.record, self.disk
            )
        self.record.write("ack", first=0, last=knobs.blocks - 1, generation=1)
        self.generations = [1] * knobs.blocks
        self.dirty = set(range(knobs.blocks))

    def run(self) -> "NoReturn":
        """Write the pid file, get ready, and serve until something ends it."""
        knobs = self.configuration
        pid_file = os.open(knobs.pid_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(pid_file, b"%d\n" % os.getpid())
        os.close(pid_file)
        self.record.write("pid_file")
        # QEMU has no handlers yet when it has written its pid file: a SIGTERM that comes
        # between the two has its default effect
        if not knobs.ready_after:
            self._handle_signals()
        self.record.write("ready")
        tell(knobs.ready, f"ready {os.getpid()}")
        if knobs.ready_after:
            sleep(knobs.ready_after)
            self._handle_signals()
        while True:
            self._react(self._serve())

    def _handle_signals(self) -> None:
        knobs = self.configuration
        if knobs.on_term == "default":
            waited: tuple[int, ...] = ()
        elif knobs.inherit == "blocked":
            waited = (SIGHUP, SIGINT)  # QEMU unblocks nothing: a SIGTERM stays pending for ever
        else:
            waited = (SIGHUP, SIGINT, SIGTERM)
        _signal.pthread_sigmask(_signal.SIG_BLOCK, (*waited, *INTERNAL))
        if knobs.inherit == "ignored" and SIGTERM in waited:
            _default(SIGTERM)
        self._waited = (*waited, *INTERNAL)
        if waited:
            self.record.write("handlers")

    # -- signals

    def take(self, until: float) -> "_signal.struct_siginfo | None":
        """Return the next signal, or None when it is `until` (monotonic seconds)."""
        taken: _signal.struct_siginfo | None
        while True:
            left = until - monotonic()
            if left <= 0:
                taken = _signal.sigtimedwait(self._waited, 0)
                if taken is None:
                    return None
            else:
                # not sigtimedwait: interrupted by SIGCONT after its time is over, CPython's (up to
                # 3.13 at least) returns whatever was in memory as a signal that came
                if until != float("inf"):
                    _signal.setitimer(_signal.ITIMER_REAL, left)
                taken = _signal.sigwaitinfo(self._waited)
            if taken.si_signo not in INTERNAL:
                self.record.write("signal", signal=taken.si_signo, pid=taken.si_pid)
                return taken

    def rest(self, until: float) -> None:
        """Wait; a second signal is journalled when it comes, and does what the knob says."""
        while self.take(until) is not None:
            if self.configuration.on_second_term == "abort":
                self._exit(1)
            if self.configuration.on_second_term == "restart" and self._flushing:
                raise Restarted

    def _serve(self) -> "_signal.struct_siginfo":
        """Be the guest until a signal comes, and return it."""
        if self.configuration.guest == "idle":
            early = self.take(monotonic() + QUIET)
            if early is not None:
                return early
            from . import flushing  # noqa: F401, PLC0415  # now there is time to load it
        due = monotonic()
        while True:
            busy = self.configuration.guest != "idle"
            due = max(due + WRITE_EVERY, monotonic()) if busy else float("inf")
            taken = self.take(due)
            if taken is not None:
                return taken
            self._write_as_guest()

    def _write_as_guest(self) -> None:
        block = self._writes % self.configuration.blocks
        generation = self.generations[block] + 1
        self.record.write("ack", first=block, last=block, generation=generation)
        self.generations[block] = generation
        self.dirty.add(block)
        self._writes += 1
        if self.configuration.guest == "flushing" and self._writes % GUEST_FLUSH_EVERY == 0:
            from .flushing import flush_for_guest  # noqa: PLC0415  # as above

            flush_for_guest(self)

    def _react(self, signal: "_signal.struct_siginfo") -> None:
        on_term = self.configuration.on_term
        if on_term == "ignore":
            return
        if on_term == "refuse":
            _say(f"refusing to terminate on signal {signal.si_signo}: the guest is busy")
            return
        _say(_report(signal.si_signo, signal.si_pid))
        if on_term != "exit":
            self._flush()
            self.rest(monotonic() + self.configuration.linger)
        self._leave()

    # -- end

    def _flush(self) -> None:
        from .flushing import flush  # noqa: PLC0415  # the signal was noted first

        self._flushing = True
        while True:
            try:
                flush(self)
            except Restarted:
                continue
            break
        self._flushing = False
        self.record.write("flush_end")
        os.pwrite(self.disk, b"\0", DIRTY_OFFSET)
        # the lock belongs to the open file: it goes with the last descriptor, so a helper that
        # has a copy keeps the image locked
        os.close(self.disk)
        if self.configuration.disk_lock:
            self.record.write("unlock")

    def crash(self) -> "NoReturn":
        """End in the way that `Crash` asks for, with everything unflushed lost."""
        knobs = self.configuration
        if not knobs.crash_signal:
            self.record.write("crash", exit=knobs.crash_exit)
            self._exit(knobs.crash_exit)
        import resource  # noqa: PLC0415  # needed once, here

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file is of use to nobody
        self.record.write("crash", signal=knobs.crash_signal)
        _default(knobs.crash_signal)  # Python ignores SIGPIPE, for one
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (knobs.crash_signal,))
        os.kill(os.getpid(), knobs.crash_signal)
        os._exit(os.EX_SOFTWARE)  # a signal that did not end us

    def stop(self) -> None:
        """Stop like a frozen VM; somebody else has to send SIGCONT."""
        self.record.write("stop")
        os.kill(os.getpid(), _signal.SIGSTOP)

    def _leave(self) -> "NoReturn":
        if self._helpers:
            from .attendants import dismiss  # noqa: PLC0415  # loaded already

            dismiss(self._helpers, self.configuration.helper)
        self._exit(self.configuration.exit_status)

    def _exit(self, code: int) -> "NoReturn":
        try:  # noqa: SIM105  # contextlib and pathlib cost milliseconds at start
            # as QEMU does whenever it exits by itself; SIGKILL leaves the file
            os.unlink(self.configuration.pid_file)  # noqa: PTH108  # as above
        except FileNotFoundError:
            pass  # it exits before it has written one, or a manager has taken it away
        self.record.write("exit", code=code)
        os._exit(code)


def _default(signal: int) -> None:
    try:
        _signal.signal(signal, _signal.SIG_DFL)
    except OSError:
        pass  # SIGKILL: nothing to reset there
    except ValueError:
        # without a main thread (leaderless) Python leaves dispositions alone
        import ctypes  # noqa: PLC0415  # loaded already, there

        ctypes.CDLL(None).signal(signal, 0)


def _say(text: str) -> None:
    try:  # noqa: SIM105  # contextlib is start-up time
        os.write(2, f"{NAME}: {text}\n".encode(errors="surrogateescape"))
    except OSError:
        pass  # QEMU does not die either when nobody reads its complaints


def _report(signal: int, pid: int) -> str:
    """What `qemu_kill_report()` prints."""
    if not pid:
        return f"terminating on signal {signal}"
    try:
        fd = os.open(f"/proc/{pid}/cmdline", os.O_RDONLY)
    except OSError:
        command = "<unknown process>"
    else:
        command = os.fsdecode(os.read(fd, 4096).partition(b"\0")[0])
        os.close(fd)
    return f"terminating on signal {signal} from pid {pid} ({command})"
