"""The VM as ``subprocess.Popen`` and ``psutil.Process`` have it: each method is one operation."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any, NoReturn, Self

import psutil

from pytest_gracekill.explore.processes import reaped
from pytest_gracekill.explore.signals import send
from pytest_gracekill.explore.tasks import current, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gracekill.explore.tasks import Task
    from pytest_gracekill.explore.vm import SimulatedVm

_SIGTERM, _SIGKILL = 15, 9


def _task() -> Task:
    task = current()
    if task is None:
        raise RuntimeError("a simulated process is used outside of its exploration")
    return task


class SimulatedPopen(subprocess.Popen[bytes]):
    """A child of ours that is simulated."""

    def __init__(self, vm: SimulatedVm) -> None:  # the real one would start a process
        self._vm = vm
        self.pid = vm.pid
        self.args = ["qemu-system-x86_64"]
        self.returncode: int | None = None
        self.stdin = self.stdout = self.stderr = None

    def __del__(self, *_: object) -> None:
        """There is nothing to reap."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def poll(self) -> int | None:
        if self.returncode is None:
            self._ask(0.0, "asks for the status of")
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None and not self._ask(timeout, "waits for"):
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        assert self.returncode is not None
        return self.returncode

    def communicate(
        self,
        input: Any = None,  # noqa: A002, ARG002 - subprocess's own; nothing reads it
        timeout: float | None = None,
    ) -> Any:
        self.wait(timeout)
        return None, None

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            send(_task(), self._vm, self.pid, int(sig))

    def terminate(self) -> None:
        self.send_signal(_SIGTERM)

    def kill(self) -> None:
        self.send_signal(_SIGKILL)

    def _ask(self, timeout: float | None, kind: str) -> bool:
        try:
            status = reaped(_task(), self._vm, timeout, kind)
        except ChildProcessError:
            status = 0  # as subprocess has it when somebody else has reaped its child
        if status is None:
            return False
        self.returncode = status
        return True


def methods() -> Iterator[tuple[type, str, object]]:
    """What starts a process, which no task can."""
    real = subprocess.Popen.__init__

    def __init__(self: Any, args: Any, *more: Any, **named: Any) -> None:  # noqa: N807 - it is one
        if current() is None:
            real(self, args, *more, **named)
            return
        # what its finalizer asks for
        self.returncode, self.pid, self._child_created = 0, 0, False
        raise refused(f"a process ({args!r}) cannot be started in an exploration")

    yield subprocess.Popen, "__init__", __init__


class _NotSimulated:
    """What psutil would ask of the system."""

    def __getattr__(self, name: str) -> NoReturn:
        raise refused(f"psutil.Process.{name} is not simulated in an exploration")


def replacements() -> Iterator[tuple[object, object]]:  # noqa: C901 - one class, made when psutil is
    """Pairs of psutil's names and what stands in for them: for simulated pids only."""
    real = psutil.Process
    real_exists = psutil.pid_exists

    class Process(real):  # type: ignore[misc, valid-type]  # the class as it is now
        """A psutil.Process; of a simulated VM where its pid is one."""

        def __init__(self, pid: int | None = None) -> None:
            task = current()
            vm = None if task is None or pid is None else task.run.vms.get(pid)
            self._vm = vm
            if vm is None:
                super().__init__(pid)
                return
            assert task is not None
            task.run.perform(task, "looks at", vm, vm.mask, reads=True)
            if vm.gone():
                raise psutil.NoSuchProcess(vm.pid)
            self._pid = vm.pid
            self._proc = _NotSimulated()

        def __repr__(self) -> str:
            return super().__repr__() if self._vm is None else f"<Process of {self._vm}>"

        def __eq__(self, other: object) -> bool:
            if self._vm is None:
                return bool(super().__eq__(other))
            return getattr(other, "_vm", None) is self._vm

        def __hash__(self) -> int:
            return hash(self._pid) if self._vm is not None else super().__hash__()

        @property
        def pid(self) -> int:
            return int(self._pid)

        def is_running(self) -> bool:
            if self._vm is None:
                return bool(super().is_running())
            self._look(self._vm)
            return not self._vm.gone()

        def status(self) -> str:
            if self._vm is None:
                return str(super().status())
            self._look(self._vm)
            if self._vm.gone():
                raise psutil.NoSuchProcess(self.pid)
            return psutil.STATUS_ZOMBIE if self._vm.ended() else psutil.STATUS_SLEEPING

        def create_time(self) -> float:
            return 0.0 if self._vm is not None else float(super().create_time())

        def children(self, recursive: bool = False) -> list[psutil.Process]:  # noqa: FBT001, FBT002 - psutil's own
            return [] if self._vm is not None else list(super().children(recursive))

        def name(self) -> str:
            return "qemu-system-x86_64" if self._vm is not None else str(super().name())

        def send_signal(self, sig: int) -> None:
            if self._vm is None:
                super().send_signal(sig)
                return
            try:
                send(_task(), self._vm, self.pid, int(sig))
            except ProcessLookupError:
                raise psutil.NoSuchProcess(self.pid) from None

        def terminate(self) -> None:
            if self._vm is None:
                super().terminate()
            else:
                self.send_signal(_SIGTERM)

        def kill(self) -> None:
            if self._vm is None:
                super().kill()
            else:
                self.send_signal(_SIGKILL)

        def wait(self, timeout: float | None = None) -> int | None:
            vm = self._vm
            if vm is None:
                return super().wait(timeout)  # type: ignore[no-any-return]  # psutil's own
            task = _task()
            if vm.knobs.topology == "child" and not vm.gone():
                try:
                    status = reaped(task, vm, timeout, "waits for")
                except ChildProcessError:
                    return None
                if status is None:
                    raise psutil.TimeoutExpired(timeout or 0.0, self.pid)
                return status
            # psutil looks at whether the pid is there, for somebody else's child
            if not task.run.wait(
                task, "waits until nobody has", vm, vm.mask, vm.gone, timeout, reads=True
            ):
                raise psutil.TimeoutExpired(timeout or 0.0, self.pid)
            return None

        def _look(self, vm: SimulatedVm) -> None:
            task = _task()
            task.run.perform(task, "looks at", vm, vm.mask, reads=True)
            task.alive_seen[vm.pid] = not vm.ended()

    def pid_exists(pid: int) -> bool:
        task = current()
        vm = None if task is None else task.run.vms.get(pid)
        if vm is None:
            return real_exists(pid)
        assert task is not None
        task.run.perform(task, "looks at", vm, vm.mask, reads=True)
        task.alive_seen[vm.pid] = not vm.ended()
        return not vm.gone() or vm.knobs.reuse_pid

    yield real, Process
    yield real_exists, pid_exists
