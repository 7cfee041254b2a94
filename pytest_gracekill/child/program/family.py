"""Topologies with more than one process: who started the VM, and who reaps it.

Reaper and subreaper are infrastructure: the VM has a session of its own there, so that a routine
that signals the VM's process group does not meet them. The wrapper is part of what is tested.
"""

import os

from .lifeline import Lifeline, tell
from .record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal

    from .configuration import Configuration
else:
    import _signal

REAP_NOW = 10  # SIGUSR1, which the keeper sends when it has no time for `reaper_delay`
PR_SET_CHILD_SUBREAPER = 36


def enter(configuration: "Configuration", lifeline: Lifeline) -> None:
    """Start what the topology asks for; return in the process that is to be the VM."""
    record = Record(configuration.journal)
    {"wrapped": _wrap, "daemon": _daemonise, "reaped": _reap, "zombie": _reap}[
        configuration.topology
    ](configuration, lifeline, record)


def _reap(configuration: "Configuration", lifeline: Lifeline, record: Record) -> None:
    _signal.pthread_sigmask(_signal.SIG_BLOCK, (REAP_NOW,))
    vm = os.fork()
    if vm == 0:
        os.setsid()
        lifeline.hold()
        return
    record.write("role", pid=os.getpid(), role="reaper")
    _let_go_of_stdio()
    if configuration.topology == "zombie":
        seen = os.waitid(os.P_PID, vm, os.WEXITED | os.WNOWAIT)
        if seen is not None:
            died = "code" if seen.si_code == os.CLD_EXITED else "signal"
            record.write("died", pid=vm, **{died: seen.si_status})
            tell(configuration.ready, f"{died} {seen.si_status}")
        _signal.sigtimedwait((REAP_NOW,), configuration.reaper_delay)
    _bury(configuration, record, vm, os.waitpid(vm, 0)[1])
    if configuration.reuse_pid:
        from .stranger import take_over  # noqa: PLC0415  # for those who want one

        take_over(vm, lifeline, record)
    os._exit(0)


def _daemonise(configuration: "Configuration", lifeline: Lifeline, record: Record) -> None:
    """Fork twice, as `qemu-system-x86_64 -daemonize` does, under a subreaper."""
    import ctypes  # noqa: PLC0415  # milliseconds that only this topology should pay

    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")
    told, telling = os.pipe()
    alone, leaving_alone = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.setsid()
        lifeline.hold()
        vm = os.fork()
        if vm == 0:
            lifeline.hold()
            os.close(leaving_alone)
            # end of file: the process between has gone, and so our parent is the subreaper
            os.read(alone, 1)
            for fd in (told, telling, alone):
                os.close(fd)
            os.chdir("/")
            return
        os.write(telling, str(vm).encode())
        os._exit(0)
    record.write("role", pid=os.getpid(), role="subreaper")
    _let_go_of_stdio()
    os.close(telling)
    vm = int(os.read(told, 20))
    os.waitpid(middle, 0)
    os.close(leaving_alone)
    while True:
        pid, status = os.wait()
        if pid == vm:
            _bury(configuration, record, vm, status)
            os._exit(0)


def _wrap(configuration: "Configuration", lifeline: Lifeline, record: Record) -> None:
    """Be what `sh -c 'qemu ...; exit $?'` is: a parent that forwards no signal."""
    vm = os.fork()
    if vm == 0:
        lifeline.hold()
        return
    record.write("role", pid=os.getpid(), role="wrapper")
    status = os.waitpid(vm, 0)[1]
    _bury(configuration, record, vm, status)
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)  # as a shell says it


def _bury(configuration: "Configuration", record: Record, vm: int, status: int) -> None:
    code = os.waitstatus_to_exitcode(status)
    name, number = ("code", code) if code >= 0 else ("signal", -code)
    record.write("reaped", pid=vm, **{name: number})
    tell(configuration.ready, f"{name} {number}")


def _let_go_of_stdio() -> None:
    """Keep no pipe open that a routine may read to its end."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
