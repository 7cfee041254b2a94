"""What the fake writes to its standard error, as QEMU does."""

import os

NAME = "qemu-system-x86_64"
_UNKNOWN = "<unknown process>"


def say(text: str) -> None:
    try:  # noqa: SIM105  # contextlib is start-up time
        os.write(2, f"{NAME}: {text}\n".encode(errors="surrogateescape"))
    except OSError:
        pass  # QEMU does not die either when nobody reads its complaints


def termination(signal: int, pid: int) -> str:
    """What `qemu_kill_report()` prints."""
    if not pid:
        return f"terminating on signal {signal}"
    return f"terminating on signal {signal} from pid {pid} ({_command_of(pid)})"


def _command_of(pid: int) -> str:
    try:
        fd = os.open(f"/proc/{pid}/cmdline", os.O_RDONLY)
    except OSError:
        return _UNKNOWN
    try:
        return os.fsdecode(os.read(fd, 4096).partition(b"\0")[0])
    except OSError:  # whoever has sent it has ended since: one `kill` of a shell, say
        return _UNKNOWN
    finally:
        os.close(fd)
