"""Signals of tasks: to simulated processes alone.

What goes to pid 0 or -1, to our own group, to a stranger or to whoever has got the VM's pid since
is refused and put on record, as in a trial.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pytest_gracekill.data.requests import signal_name
from pytest_gracekill.witness.signals import SentSignal
from pytest_gracekill.witness.sites import frames_of

if TYPE_CHECKING:
    from pytest_gracekill.explore.run import Run
    from pytest_gracekill.explore.tasks import Task
    from pytest_gracekill.explore.vm import SimulatedVm
    from pytest_gracekill.witness.recipients import Recipient

    _Named = tuple[Recipient, str]


def send(
    task: Task, vm: SimulatedVm | None, pid: int, signum: int, *, by_pidfd: bool = False
) -> None:
    """Send a signal as one operation; raises what the kernel, or the trial's guard, would.

    :param by_pidfd: it is meant for this VM alone, whoever has its pid by now.
    """
    run = task.run
    if vm is None:
        run.perform(task, f"sends {_called(signum)} to", f"pid {pid}", 0)
        if signum:
            _refuse(run, task, signum, pid, _stranger(pid))
        return
    reads = signum == 0
    run.perform(task, f"sends {_called(signum)} to", vm, vm.mask, timed=not reads, reads=reads)
    task.alive_seen[vm.pid] = not vm.ended()
    if vm.gone():
        if vm.knobs.reuse_pid and not by_pidfd:
            if signum:
                vm.log.append((run.now, "stranger_hit", {"signal": signum}))
                _refuse(run, task, signum, pid, ("stranger", f"a stranger (pid {pid})"))
            return
        gone: _Named = ("nobody", f"{vm}, which has ended")
        _note(run, task, signum, pid, gone, reached=False, errno_=errno.ESRCH)
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    named: _Named = ("vm" if vm is run.target else "other run", str(vm))
    if vm.ended():
        named = "nobody", f"{vm}, which has ended"
    _note(run, task, signum, pid, named, reached=named[0] == "vm")
    vm.signal(signum)


def _called(signum: int) -> str:
    return signal_name(signum) if signum else "signal 0"


def _stranger(pid: int) -> _Named:
    if pid == 0:
        return "group", "pid 0 (our own process group)"
    if pid == -1:
        return "everybody", "pid -1 (every process)"
    if pid == os.getpid():
        return "itself", "our own process"
    if pid < 0:
        return "group", f"process group {-pid}"
    return "stranger", f"a stranger (pid {pid})"


def _refuse(run: Run, task: Task, signum: int, pid: int, named: _Named) -> None:
    _note(run, task, signum, pid, named, reached=False, refused=True, errno_=errno.EPERM)
    raise PermissionError(errno.EPERM, f"gracekill refuses {signal_name(signum)} to {named[1]}")


def _note(
    run: Run,
    task: Task,
    signum: int,
    pid: int,
    named: _Named,
    *,
    reached: bool,
    refused: bool = False,
    errno_: int | None = None,
) -> None:
    if not signum:
        return
    site = frames_of(task.site) if run.recorded else ()
    to, target = named
    run.signals.append(
        SentSignal(
            at_ns=run.now,
            signum=signum,
            to=to,
            pid=abs(pid) or None,
            comm=None,
            target=target,
            actor=task.name,
            reached_vm=reached,
            refused=refused,
            errno=errno_,
            site=site[0] if site else None,
            held=tuple(lock.name for lock in task.held),
        )
    )
