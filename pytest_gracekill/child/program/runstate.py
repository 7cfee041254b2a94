"""What QMP's commands do to the fake: its run state, its events, and what asks it to stop.

`stop` and `cont` hold the guest and let it go on; a held guest writes nothing. `quit` ends the VM
as a signal does. `system_powerdown` presses the power button, and the guest heeds it at once: it
powers off, whereupon the VM flushes and exits, or with `-no-shutdown` stays, halted, until a signal
or `quit` ends it. A held guest heeds the button when it goes on. `system_reset` resets the guest,
which loses nothing that it was told is written; with `-no-reboot` it ends the VM.

`stop`, and a power-off that the VM survives, flush before they are answered, as `do_vm_stop()` does
in QEMU's `softmmu/cpus.c`. A signal that comes meanwhile is taken up afterwards: its SHUTDOWN event
then precedes the answer to `stop`, which comes with the end of file.

`on_term` says what the fake does with any of these requests. What the guest did not flush itself
is flushed by the VM's end, whoever asked for it: that a real guest flushes before it powers off is
not modelled, so that every way to stop a VM is a test of the wait behind it.
"""

from time import time_ns

from .record import POWEROFF, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .command_line import Options
    from .line import Line
    from .machine import Machine
    from .qmp_json import Json


class Fault(Exception):  # noqa: N818  # an answer, not an error of ours
    """What a command is answered instead of a result."""

    def __init__(self, text: str, kind: str = "GenericError") -> None:
        super().__init__(text)
        self.kind = kind


class Later:
    """A command that asks the VM to end: `reason` as in QEMU's event; or a `stop` during which a
    signal asked for it.

    It is answered when the VM has done it, unless it has been `answered` by being heard.
    """

    def __init__(self, command: str, reason: str, *, guest: bool = False) -> None:
        self.command, self.reason, self.guest = command, reason, guest
        self.answered = guest
        self.value: Json = {}
        self.answer: Callable[[str], None] = _nobody


def _nobody(_fault: str) -> None:
    """Nobody waits for the answer: the guest heeded the button later, or the client has gone."""


class Vm:
    """The VM as its monitors see it; `broadcast` sends an event to all of them."""

    def __init__(
        self,
        machine: "Machine",
        options: "Options",
        lines: "list[Line]",
        broadcast: "Callable[[dict[str, Json]], None]",
    ) -> None:
        self.machine = machine
        self.name, self.uuid = options.name, options.uuid
        self.no_reboot, self.no_shutdown = options.no_reboot, options.no_shutdown
        self.lines = lines
        self.status = "running" if machine.running else "prelaunch"
        self.button_pressed = False
        self.migration: set[str] = set()  # what has been switched on for it
        self._broadcast = broadcast

    def event(self, name: str, **data: "Json") -> None:
        """Tell of an event, with the host's wall clock as QEMU does."""
        microseconds = time_ns() // 1000
        seconds, rest = divmod(microseconds, 1_000_000)
        event: dict[str, Json] = {
            "timestamp": {"seconds": seconds, "microseconds": rest},
            "event": name,
        }
        if data:
            event["data"] = data
        self._broadcast(event)

    def rejected(self, said: str, error: str, error_class: str) -> None:
        """Journal what a client has said that the monitor answers with an error."""
        self.machine.record.write(
            "qmp_error", said=printable(said), error=printable(error), error_class=error_class
        )

    def be(self, status: str) -> None:
        """Change the run state; the guest of a VM that does not run does nothing."""
        self.status = status
        self.machine.running = status == "running"

    def press_button(self) -> None:
        """Press the power button; only a running guest sees it at once."""
        heard = self.status == "running"
        self.machine.record.write("powerdown", heard=heard, status=self.status)
        self.button_pressed = self.status != "shutdown"

    def heed(self) -> Later | None:
        """Let a running guest see the power button."""
        if not self.button_pressed or self.status != "running":
            return None
        self.button_pressed = False
        return Later("system_powerdown", "guest-shutdown", guest=True)

    def halt(self, later: Later) -> bool:
        """Say whether this request leaves a halted VM behind, and be that."""
        if not self.no_shutdown or later.command == "quit":
            return False
        self.event("SHUTDOWN", guest=later.guest, reason=later.reason)
        if self.status == "running":
            self.event("STOP")
        self.be("shutdown")
        self.machine.flush(POWEROFF)
        later.answer("")
        return True
