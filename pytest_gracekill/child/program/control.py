"""The monitors of one fake: who waits for their clients and for signals at once.

One thread, as the machine's: a signalfd becomes readable when a signal is pending, and the signal
itself is taken by `sigwaitinfo`, so that its sender is known. While the VM flushes nobody looks at
the monitors, as in QEMU: clients connect and write, and nothing is answered.
"""

import select
from sys import byteorder, setrecursionlimit

from .clock import monotonic
from .command_line import Options
from .line import Line
from .qmp import Session
from .qmp_json import FRAMES
from .record import STOP
from .runstate import Later, Vm

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Iterable

    from .chardev import Chardev
    from .machine import Machine
    from .qmp_json import Json
else:
    import _signal  # noqa: TC003  # for isinstance

SIGSET = 128  # bytes of libc's sigset_t
HOST_SIGNAL = "host-signal"


class Control:
    """All character devices of a VM, and a `Session` at each that is a QMP monitor."""

    def __init__(self, machine: "Machine", options: Options | None, path: str) -> None:
        setrecursionlimit(FRAMES)
        options = options or Options()
        self._machine = machine
        chardevs = list(options.chardevs.values())
        if path:
            chardevs.append(_listening("qmp", path))
        self._lines = [Line(chardev) for chardev in chardevs]
        self._vm = Vm(machine, options, self._lines, self._tell)
        self._sessions = [
            Session(line, self._vm) for line in self._lines if line.chardev.speaks_qmp
        ]
        self._signals = -1
        self._last: Later | None = None

    def open(self, say: "Callable[[str], None]") -> None:
        """Open everything; with `wait=on`, wait for the client.

        :raises Unusable: something cannot be opened.
        """
        for line in self._lines:
            line.open(say)

    def watch(self, signals: "Iterable[int]") -> None:
        """From now on a wait in `take` ends with one of these signals; they have to be blocked."""
        import ctypes  # noqa: PLC0415  # milliseconds that only a VM with monitors should pay

        bits = sum(1 << (signal - 1) for signal in signals)
        mask = bits.to_bytes(8, byteorder) + bytes(SIGSET - 8)
        self._signals = ctypes.CDLL(None, use_errno=True).signalfd(-1, mask, 0)
        if self._signals < 0:
            raise OSError(ctypes.get_errno(), "signalfd")

    def take(self, until: float) -> "_signal.struct_siginfo | Later | None":
        """Serve the clients until a signal comes, or a command that asks the VM to end.

        :return: None when it is `until` (monotonic seconds), or the guest was stopped or went on.
        """
        if self._last is not None:  # a `stop`; the VM has ignored the signal that came meanwhile
            self._last.answer("")
            self._last = None
        running = self._machine.running
        while True:
            signal = self._machine.take_deferred() or self._machine.take(0.0)
            if signal is not None:
                return signal
            for session in self._sessions:
                later = session.turn()
                if later is not None and later.command == STOP:
                    self._last = later
                    return self._machine.take_deferred()
                if later is not None:
                    self._note(later)
                    return later
            left = until - monotonic()
            if left <= 0 or self._machine.running is not running:
                return None
            self._attend(None if left == float("inf") else left * 1000)

    def _attend(self, timeout: float | None) -> None:
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        owners = {}
        for line in self._lines:
            for fd, events in line.interest():
                poll.register(fd, events)
                owners[fd] = line
        for fd, events in poll.poll(timeout):
            if fd in owners:
                owners[fd].attend(fd, events)

    def _note(self, later: Later) -> None:
        stays = self._vm.no_shutdown and later.command != "quit"
        # what the verdicts read as a request to stop is named "qmp"
        self._machine.record.write("halt" if stays else "qmp", command=later.command)

    def _tell(self, event: "dict[str, Json]") -> None:
        for session in self._sessions:
            session.tell(event)

    def stays(self, later: Later) -> bool:
        """Say whether the VM is only halted by this (`-no-shutdown`), which it is then."""
        return self._vm.halt(later)

    def shut_down(self, request: "_signal.struct_siginfo | Later") -> None:
        """Say that the VM ends now, and why."""
        if isinstance(request, Later):
            self._last = request
            self._vm.event("SHUTDOWN", guest=request.guest, reason=request.reason)
        else:
            self._vm.event("SHUTDOWN", guest=False, reason=HOST_SIGNAL)

    def hang_up(self) -> None:
        """Answer what asked for the end, and let all clients read the end of file."""
        if self._last is not None:
            self._last.answer("")
        for line in self._lines:
            line.hang_up()


def _listening(label: str, path: str) -> "Chardev":
    from .chardev import Chardev  # noqa: PLC0415  # loaded already

    asked = {"backend": "socket", "id": label, "path": path, "server": "on", "wait": "off"}
    chardev = Chardev.asked_for(asked, f"-qmp unix:{path},server=on,wait=off")
    chardev.in_use = chardev.speaks_qmp = True
    return chardev
