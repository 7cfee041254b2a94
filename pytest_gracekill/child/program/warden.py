"""The warden: runs one command, and lets nothing of it outlive the run.

It is a subreaper, so that whatever the command starts, daemonises or leaves behind becomes the
warden's child when its parent ends. A child that has not been reaped keeps its pid, so that no
signal of the warden's can reach another process. It ends them all when the FIFO's other end closes,
or when it reads from it. Started with the FIFO, the output file and the command; it reports by
lines on its standard output: ``pid N WARDEN`` or ``refused ERRNO``, then ``ended STATUS AT``, in
nanoseconds of CLOCK_MONOTONIC, and ``over``.

The warden itself may be killed, or stopped: a second process, its parent and a subreaper, too,
gets what was below it then, ends that, and reports ``lost STATUS``. Somebody who kills both leaves
what has the environment variable GRACEKILL_WARDEN to `child/strays.py`.
"""

import ctypes
import os
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn
else:
    import _signal

PR_SET_CHILD_SUBREAPER = 36
SIGCHLD, SIGKILL, SIGTERM = 17, 9, 15
DEAF = (1, 2, 3, 15)
"""SIGHUP, SIGINT, SIGQUIT, SIGTERM: what the command sends around is not for us."""
VARIABLE = "GRACEKILL_WARDEN"
LATE = 3.0  # seconds beyond POLITE after which a warden is taken for stopped
FIXED = (9, 19)
"""SIGKILL and SIGSTOP, which cannot be set."""
POLITE = 2.0  # seconds between SIGTERM and SIGKILL for what is left when the trial is over


def main(fifo: str, output: str, command: list[str]) -> None:
    """Run the command until it and everything of it has ended, or the run is over."""
    # whatever the parent blocks or ignores
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    _signal.signal(SIGCHLD, _signal.SIG_DFL)
    for signal in DEAF:
        _signal.signal(signal, _signal.SIG_IGN)
    _adopt_orphans()
    mark = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    warden = os.fork()
    if warden:
        _stand_behind(warden, mark)
        return
    _adopt_orphans()
    _guard(mark, fifo, output, command)
    _report("over")


def _adopt_orphans() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _stand_behind(warden: int, mark: int) -> None:
    """Wait for the warden's end; end in its place what it has left."""
    pidfd = os.pidfd_open(warden)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(mark, select.POLLIN)
    if pidfd not in dict(poll.poll()):
        poll.unregister(mark)
        if not poll.poll((POLITE + LATE) * 1000):
            os.kill(warden, SIGKILL)  # our own child, not reaped yet
    status = os.waitstatus_to_exitcode(os.waitpid(warden, 0)[1])
    if status:
        _report(f"lost {status}")
        _end_all(0.0, warden)


def _guard(mark: int, fifo: str, output: str, command: list[str]) -> None:
    woken, waking = os.pipe()
    os.set_blocking(waking, False)
    _signal.set_wakeup_fd(waking)
    _signal.signal(SIGCHLD, lambda *_: None)
    if not _kept(mark):
        return
    pid = _run(fifo, output, command)
    if not pid:
        return
    poll = select.poll()
    poll.register(mark, select.POLLIN)
    poll.register(woken, select.POLLIN)
    while True:
        events = dict(poll.poll())
        if mark in events:
            # a byte asks for the end; without one the other side is gone, and there is no time
            _end_all(POLITE if events[mark] & select.POLLIN else 0.0, pid)
            return
        os.read(woken, 4096)
        _reap(pid)


def _kept(mark: int) -> bool:
    """Whether somebody has the other end; who went before it was opened is not told by poll."""
    try:
        os.read(mark, 1)
    except BlockingIOError:
        return True
    return False


def _run(fifo: str, output: str, command: list[str]) -> int:
    """Start the command, and report how that went; 0 when it cannot be run."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(fifo, output, command, writing)
    os.close(writing)
    error = os.read(reading, 16)  # nothing but an end of file when exec has closed the other end
    os.close(reading)
    if error:
        os.waitpid(pid, 0)
        _report(f"refused {int(error)}")
        return 0
    _report(f"pid {pid} {os.getpid()}")
    return pid


def _become(fifo: str, output: str, command: list[str], failed: int) -> "NoReturn":
    for signal in _signal.valid_signals():
        if signal not in FIXED:
            _signal.signal(signal, _signal.SIG_DFL)
    os.setsid()
    log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        environment = {**os.environ, VARIABLE: fifo}
        os.execvpe(command[0], command, environment)  # noqa: S606  # to run a command is what this is for
    except OSError as error:
        os.write(failed, b"%d" % (error.errno or 0))
    os._exit(127)  # as a shell says it


def _reap(command: int) -> bool:
    """Reap what has ended; False when there is no child any more."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if not pid:
            return True
        if pid == command:
            _report(f"ended {os.waitstatus_to_exitcode(status)} {time.monotonic_ns()}")


def _end_all(polite: float, command: int) -> None:
    deadline = time.monotonic() + polite
    asked: set[int] = set()
    while _reap(command):
        late = time.monotonic() >= deadline
        for pid in _children():
            if late or pid not in asked:
                asked.add(pid)
                try:  # noqa: SIM105  # contextlib is start-up time
                    os.kill(pid, SIGKILL if late else SIGTERM)
                except PermissionError:
                    pass  # it runs as somebody else; those beside it still have to end
        time.sleep(0.005)  # what they leave to us comes when they have ended


def _children() -> list[int]:
    me, found = str(os.getpid()), []
    for name in os.listdir("/proc"):  # noqa: PTH208  # names are enough
        if name.isdecimal():
            try:
                with open(f"/proc/{name}/stat", errors="replace") as stat:  # noqa: PTH123  # start-up time
                    fields = stat.read().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[1] == me and fields[0] != "Z":
                found.append(int(name))
    return found


def _report(line: str) -> None:
    try:  # noqa: SIM105  # contextlib is start-up time
        os.write(1, line.encode() + b"\n")
    except OSError:
        pass  # nobody listens any more


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
