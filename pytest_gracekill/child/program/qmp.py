"""One client's QMP: greeting, negotiation, commands, events; QEMU 7.2's words and format.

`monitor/qmp.c` and `qapi/qmp-dispatch.c`. Each client starts anew: it has to negotiate before it
may give commands, and is told of events from then on.
"""

from .commands import VERSION, known, perform
from .qmp_json import Malformed, Reader, encode
from .record import LONGEST
from .runstate import Fault, Later

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .line import Line
    from .qmp_json import Json
    from .runstate import Vm

NEGOTIATE = "Expecting capabilities negotiation with 'qmp_capabilities'"
NEGOTIATED = "Capabilities negotiation is already complete, command ignored"


class Session:
    """The monitor at one character device, and what its present client has said so far."""

    def __init__(self, line: "Line", vm: "Vm") -> None:
        self._line = line
        self._vm = vm
        self._indent = "" if line.chardev.pretty else None
        self._reader = Reader()
        self._heard = b""  # the first bytes of what the reader has not finished with
        self._negotiated = self._out_of_band = False
        line.frontend = self

    # -- what the character device says

    def opened(self) -> None:
        self._reader = Reader()
        self._say({"QMP": {"version": VERSION, "capabilities": ["oob"]}})

    def heard(self, data: bytes) -> None:
        self._heard = ((b"" if self._reader.idle else self._heard) + data)[: LONGEST + 1]
        self._reader.feed(data)

    def closed(self) -> None:
        self._negotiated = self._out_of_band = False

    # -- what the VM has to say

    def tell(self, event: "dict[str, Json]") -> None:
        """Send an event, to a client that has negotiated."""
        if self._negotiated:
            self._say(event)

    def turn(self) -> "Later | None":
        """Answer what is there to be answered, up to a command that the VM has to do itself."""
        for message in self._reader:
            later = self._answer(message)
            if later is not None:
                return later
        return None

    def _say(self, message: "Json") -> None:
        self._line.send(encode(message, self._indent).encode("ascii") + b"\r\n")

    def _answer(self, message: "Json | Malformed") -> "Later | None":
        named: dict[str, Json] = {}
        try:
            done = self._execute(_object(message, named))
        except Fault as fault:
            if isinstance(message, Malformed):
                said = self._heard.decode(errors="backslashreplace")
            else:
                said = encode(message)
            self._vm.rejected(said, str(fault), fault.kind)
            self._say(named | {"error": {"class": fault.kind, "desc": str(fault)}})
            return None
        if isinstance(done, Later):
            self._promise(done, named)
            return done
        self._say({"return": done} | named)
        return None

    def _promise(self, later: "Later", named: "dict[str, Json]") -> None:
        """Answer when the VM has done it; nobody looks at the clients until then."""

        def answer(fault: str) -> None:
            if fault:
                self._say(named | {"error": {"class": "GenericError", "desc": fault}})
            else:
                self._say({"return": later.value} | named)

        if later.answered:
            answer("")
        else:
            later.answer = answer

    def _execute(self, message: "dict[str, Json]") -> "Json | Later":
        name, out_of_band = self._checked(message)
        if name == "qmp_capabilities" and not self._negotiated:
            return self._negotiate(message)
        if not self._negotiated:
            raise Fault(NEGOTIATE, "CommandNotFound")
        if name == "qmp_capabilities":
            raise Fault(NEGOTIATED, "CommandNotFound")
        arguments = message.get("arguments", {})
        assert isinstance(arguments, dict)
        if out_of_band and known(name):
            raise Fault(f"The command {name} does not support OOB")
        return perform(self._vm, name, arguments)

    def _checked(self, message: "dict[str, Json]") -> tuple[str, bool]:
        """`qmp_dispatch_check_obj()`: the command's name, and whether it came out of band."""
        found: tuple[str, bool] | None = None
        kinds = ("execute", "exec-oob") if self._out_of_band else ("execute",)
        for member, value in message.items():
            if member in kinds and found is None:
                if not isinstance(value, str):
                    raise Fault(f"QMP input member '{member}' must be a string")
                found = value, member == "exec-oob"
            elif member == "arguments":
                if not isinstance(value, dict):
                    raise Fault("QMP input member 'arguments' must be an object")
            elif member != "id":
                raise Fault(f"QMP input member '{member}' is unexpected")
        if found is None:
            raise Fault("QMP input lacks member 'execute'")
        return found

    def _negotiate(self, message: "dict[str, Json]") -> "Json":
        arguments = message.get("arguments", {})
        assert isinstance(arguments, dict)
        enable = arguments.get("enable", [])
        if not isinstance(enable, list):
            raise Fault("Invalid parameter type for 'enable', expected: array")
        for name in arguments:
            if name != "enable":
                raise Fault(f"Parameter '{name}' is unexpected")
        for capability in enable:
            if capability != "oob":
                raise Fault(f"Parameter 'null' does not accept value '{capability}'")
        self._out_of_band = "oob" in enable
        self._negotiated = True
        return {}


def _object(message: "Json | Malformed", named: "dict[str, Json]") -> "dict[str, Json]":
    """Return the message if it is an object; its `id` goes to `named`, for whatever answer."""
    if isinstance(message, Malformed):
        raise Fault(str(message))
    if not isinstance(message, dict):
        raise Fault("QMP input must be a JSON object")
    if "id" in message:
        named["id"] = message["id"]
    return message
