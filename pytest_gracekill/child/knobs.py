"""What a fake is asked to be: every knob with its default, checked before anything starts."""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

from pytest_gracekill.errors import UsageError

from .behaviour import Crash, Stall, Stop
from .limits import contradiction, fault, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MEANINGS", "Crash", "Knobs", "Stall", "Stop", "Trait"]

Trait = Literal["session", "ignores_term", "holds_stdout", "holds_lock"]
_CALL = "the call"


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """All knobs of one fake; the defaults behave like QEMU 7.2. `MEANINGS` says what each is."""

    flush_time: float = 1.0
    blocks: int = 64
    block_size: int = 4096
    flush_profile: Literal["constant", "slowing", "never"] | Stall = "constant"
    guest: Literal["idle", "writing", "flushing"] = "idle"
    torn: bool = False
    on_term: Literal["flush", "ignore", "default", "exit", "refuse"] | Crash | Stop = "flush"
    on_second_term: Literal["ignore", "abort", "restart"] = "ignore"
    exit_status: int = 0
    linger: float = 0.0
    ready_after: float = 0.0
    inherit: Literal["none", "blocked", "ignored"] = "none"
    topology: Literal["child", "reaped", "zombie", "daemon", "wrapped", "leaderless"] = "child"
    reaper_delay: float = 1.5
    reuse_pid: bool = False
    survives_kill: float = 0.0
    helpers: int = 0
    helper: frozenset[Trait] = frozenset()
    disk_lock: bool = True
    qmp: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        check(values, {})
        # a list of traits is as good as a set; the record itself is always of one kind
        object.__setattr__(self, "helper", frozenset(self.helper))
        for name in (
            "flush_time",
            "linger",
            "ready_after",
            "reaper_delay",
            "survives_kill",
        ):
            object.__setattr__(self, name, float(getattr(self, name)))

    @classmethod
    def from_values(
        cls, values: Mapping[str, object], sources: Mapping[str, str] = MappingProxyType({})
    ) -> Self:
        """Check `values` and build the knobs from them; `sources` says where each came from."""
        check(values, sources)
        checked: dict[str, Any] = dict(values)
        return cls(**checked)

    @property
    def ends_by_itself(self) -> bool:
        """Whether the fake, left alone after SIGTERM, flushes everything and exits."""
        sigterm_is_seen = self.inherit == "none" or (
            self.inherit == "ignored" and not self.ready_after
        )
        return self.on_term == "flush" and self.flush_profile != "never" and sigterm_is_seen

    @property
    def flush_total(self) -> float:
        """Seconds from the stop request to the end of the flush; infinite when it never ends."""
        if self.flush_profile == "never":
            return math.inf
        pause = self.flush_profile.seconds if isinstance(self.flush_profile, Stall) else 0.0
        return self.flush_time + pause

    def __str__(self) -> str:
        """Only what is not the default."""
        changed = [
            f"{field.name}={_shown(getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return f"Knobs({', '.join(changed)})"


def check(values: Mapping[str, object], sources: Mapping[str, str]) -> None:
    """Raise a `UsageError` for the first knob that is unknown, wrong, or contradicts another."""
    defaults = {field.name: field.default for field in dataclasses.fields(Knobs)}
    for name, value in values.items():
        source = sources.get(name, _CALL)
        if name not in defaults:
            close = difflib.get_close_matches(name, defaults, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(defaults)}"
            raise UsageError(f"unknown knob {name}: {hint}", source=source)
        if (right := fault(name, value)) is not None:
            raise UsageError(f"{name}={_shown(value)}: it has to be {right}", source=source)
    found = contradiction({**defaults, **values})
    if found is not None:
        names, why = found
        given = [name for name in names if name in values]
        pair = " with ".join(f"{name}={_shown(values.get(name, defaults[name]))}" for name in names)
        origins = dict.fromkeys(sources.get(name, _CALL) for name in given)
        raise UsageError(f"{pair}: {why}", source=", ".join(origins) or _CALL)


def _shown(value: object) -> str:
    if isinstance(value, set | frozenset):
        return "{" + quoted(sorted(map(str, value))) + "}"
    if isinstance(value, Crash | Stall | Stop):
        return str(value)
    try:
        text = repr(value)
    except ValueError:  # Python prints no int of thousands of digits
        text = f"<{type(value).__name__} of thousands of digits>"
    longest = 80
    return text if len(text) <= longest else text[: longest - 3] + "..."


MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "flush_time": "seconds from the stop request to the last block on disk",
        "blocks": "number of blocks that the guest has written, 1 to 65536",
        "block_size": "bytes, a multiple of 512 up to 1 MiB",
        "flush_profile": (
            "pace of the flush: constant, slowing, never (no block is ever written), or "
            "Stall(at, seconds), a pause before one block"
        ),
        "guest": (
            "idle (all blocks acknowledged before readiness), writing (goes on writing until "
            "the first signal), flushing (and flushes after every 16 writes)"
        ),
        "torn": "write each block in two halves with a pause between them",
        "on_term": (
            "at SIGTERM, SIGINT or SIGHUP: flush, ignore, default (dies at once), exit (without "
            "flushing), refuse (says no on stderr and stays), Crash(at, exit or signal), or "
            "Stop(at), which sends SIGSTOP to itself"
        ),
        "on_second_term": (
            "at a second signal during the flush: ignore, abort (exit 1, the rest is lost), "
            "restart (the flush begins again)"
        ),
        "exit_status": "status of a clean exit, 0 to 255",
        "linger": "seconds between the end of the flush and the exit",
        "ready_after": "seconds from the pid file to the signal handlers",
        "inherit": "SIGTERM as the parent left it: none, blocked or ignored",
        "topology": (
            "child, reaped (somebody else reaps at once), zombie (reaped late), daemon (double "
            "fork under a subreaper), wrapped (a parent that forwards no signal), leaderless "
            "(main thread gone, a worker goes on)"
        ),
        "reaper_delay": 'seconds that the zombie stays with topology "zombie"',
        "reuse_pid": (
            "another process gets the VM's pid when it has been reaped, with topology reaped; "
            "needs the right to write /proc/sys/kernel/ns_last_pid, as in a pid namespace"
        ),
        "survives_kill": (
            "seconds that the process stays after SIGKILL, as in state D: a tracer holds it at "
            "its exit; where ptrace is denied the test is skipped"
        ),
        "helpers": "number of helper processes, which stay when the fake is SIGKILLed, 0 to 64",
        "helper": "traits of the helpers: session, ignores_term, holds_stdout, holds_lock",
        "disk_lock": "hold QEMU's OFD locks on the image until the flush is done",
        "qmp": "QMP on a UNIX socket, whose path is the handle's `.qmp`",
        "seed": "number from which the contents of the blocks are computed",
    }
)
"""One line for each knob, for `--help` and the reference."""
