"""The command line of a real QEMU, or of its storage daemon, for a trial."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from .real_guest import NODE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from .launch import Prepared
    from .real_knobs import RealKnobs


def command_line(
    knobs: RealKnobs, prepared: Prepared, program: str, fds: Mapping[str, int]
) -> list[str]:
    """The command that starts it: no guest, no device, a disk and a monitor by descriptors.

    ``fds``: the descriptors that it inherits, ``disk`` and ``monitor``, and of a storage daemon
    ``export``, where it is to listen.
    """
    disk = {"driver": "nbd", "node-name": "slow", "server": {"type": "fd", "str": str(fds["disk"])}}
    qcow2 = {"driver": "qcow2", "node-name": NODE, "file": "slow"}
    pid_file = str(prepared.directory / "pid")
    chardev = f"socket,id=gracekill,fd={fds['monitor']}"
    listen = [] if prepared.qmp is None else [_quoted(prepared.qmp)]
    if knobs.program == "qemu":
        return [
            *(program, "-machine", "none", "-display", "none", "-nodefaults", "-no-user-config"),
            *("-pidfile", pid_file, "-chardev", chardev, "-mon", "chardev=gracekill,mode=control"),
            *("-blockdev", json.dumps(disk), "-blockdev", json.dumps(qcow2)),
            *(word for path in listen for word in ("-qmp", f"unix:{path},server=on,wait=off")),
        ]
    return [
        *(program, "--pidfile", pid_file, "--chardev", chardev, "--monitor", "chardev=gracekill"),
        *("--blockdev", json.dumps(disk), "--blockdev", json.dumps(qcow2)),
        *("--nbd-server", f"addr.type=fd,addr.str={fds['export']}"),
        *("--export", f"nbd,id=export,node-name={NODE},writable=on"),
        *(
            word
            for path in listen
            for word in (
                *("--chardev", f"socket,id=qmp,path={path},server=on,wait=off"),
                *("--monitor", "chardev=qmp"),
            )
        ),
    ]


def _quoted(path: Path) -> str:
    return str(path).replace(",", ",,")
