"""The fake's program file: one small executable with the configuration baked in.

Environment variables and inherited descriptors get lost behind sudo, circus or systemd; literals
in the file do not. The code itself is imported from this package, so that it comes from `.pyc`
caches; `-I -S` keeps everything else of the user's Python out.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gracekill.errors import UsageError

from .behaviour import Crash, Stall, Stop

if TYPE_CHECKING:
    from .knobs import Knobs

NAME = "qemu-system-x86_64"
_LONGEST_SHEBANG = 127  # of Linux before 5.1; newer ones take 255

_TEMPLATE = """\
{shebang}
import sys
sys.path.insert(0, {child!r})
from program.boot import main
from program.configuration import Configuration
del sys.path[0]
main(Configuration(**{literals!r}), sys.argv[1:])
"""


def write(
    path: Path,
    knobs: Knobs,
    *,
    mark: Path,
    ready: Path | None,
    journal: Path,
    disk: Path,
    pid_file: Path,
    qmp: Path | None = None,
) -> dict[str, object]:
    """Write the program file, executable, with absolute paths; returns what was baked in."""
    literals = _literals(knobs) | {
        "mark": str(mark.absolute()),
        "ready": "" if ready is None else str(ready.absolute()),
        "journal": str(journal.absolute()),
        "disk": str(disk.absolute()),
        "pid_file": str(pid_file.absolute()),
        "qmp": "" if qmp is None else str(qmp.absolute()),
    }
    text = _TEMPLATE.format(shebang=shebang(), child=str(Path(__file__).parent), literals=literals)
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    path.chmod(0o755)
    return literals


def argv(path: Path) -> list[str]:
    """Return the command that runs a program file."""
    return [_interpreter(), "-I", "-S", str(path)]


def _interpreter() -> str:
    if not sys.executable:
        raise UsageError("no sys.executable: an embedded Python cannot start a fake")
    return sys.executable


def shebang() -> str:
    line = f"#!{_interpreter()} -IS"  # the kernel hands over what follows as one argument
    if " " not in _interpreter() and len(line) <= _LONGEST_SHEBANG:
        return line
    # for sh two quoted words and a command; for Python a string that nobody reads
    return f"#!/bin/sh\n''':'\nexec {shlex.quote(_interpreter())} -IS \"$0\" \"$@\"\n'''"


def _literals(knobs: Knobs) -> dict[str, object]:
    on_term, profile = knobs.on_term, knobs.flush_profile
    crash = on_term if isinstance(on_term, Crash) else None
    stall = profile if isinstance(profile, Stall) else None
    return {
        "topology": knobs.topology,
        "flush_time": knobs.flush_time,
        "blocks": knobs.blocks,
        "block_size": knobs.block_size,
        "seed": knobs.seed,
        "flush_profile": "stall" if isinstance(profile, Stall) else profile,
        "stall_at": -1 if stall is None else stall.at,
        "stall_seconds": 0.0 if stall is None else float(stall.seconds),
        "guest": knobs.guest,
        "torn": knobs.torn,
        "on_term": on_term if isinstance(on_term, str) else type(on_term).__name__.lower(),
        "on_term_at": on_term.at if isinstance(on_term, Crash | Stop) else -1,
        "crash_exit": 0 if crash is None else int(crash.exit or 0),
        "crash_signal": 0 if crash is None else int(crash.signal or 0),
        "on_second_term": knobs.on_second_term,
        "exit_status": int(knobs.exit_status),
        "linger": knobs.linger,
        "ready_after": knobs.ready_after,
        "inherit": knobs.inherit,
        "reaper_delay": knobs.reaper_delay,
        "reuse_pid": knobs.reuse_pid,
        "survives_kill": knobs.survives_kill,
        "helpers": knobs.helpers,
        "helper": tuple(sorted(knobs.helper)),
        "disk_lock": knobs.disk_lock,
    }
