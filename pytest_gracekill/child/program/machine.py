"""The fake's life: power on, serve the guest, and what it does when it is asked to stop.

One thread. Signals are blocked and taken by `sigwaitinfo`, so that each has its sender's pid and
none interrupts anything; every wait in here is such a wait, with a deadline.
"""

import os
from time import sleep

from . import imagelock
from .clock import monotonic
from .lifeline import Lifeline, tell
from .record import EXIT, POWEROFF, STOP, Record
from .stderr import say, termination

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn

    from .command_line import Options
    from .configuration import Configuration
    from .control import Control
    from .runstate import Later
else:
    import _signal

SIGHUP, SIGINT, SIGTERM = 1, 2, 15
WAKE = 41  # a real-time signal of our own, for threads of the fake that have news for its loop
SIGALRM = 14  # a deadline of our own; QEMU blocks it, too
INTERNAL = (WAKE, SIGALRM)
DIRTY_OFFSET = 64  # of blockformat, which is not imported before readiness
WRITE_EVERY = 0.002  # seconds between two writes of a writing guest
BUSY = "the guest is busy"
QUIET = 0.02  # seconds without a signal after which there is time to get ready for the flush


class Restarted(Exception):  # noqa: N818  # control flow, not an error
    """A second signal came and `on_second_term` is "restart"."""


class Machine:
    """The VM: what the guest was told is written, and what is on the disk file."""

    def __init__(
        self,
        configuration: "Configuration",
        lifeline: Lifeline,
        options: "Options | None" = None,
        detached: int = -1,
    ) -> None:
        self.configuration = configuration
        self.record = Record(configuration.journal)
        self.generations = [0] * configuration.blocks
        self.dirty: set[int] = set()
        self.disk = -1
        self.running = options is None or not options.paused
        self._options = options
        self._detached = detached
        self._pid_files: list[str] = []
        self._control: Control | None = None
        self._lifeline = lifeline
        self._helpers: list[int] = []
        self._waited: tuple[int, ...] = ()
        self.writes = 0
        self._flushing = ""  # why: one of the reasons of `flushing`
        #: The signal that came while a VM that stays was flushed, until it is taken up.
        self.deferred: _signal.struct_siginfo | None = None

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
        if knobs.survives_kill:
            from .tracer import trace  # noqa: PLC0415  # needs ctypes

            if refused := trace(knobs.survives_kill, self._lifeline, self.record):
                say(f"cannot be traced: errno {refused}")
                self.exit(1)
        self.disk = os.open(knobs.disk, os.O_RDWR)
        if knobs.disk_lock and (denied := imagelock.take(self.disk)):
            say(
                f'Failed to get "{denied}" lock\nIs another process using the image [{knobs.disk}]?'
            )
            self.exit(1)
        os.pwrite(self.disk, b"\1", DIRTY_OFFSET)
        if knobs.helpers:
            from .attendants import attend  # noqa: PLC0415  # not for a start that is timed

            self._helpers = attend(
                knobs.helpers,
                knobs.helper,
                self._lifeline,
                self.record,
                self.disk,
                passed=self._passed(),
            )
        self.record.write("ack", first=0, last=knobs.blocks - 1, generation=1)
        self.generations = [1] * knobs.blocks
        self.dirty = set(range(knobs.blocks))

    def run(self) -> "NoReturn":
        """Write the pid file, get ready, and serve until something ends it."""
        knobs = self.configuration
        pid_file = os.open(knobs.pid_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        self._pid_files.append(knobs.pid_file)
        os.write(pid_file, b"%d\n" % os.getpid())
        os.close(pid_file)
        self.record.write("pid_file")
        if knobs.qmp or self._options is not None:
            self._equip()
        # QEMU has no handlers yet when it has written its pid file: a SIGTERM that comes
        # between the two has its default effect
        if not knobs.ready_after:
            self._handle_signals()
        self.record.write("ready")
        tell(knobs.ready, f"ready {os.getpid()}")
        if knobs.ready_after:
            sleep(knobs.ready_after)
            self._handle_signals()
        if self._detached >= 0:
            from .detach import settle_in  # noqa: PLC0415  # loaded already

            settle_in(self._detached)
        while True:
            self._react(self._serve())

    def _passed(self) -> list[int]:
        """Descriptors that are for this process alone."""
        passed = [] if self._options is None else self._options.passed
        return passed if self._detached < 0 else [*passed, self._detached]

    def _equip(self) -> None:
        """Get what QEMU's command line asks for, and the monitor of the knob `qmp`."""
        from .chardev import Unusable  # noqa: PLC0415  # not for a start that is timed
        from .control import Control  # noqa: PLC0415  # as above
        from .pidfile import claim  # noqa: PLC0415  # as above

        options = self._options
        try:
            if options is not None and options.pid_file:
                self._pid_files.append(claim(options.pid_file))
            if self.configuration.qmp or (options is not None and options.chardevs):
                self._control = Control(self, options, self.configuration.qmp)
                self._control.open(say)
        except Unusable as refused:
            say(str(refused))
            self._leave(1)

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
            from .dying import default_action  # noqa: PLC0415  # for the few that inherit it

            default_action(SIGTERM)
        self._waited = (*waited, *INTERNAL)
        if self._control is not None:
            self._control.watch(self._waited)
        if waited:
            self.record.write("handlers", signals=waited)

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
        while (taken := self.take(until)) is not None:
            if self._flushing in (STOP, POWEROFF):
                first = self.deferred is None
                self.deferred = taken  # QEMU's handler notes the last one
                if first:
                    continue
            if self.configuration.on_second_term == "abort":
                self.exit(1)
            if self.configuration.on_second_term == "restart" and self._flushing == EXIT:
                raise Restarted

    def take_deferred(self) -> "_signal.struct_siginfo | None":
        signal, self.deferred = self.deferred, None
        return signal

    def _serve(self) -> "_signal.struct_siginfo | Later":
        """Be the guest until something asks the VM to end, and return that."""
        take = self.take if self._control is None else self._control.take
        if self.configuration.guest == "idle":
            early = take(monotonic() + QUIET)
            if early is not None:
                return early
            from . import flushing  # noqa: F401, PLC0415  # now there is time to load it
        due = monotonic()
        while True:
            until = float("inf")
            if self.configuration.guest != "idle" and self.running:
                due = until = max(due + WRITE_EVERY, monotonic())
            taken = take(until)
            if taken is not None:
                return taken
            # a monitor may have stopped the guest meanwhile, or let it go on
            if self.running and monotonic() >= until:
                from .guest import write  # noqa: PLC0415  # for a guest that writes

                write(self)

    def _react(self, request: "_signal.struct_siginfo | Later") -> None:
        on_term = self.configuration.on_term
        if on_term == "ignore":
            return
        if on_term == "refuse":
            _refuse(request)
            return
        if isinstance(request, _signal.struct_siginfo):
            say(termination(request.si_signo, request.si_pid))
        elif self._control is not None and self._control.stays(request):
            return
        if self._control is not None:
            self._control.shut_down(request)
        if on_term != "exit":
            self.flush(EXIT)
            self._close_disk()
        if self._control is not None:
            self._control.hang_up()
        if on_term != "exit":
            self.rest(monotonic() + self.configuration.linger)
        self._leave(self.configuration.exit_status)

    # -- end

    def flush(self, reason: str) -> None:
        """Write what is dirty; a signal that comes meanwhile is taken up when that is done.

        :param reason: EXIT, or why a VM flushes that stays: STOP, POWEROFF.
        """
        from .flushing import flush  # noqa: PLC0415  # the signal was noted first

        self._flushing = reason
        while True:
            try:
                flush(self, reason)
            except Restarted:
                continue
            break
        self._flushing = ""
        self.dirty.clear()
        self.record.write("flush_end", reason=reason)

    def _close_disk(self) -> None:
        os.pwrite(self.disk, b"\0", DIRTY_OFFSET)
        # the lock belongs to the open file: it goes with the last descriptor, so a helper that
        # has a copy keeps the image locked
        os.close(self.disk)
        if self.configuration.disk_lock:
            self.record.write("unlock")

    def freeze(self) -> None:
        """Stop like a frozen VM; somebody else has to send SIGCONT."""
        self.record.write("stop")
        os.kill(os.getpid(), _signal.SIGSTOP)

    def _leave(self, code: int) -> "NoReturn":
        if self._helpers:
            from .attendants import dismiss  # noqa: PLC0415  # loaded already

            dismiss(self._helpers, self.configuration.helper)
        self.exit(code)

    def exit(self, code: int) -> "NoReturn":
        """End here and now, with the last line of the journal."""
        for path in self._pid_files:
            try:  # noqa: SIM105  # contextlib and pathlib cost milliseconds at start
                # as QEMU does whenever it exits by itself; SIGKILL leaves the file
                os.unlink(path)  # noqa: PTH108  # as above
            except FileNotFoundError:
                pass  # a manager has taken it away
        self.record.write("exit", code=code)
        os._exit(code)


def _refuse(request: "_signal.struct_siginfo | Later") -> None:
    if isinstance(request, _signal.struct_siginfo):
        say(f"refusing to terminate on signal {request.si_signo}: {BUSY}")
    else:
        say(f"refusing to terminate on {request.command}: {BUSY}")
        request.answer(BUSY)
