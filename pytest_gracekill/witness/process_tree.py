"""What a command and the processes that it has started are doing at one moment, from /proc.

The kernel tells of each process its parent, its state, and the function of the kernel that it waits
in. The last is missing where /proc hides it; then the number of the system call stands for it,
where that may be read. A process that ends meanwhile is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gracekill.legible import escape, single_line

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROC = Path("/proc")
#: Characters of a command line that are shown.
_LONGEST = 60
_STATES = {
    "R": "runs",
    "S": "sleeps",
    "D": "sleeps and cannot be interrupted",
    "T": "is stopped",
    "t": "is stopped by a tracer",
    "Z": "has ended, and nobody has reaped it",
    "I": "is idle",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessSeen:
    """One process at one moment; ``depth`` is 0 for the first, 1 for its children.

    ``state`` is the letter that ps shows, ``waits_in`` the kernel's function, or "" where unknown.
    """

    pid: int
    depth: int
    name: str
    command: str
    state: str
    waits_in: str

    def __str__(self) -> str:
        command = f" ({self.command})" if self.command else ""
        waits = f" in {self.waits_in}" if self.waits_in else ""
        doing = _STATES.get(self.state, f"is in state {self.state}")
        return f"{self.name} {self.pid}{command} {doing}{waits}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSeen:
    """A command that was cut off: the last lines that it has printed, and its processes."""

    output: tuple[str, ...]
    processes: tuple[ProcessSeen, ...]

    def __str__(self) -> str:
        return f"{len(self.processes)} processes, {len(self.output)} lines of output"


def below(pid: int) -> tuple[ProcessSeen, ...]:
    """All descendants of a process, each behind its parent; not the process itself."""
    children: dict[int, list[int]] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdecimal() and (stat := _stat(int(folder.name))) is not None:
            children.setdefault(int(stat[2]), []).append(int(folder.name))
    return tuple(_descend(pid, 0, children))


def _descend(pid: int, depth: int, children: dict[int, list[int]]) -> Iterator[ProcessSeen]:
    for child in sorted(children.get(pid, ())):
        seen = _look(child, depth)
        if seen is not None:
            yield seen
        yield from _descend(child, depth + 1, children)


def _look(pid: int, depth: int) -> ProcessSeen | None:
    stat = _stat(pid)
    if stat is None:
        return None
    name, state, _parent = stat
    command = single_line(escape(_read(pid, "cmdline").replace("\0", " ")), _LONGEST)
    return ProcessSeen(
        pid=pid,
        depth=depth,
        name=escape(name),
        command="" if command == name else command,
        state=state,
        waits_in=_waits_in(pid, state),
    )


def _waits_in(pid: int, state: str) -> str:
    if state not in ("S", "D"):
        return ""
    function = _read(pid, "wchan")
    if function not in ("", "0"):
        return function
    call = _read(pid, "syscall").partition(" ")[0]
    return f"system call {call}" if call.isdecimal() else ""


def _stat(pid: int) -> tuple[str, str, str] | None:
    """Name, state and parent; None when it has ended."""
    text = _read(pid, "stat")
    name, end, rest = text.partition("(")[2].rpartition(") ")
    if not end:
        return None
    state, parent = rest.split()[:2]
    return name, state, parent


def _read(pid: int, name: str) -> str:
    """A file of a process; empty when it has ended, or hides it from us."""
    try:
        return (_PROC / str(pid) / name).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
