"""The simulated VM as tasks reach it: ``os.kill``, pidfds, ``poll``, ``select``, ``waitpid``."""

from __future__ import annotations

import builtins
import errno
import os
import select
import signal
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from pytest_gracekill.explore.signals import send
from pytest_gracekill.explore.tasks import current, refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_gracekill.explore.run import Run
    from pytest_gracekill.explore.tasks import Task
    from pytest_gracekill.explore.vm import SimulatedVm

Replacement: TypeAlias = "tuple[object, object]"


def await_end(
    task: Task,
    vms: Sequence[SimulatedVm],
    timeout: float | None,
    kind: str = "waits for the exit of",
) -> bool:
    """Wait until one of them has exited, as one operation; False when the time is over."""
    mask = 0
    for vm in vms:
        mask |= vm.mask

    def any_ended() -> bool:
        return any(vm.ended() for vm in vms)

    ended = vms[0].ended if len(vms) == 1 else any_ended
    what = " or ".join([vm.name for vm in vms])
    done = task.run.wait(task, kind, what, mask, ended, timeout, reads=True)
    for vm in vms:
        task.alive_seen[vm.pid] = not vm.ended()
    return done


def reaped(task: Task, vm: SimulatedVm, timeout: float | None, kind: str = "reaps") -> int | None:
    """Wait for a child of ours and reap it; its status as Popen has it, None while it runs."""
    run = task.run
    if vm.gone():
        raise ChildProcessError(errno.ECHILD, os.strerror(errno.ECHILD))
    if vm.knobs.topology != "child":
        run.perform(task, kind, vm, vm.mask, timed=True)
        raise ChildProcessError(errno.ECHILD, os.strerror(errno.ECHILD))
    if not run.wait(task, kind, vm, vm.mask, vm.ended, timeout):
        task.alive_seen[vm.pid] = True
        return None
    task.alive_seen[vm.pid] = False
    if vm.gone():  # another thread was faster
        raise ChildProcessError(errno.ECHILD, os.strerror(errno.ECHILD))
    vm.reap()
    return vm.status


class Poll:
    """``select.poll()`` on pidfds of simulated VMs."""

    def __init__(self) -> None:
        self._watched: dict[int, int] = {}

    def register(self, fd: object, eventmask: int = 7, /) -> None:
        self._watched[_number(fd)] = eventmask

    modify = register

    def unregister(self, fd: object, /) -> None:
        del self._watched[_number(fd)]

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """Milliseconds; None or negative: until one has exited."""
        task = current()
        assert task is not None
        vms = {fd: _vm_of(task.run, fd) for fd in self._watched}
        seconds = None if timeout is None or timeout < 0 else timeout / 1000
        await_end(task, list(vms.values()), seconds)
        return [(fd, select.POLLIN) for fd, vm in vms.items() if vm.ended()]


def _number(fd: object) -> int:
    if isinstance(fd, int):
        return fd
    number = getattr(fd, "fileno")()  # noqa: B009 - anything that has one
    assert isinstance(number, int)
    return number


def _vm_of(run: Run, fd: int) -> SimulatedVm:
    vm = run.pidfds.get(fd)
    if vm is None:
        raise refused(
            f"descriptor {fd} cannot be waited for in an exploration: pidfds of the VM can, files"
            " and sockets are not simulated"
        )
    return vm


def replacements() -> Iterator[Replacement]:
    """Pairs of a function and what stands in for it: in a task's thread only."""
    yield os.kill, _kill(os.kill)
    yield select.select, _select(select.select)
    yield os.close, _close(os.close)
    if sys.platform == "linux":
        yield os.killpg, _killpg(os.killpg)
        yield os.waitpid, _waitpid(os.waitpid)
        yield os.waitid, _waitid(os.waitid)
        yield os.pidfd_open, _pidfd_open(os.pidfd_open)
        yield signal.pidfd_send_signal, _pidfd_send_signal(signal.pidfd_send_signal)
        yield select.poll, _poll(select.poll)
        yield select.epoll, _not_simulated("select.epoll", select.epoll)
        yield os.fork, _not_simulated("os.fork", os.fork)
        yield os.posix_spawn, _not_simulated("os.posix_spawn", os.posix_spawn)
        yield signal.pthread_kill, _not_simulated("signal.pthread_kill", signal.pthread_kill)
    yield os.system, _not_simulated("os.system", os.system)
    yield signal.raise_signal, _not_simulated("signal.raise_signal", signal.raise_signal)
    yield builtins.open, _without_proc(builtins.open)
    if (asyncio := sys.modules.get("asyncio")) is not None:
        # its timers would take real time
        yield asyncio.new_event_loop, _not_simulated("asyncio", asyncio.new_event_loop)


def _not_simulated(name: str, real: Callable[..., object]) -> Callable[..., object]:
    def instead(*arguments: object, **named: object) -> object:
        if current() is None:
            return real(*arguments, **named)
        raise refused(f"{name} is not simulated in an exploration")

    return instead


def _without_proc(real: Callable[..., Any]) -> Callable[..., Any]:
    """``open()``: in /proc a pid that is only simulated would look like one that is gone."""

    def open_(file: object, *arguments: object, **named: object) -> object:
        task = current()
        if task is not None and task.worker is not None and str(file).startswith("/proc/"):
            pid = str(file).split("/")[2]
            if pid.isdecimal() and int(pid) in task.run.vms:
                raise refused(f"{file}: /proc is not simulated in an exploration")
        return real(file, *arguments, **named)

    return open_


def _kill(real: Callable[[int, int], None]) -> Callable[[int, int], None]:
    def kill(pid: int, sig: int, /) -> None:
        task = current()
        if task is None:
            real(pid, sig)
        else:
            send(task, task.run.vms.get(pid), pid, int(sig))

    return kill


def _killpg(real: Callable[[int, int], None]) -> Callable[[int, int], None]:
    def killpg(pgid: int, sig: int, /) -> None:
        task = current()
        if task is None:
            real(pgid, sig)
        else:
            send(task, task.run.vms.get(pgid), -pgid, int(sig))

    return killpg


def _pidfd_open(real: Callable[..., int]) -> Callable[..., int]:
    def pidfd_open(pid: int, flags: int = 0) -> int:
        task = current()
        if task is None:
            return real(pid, flags)
        run = task.run
        vm = run.vms.get(pid)
        if vm is None:
            run.perform(task, "opens", f"pid {pid}", 0)
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        run.perform(task, "opens", vm, vm.mask, reads=True)
        if vm.gone():
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        return run.new_pidfd(vm)

    return pidfd_open


def _pidfd_send_signal(real: Callable[..., None]) -> Callable[..., None]:
    def pidfd_send_signal(pidfd: int, sig: int, siginfo: None = None, flags: int = 0, /) -> None:
        task = current()
        if task is None:
            real(pidfd, sig, siginfo, flags)
            return
        vm = task.run.pidfds.get(pidfd)
        if vm is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        send(task, vm, vm.pid, int(sig), by_pidfd=True)

    return pidfd_send_signal


def _close(real: Callable[[int], None]) -> Callable[[int], None]:
    def close(fd: int) -> None:
        task = current()
        if task is None or task.run.pidfds.pop(fd, None) is None:
            real(fd)

    return close


def _poll(real: Callable[[], object]) -> Callable[[], object]:
    def poll() -> object:
        return real() if current() is None else Poll()

    return poll


def _select(real: Callable[..., object]) -> Callable[..., object]:
    def select_(
        rlist: Sequence[object],
        wlist: Sequence[object],
        xlist: Sequence[object],
        timeout: float | None = None,
        /,
    ) -> object:
        task = current()
        if task is None:
            return real(rlist, wlist, xlist, timeout)
        if wlist or xlist:
            raise refused("select() for writing is not simulated in an exploration")
        vms = [_vm_of(task.run, _number(fd)) for fd in rlist]
        await_end(task, vms, timeout)
        return [fd for fd, vm in zip(rlist, vms, strict=True) if vm.ended()], [], []

    return select_


def _waitpid(real: Callable[[int, int], tuple[int, int]]) -> Callable[[int, int], tuple[int, int]]:
    def waitpid(pid: int, options: int, /) -> tuple[int, int]:
        task = current()
        if task is None:
            return real(pid, options)
        vm = task.run.vms.get(pid)
        if vm is None:
            raise ChildProcessError(errno.ECHILD, os.strerror(errno.ECHILD))
        status = reaped(task, vm, 0.0 if options & os.WNOHANG else None)
        if status is None:
            return 0, 0
        return pid, -status if status < 0 else status << 8

    return waitpid


def _waitid(real: Callable[..., object]) -> Callable[..., object]:
    def waitid(idtype: int, ident: int, options: int, /) -> object:
        task = current()
        if task is None:
            return real(idtype, ident, options)
        run = task.run
        vm = run.pidfds.get(ident) if idtype == os.P_PIDFD else run.vms.get(ident)
        if vm is None or not options & os.WEXITED or options & os.WNOWAIT:
            raise refused("this waitid() is not simulated: the VM's, with WEXITED, is")
        status = reaped(task, vm, 0.0 if options & os.WNOHANG else None)
        if status is None:
            return None
        code = os.CLD_KILLED if status < 0 else os.CLD_EXITED
        return os.waitid_result((vm.pid, os.getuid(), int(signal.SIGCHLD), abs(status), code))

    return waitid
