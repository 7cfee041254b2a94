"""Signals of tasks: to simulated processes alone.

What goes to pid 0 or -1, to our own group, to a stranger or to whoever has got the VM's pid since
is refused and put on record, as in a trial.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pytest_gracekill.witness.signals import OTHER_RUN, SentSignal, signal_name
from pytest_gracekill.witness.sites import frames_of

if TYPE_CHECKING:
    from pytest_gracekill.explore.run import Run
    from pytest_gracekill.explore.tasks import Task
    from pytest_gracekill.explore.vm import SimulatedVm


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
            _refuse(run, task, signum, _stranger(pid))
        return
    reads = signum == 0
    run.perform(task, f"sends {_called(signum)} to", vm, vm.mask, timed=not reads, reads=reads)
    task.alive_seen[vm.pid] = not vm.ended()
    if vm.gone():
        if vm.knobs.reuse_pid and not by_pidfd:
            if signum:
                vm.log.append((run.now, "stranger_hit", {"signal": signum}))
                _refuse(run, task, signum, f"a stranger (pid {pid})")
            return
        _note(run, task, signum, str(vm), reached=False, errno_=errno.ESRCH)
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    _note(run, task, signum, str(vm), reached=vm is run.target)
    vm.signal(signum)


def _called(signum: int) -> str:
    return signal_name(signum) if signum else "signal 0"


def _stranger(pid: int) -> str:
    if pid == 0:
        return "pid 0 (our own process group)"
    if pid == -1:
        return "pid -1 (every process)"
    if pid == os.getpid():
        return "our own process"
    return f"process group {-pid}" if pid < 0 else f"a stranger (pid {pid})"


def _refuse(run: Run, task: Task, signum: int, target: str) -> None:
    _note(run, task, signum, target, reached=False, refused=True, errno_=errno.EPERM)
    raise PermissionError(errno.EPERM, f"gracekill refuses {signal_name(signum)} to {target}")


def _note(
    run: Run,
    task: Task,
    signum: int,
    target: str,
    *,
    reached: bool,
    refused: bool = False,
    errno_: int | None = None,
) -> None:
    if not signum:
        return
    site = frames_of(task.site) if run.recorded else ()
    run.signals.append(
        SentSignal(
            at_ns=run.now,
            signum=signum,
            target=target,
            actor=task.name,
            reached_vm=reached,
            refused=refused,
            errno=errno_,
            site=site[0] if site else None,
            other_run=target.startswith(OTHER_RUN),
            held=tuple(lock.name for lock in task.held),
        )
    )
