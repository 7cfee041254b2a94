"""What the fake writes to its standard error, as QEMU does."""

import os

NAME = "qemu-system-x86_64"


def say(text: str) -> None:
    try:  # noqa: SIM105  # contextlib is start-up time
        os.write(2, f"{NAME}: {text}\n".encode(errors="surrogateescape"))
    except OSError:
        pass  # QEMU does not die either when nobody reads its complaints


def termination(signal: int, pid: int) -> str:
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
