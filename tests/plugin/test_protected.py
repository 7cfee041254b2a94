"""Whom a trial protects: whatever was there before it, under whatever name the signal is sent.

And what it does not get in the way of: the routine's own processes, other processes that get
``os.kill`` handed, patches that come and go.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import posix
import select
import signal
import subprocess
import sys
import threading
import time
from _thread import start_new_thread
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from pytest_gracekill.witness import bindings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pytest_gracekill.child.unstarted import Child
    from pytest_gracekill.fixtures import Judge

LONG = 30.0


def ended(pid: int) -> bool:
    """Wait until a process has ended, reaped or not."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], LONG)[0])
    finally:
        os.close(pidfd)


def good(pid: int) -> bool:
    os.kill(pid, signal.SIGTERM)
    return ended(pid)


@contextmanager
def bystander(**options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the test's own; it has to be there at the end still."""
    with subprocess.Popen(["sleep", "1000"], **options) as process:
        try:
            yield process
            assert process.poll() is None, "the bystander was hit"
        finally:
            process.kill()


# -- who has been there before


def by_pidfd(other: subprocess.Popen[bytes]) -> None:
    fd = os.pidfd_open(other.pid)
    try:
        signal.pidfd_send_signal(fd, signal.SIGTERM)
    finally:
        os.close(fd)


WAYS: dict[str, Callable[[subprocess.Popen[bytes]], object]] = {
    "os.kill": lambda other: os.kill(other.pid, signal.SIGTERM),
    "os.killpg": lambda other: os.killpg(other.pid, signal.SIGKILL),
    "negative pid": lambda other: os.kill(-other.pid, signal.SIGKILL),
    "pidfd": by_pidfd,
    "subprocess": lambda other: other.terminate(),
    "psutil": lambda other: psutil.Process(other.pid).kill(),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("turn", range(3))
def test_a_bystander_that_was_started_just_now(gracekill: Judge, way: str, turn: int) -> None:
    with bystander(start_new_session=True) as other:

        def stop(pid: int) -> bool:
            with pytest.raises(PermissionError, match="gracekill refuses SIG"):
                WAYS[way](other)
            return good(pid)

        report = gracekill(stop, flush_time=0.02, blocks=2)
        assert report.verdicts["escalation"].word == "STRANGER", report


def test_a_bystander_that_was_forked(gracekill: Judge) -> None:
    reading, writing = os.pipe()
    other = os.fork()
    if other == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)

    def stop(pid: int) -> bool:
        with pytest.raises(PermissionError):
            os.kill(other, signal.SIGKILL)
        return good(pid)

    try:
        report = gracekill(stop, flush_time=0.02)
        assert report.verdicts["escalation"].word == "STRANGER", report
        assert os.waitpid(other, os.WNOHANG) == (0, 0)
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(other, 0)


def test_a_thread_of_a_bystander(gracekill: Judge) -> None:
    """The kernel takes the number of any thread for its process."""
    program = (
        "import threading, time; t = threading.Thread(target=time.sleep, args=(1000,)); t.start();"
        "print(t.native_id, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=-1) as other:
        assert other.stdout is not None
        thread = int(other.stdout.readline())
        assert thread != other.pid

        def stop(pid: int) -> bool:
            with pytest.raises(PermissionError):
                os.kill(thread, signal.SIGTERM)
            return good(pid)

        try:
            assert gracekill(stop, flush_time=0.02).verdicts["escalation"].word == "STRANGER"
            assert other.poll() is None
        finally:
            other.kill()


# -- under whatever name

send_by_import = os.kill


class Killer:
    static = staticmethod(os.kill)

    def __init__(self) -> None:
        self.own = os.kill


def by_module(pid: int, signum: int) -> None:
    os.kill(pid, signum)


def by_default(pid: int, signum: int, send: Callable[[int, int], None] = os.kill) -> None:
    send(pid, signum)


def closure() -> Callable[[int, int], None]:
    send = os.kill

    def sends(pid: int, signum: int) -> None:
        send(pid, signum)

    return sends


NAMES: dict[str, Callable[[int, int], object]] = {
    "module": by_module,
    "import": send_by_import,
    "class": Killer.static,
    "object": Killer().own,
    "default": by_default,
    "closure": closure(),
    "partial": functools.partial(os.kill),
    "list": [os.kill][0],
    "posix": posix.kill,
    "mapped": lambda pid, signum: list(map(os.kill, [pid], [signum])),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_os_kill(gracekill: Judge, name: str) -> None:
    send = NAMES[name]
    with bystander() as other:

        def stop(pid: int) -> bool:
            for whom in (other.pid, 0, -1, -os.getpgrp(), os.getpid()):
                with pytest.raises(PermissionError, match="gracekill refuses SIGUSR2"):
                    send(whom, signal.SIGUSR2)
            send(pid, signal.SIGTERM)
            return ended(pid)

        report = gracekill(stop, flush_time=0.02)
        assert report.verdicts["escalation"].word == "STRANGER"
        assert report.verdicts["outcome"].status == "ok", report


def test_a_thread_whose_target_is_os_kill(gracekill: Judge) -> None:
    with bystander() as other:

        def stop(pid: int) -> bool:
            refused: list[object] = []
            hook, threading.excepthook = (
                threading.excepthook,
                lambda it: refused.append(it.exc_value),
            )
            thread = threading.Thread(target=os.kill, args=(other.pid, signal.SIGTERM))
            thread.start()
            thread.join()
            threading.excepthook = hook
            assert isinstance(refused[0], PermissionError)
            return good(pid)

        assert gracekill(stop, flush_time=0.02).verdicts["escalation"].word == "STRANGER"


def test_a_thread_that_c_code_starts_on_os_kill(gracekill: Judge) -> None:
    with bystander() as other:

        def stop(pid: int) -> bool:
            refused: list[object] = []
            hook = sys.unraisablehook
            sys.unraisablehook = lambda raised: refused.append(raised.exc_value)
            try:
                start_new_thread(os.kill, (other.pid, signal.SIGTERM))
                deadline = time.monotonic() + LONG
                while not refused and time.monotonic() < deadline:
                    time.sleep(0.001)
            finally:
                sys.unraisablehook = hook
            assert isinstance(refused[0], PermissionError)
            start_new_thread(os.kill, (pid, signal.SIGTERM))
            return ended(pid)

        report = gracekill(stop, flush_time=0.02)
        assert report.verdicts["escalation"].word == "STRANGER"
        assert report.verdicts["data"].status == "ok", report


# -- what is the routine's own


def test_what_the_routine_has_started(gracekill: Judge) -> None:
    def stop(pid: int) -> bool:
        context = multiprocessing.get_context("spawn")
        worker = context.Process(target=time.sleep, args=(1000,))
        worker.start()
        helpers = [subprocess.Popen(["sleep", "1000"], start_new_session=True) for _ in range(3)]
        worker.terminate()
        worker.join()
        helpers[0].kill()
        os.killpg(helpers[1].pid, signal.SIGTERM)
        psutil.Process(helpers[2].pid).terminate()
        for helper in helpers:
            helper.wait()
        return good(pid)

    gracekill(stop, flush_time=0.1).check()


@pytest.mark.parametrize("tree", [False, True])
def test_what_the_routine_has_started_starts_others(gracekill: Judge, *, tree: bool) -> None:
    def stop(pid: int) -> bool:
        with subprocess.Popen(["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=-1) as shell:
            assert shell.stdout is not None
            below = int(shell.stdout.readline())
            if tree:
                for each in [*psutil.Process(shell.pid).children(), psutil.Process(shell.pid)]:
                    each.kill()
            else:
                os.kill(below, signal.SIGKILL)
        return good(pid)

    gracekill(stop, flush_time=0.1).check()


def test_a_daemon_of_the_manager(gracekill: Judge) -> None:
    """It has left the line of descent, and has no mark: nothing of the fake runs in it."""

    def manager(child: Child) -> Iterator[Callable[[], object]]:
        daemon = int(
            subprocess.run(
                ["sh", "-c", "setsid sleep 1000 >/dev/null & echo $!"],
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
        )
        with subprocess.Popen(child.argv) as vm:
            child.wait_ready()

            def stop() -> None:
                os.kill(daemon, signal.SIGTERM)
                vm.terminate()
                vm.wait()

            try:
                yield stop
            finally:
                if psutil.pid_exists(daemon):
                    psutil.Process(daemon).kill()

    gracekill(manager, flush_time=0.1).check("escalation", "outcome", "data")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("by", ["kill", "killpg"])
def test_os_kill_is_handed_to_another_process(gracekill: Judge, method: str, by: str) -> None:
    def manager(child: Child) -> Iterator[Callable[[], object]]:
        with subprocess.Popen(child.argv, start_new_session=True) as vm:
            child.wait_ready()

            def stop() -> None:
                with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
                    pool.submit(getattr(os, by), vm.pid, signal.SIGTERM).result()
                vm.wait()

            yield stop

    gracekill(manager, flush_time=0.2).check("data", "escalation", "outcome")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_pidfd_send_signal_is_handed_to_another_process(gracekill: Judge) -> None:
    def stop(pid: int) -> bool:
        fd = os.pidfd_open(pid)
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
            pool.submit(signal.pidfd_send_signal, fd, signal.SIGTERM).result()
        os.close(fd)
        return ended(pid)

    gracekill(stop, flush_time=0.2).check("data", "escalation", "outcome")


# -- a forked child


def in_forked_child(work: Callable[[], object]) -> int:
    """Do it in a child without any of our descriptors: 0, or the errno of what it raised."""
    child = os.fork()
    if child == 0:
        os.closerange(0, 65536)
        try:
            work()
        except OSError as error:
            os._exit(error.errno or 255)
        except BaseException:  # noqa: BLE001 - it must not come back as a second pytest
            os._exit(254)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("topology", ["child", "reaped", "daemon", "zombie"])
def test_a_forked_child_without_descriptors_stops_the_vm(gracekill: Judge, topology: str) -> None:
    def stop(pid: int) -> bool:
        def work() -> None:
            os.kill(pid, signal.SIGTERM)

        assert in_forked_child(work) == 0
        return ended(pid)

    report = gracekill(stop, flush_time=0.1, topology=topology)
    report.check("data", "escalation", "outcome")
    (sent, noted) = (event for event in report.history.events() if event.kind == "signal")
    assert noted.actor == "fake"
    assert (sent.fields["to"], sent.actor.rpartition(" ")[0]) == ("vm", "forked child")
    assert "in work" in str(sent.fields["site"])


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_goes_on_when_the_trial_is_over(gracekill: Judge) -> None:
    go, told = os.pipe(), os.pipe()
    with subprocess.Popen(["sleep", "1000"]) as other:

        def stop(pid: int) -> bool:
            if os.fork() == 0:
                os.read(go[0], 1)
                try:
                    os.kill(other.pid, signal.SIGTERM)
                    os.write(told[1], b"+")
                except BaseException:  # noqa: BLE001 - it must not come back as a second pytest
                    os.write(told[1], b"-")
                os._exit(0)
            return good(pid)

        gracekill(stop, flush_time=0.1).check("escalation", "outcome")
        os.write(go[1], b".")
        assert os.read(told[0], 1) == b"+"
        assert other.wait(LONG) == -signal.SIGTERM
    os.wait()
    for fd in (*go, *told):
        os.close(fd)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_guarded_too(gracekill: Judge) -> None:
    refused: dict[str, int] = {}
    with bystander() as other:

        def stop(pid: int) -> bool:
            parent = os.getpid()
            wrong: dict[str, Callable[[], object]] = {
                "bystander": lambda: os.kill(other.pid, signal.SIGKILL),
                "our group": lambda: os.kill(0, signal.SIGUSR2),
                "everybody": lambda: os.kill(-1, signal.SIGUSR2),
                "pytest": lambda: os.kill(parent, signal.SIGUSR2),
            }
            for name, work in wrong.items():
                refused[name] = in_forked_child(work)

            def in_a_group_of_its_own() -> None:
                os.setsid()
                signal.signal(signal.SIGUSR2, signal.SIG_IGN)
                os.kill(0, signal.SIGUSR2)

            refused["its own group"] = in_forked_child(in_a_group_of_its_own)
            return good(pid)

        report = gracekill(stop, flush_time=0.1)
    assert report.verdicts["escalation"].word == "STRANGER"
    assert refused == {
        "bystander": 1,
        "our group": 1,
        "everybody": 1,
        "pytest": 1,
        "its own group": 0,
    }


# -- the process itself


def test_a_signal_to_itself_where_there_is_a_handler(gracekill: Judge) -> None:
    def stop(pid: int) -> bool:
        got: list[int] = []
        previous = signal.signal(signal.SIGUSR1, lambda signum, _: got.append(signum))
        try:
            os.kill(os.getpid(), signal.SIGUSR1)
            signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, previous)
        assert got == [signal.SIGUSR1] * 2
        return good(pid)

    gracekill(stop, flush_time=0.1).check()


# -- patches


def names() -> dict[tuple[str, str], object]:
    """Every function and class in every module, by its name there."""
    return {
        (module_name, name): value
        for module_name, module in list(sys.modules.items())
        for name, value in list(getattr(module, "__dict__", {}).items())
        if callable(value)
    }


def changed(before: dict[tuple[str, str], object]) -> list[tuple[str, str]]:
    """The names that stand for something else now."""
    after = names()
    return [key for key, value in before.items() if after.get(key) is not value]


PATCHED = [
    (os, "kill"),
    (os, "killpg"),
    (signal, "pidfd_send_signal"),
    (signal, "raise_signal"),
    (time, "monotonic"),
]
pidfd_send_signal = signal.pidfd_send_signal  # bound by name, as a module of a user's has it


@pytest.mark.parametrize(("module", "name"), PATCHED)
@pytest.mark.parametrize("made", ["before", "in the routine"])
@pytest.mark.parametrize("undone", ["in the routine", "after"])
def test_a_patch_comes_and_goes(
    gracekill: Judge, module: Any, name: str, made: str, undone: str
) -> None:
    before = names()
    real = getattr(module, name)
    patch = pytest.MonkeyPatch()

    def replacement(*arguments: Any) -> Any:
        return real(*arguments)

    def stop(pid: int) -> bool:
        if made == "in the routine":
            patch.setattr(module, name, replacement)
        signal.pidfd_send_signal(fd := os.pidfd_open(pid), signal.SIGTERM)
        os.close(fd)
        if undone == "in the routine":
            patch.undo()
        return ended(pid)

    if made == "before":
        patch.setattr(module, name, replacement)
    report = gracekill(stop, flush_time=0.1)
    report.check("data", "outcome")
    if undone == "after":
        assert getattr(module, name) is replacement, "what the test has patched stays"
        patch.undo()
        bindings.put_back()  # as after each test
    assert getattr(module, name) is real
    assert changed(before) == []


def test_a_patch_that_is_undone_when_the_test_is_over(pytester: pytest.Pytester) -> None:
    """Pytest's own monkeypatch is undone after the fixtures that were set up after it."""
    pytester.makepyfile(
        """
        import os, select, signal
        REAL = signal.pidfd_send_signal

        def test_patched(monkeypatch, gracekill):
            def stop(pid):
                monkeypatch.setattr(signal, "pidfd_send_signal", signal.pidfd_send_signal)
                fd = os.pidfd_open(pid)
                signal.pidfd_send_signal(fd, 15)
                select.select([fd], [], [], 20)
                os.close(fd)
            gracekill(stop, flush_time=0.1).check()

        def test_after():
            assert signal.pidfd_send_signal is REAL
        """
    )
    pytester.runpytest_subprocess("-p", "no:randomly").assert_outcomes(passed=2)


def test_no_signal_function_of_os_is_replaced_in_a_trial(gracekill: Judge) -> None:
    real = names()
    found: list[tuple[str, str]] = []

    def stop(pid: int) -> bool:
        found.extend(changed(real))
        return good(pid)

    gracekill(stop, flush_time=0.1, contend=[lambda: None]).check()
    assert {name for _, name in found} == {"pidfd_send_signal"}
    assert changed(real) == []


# -- what is recorded


def recorded(gracekill: Judge, whom: Callable[[int], int], signum: int = 15) -> dict[str, Any]:
    """The record of a signal to ``whom`` of the VM's pid, from the history of a trial."""

    def stop(pid: int) -> bool:
        try:
            os.kill(whom(pid), signum)
        except OSError:
            pass
        os.kill(pid, signal.SIGKILL)
        return ended(pid)

    report = gracekill(stop, flush_time=0.1)
    (first, *_) = (event for event in report.history.events() if event.kind == "signal")
    return dict(first.fields)


def dead(_vm: int) -> int:
    gone = subprocess.Popen(["true"])
    gone.wait()
    return gone.pid


def test_a_signal_to_a_pid_that_nobody_has(gracekill: Judge) -> None:
    fields = recorded(gracekill, dead)
    assert (fields["to"], fields["errno"]) == ("nobody", 3)
    assert str(fields["pid"]) in str(fields["target"])


def test_a_signal_to_a_zombie(gracekill: Judge) -> None:
    left: list[subprocess.Popen[bytes]] = []

    def zombie(_vm: int) -> int:
        left.append(subprocess.Popen(["true"]))
        os.waitid(os.P_PID, left[0].pid, os.WEXITED | os.WNOWAIT)
        return left[0].pid

    fields = recorded(gracekill, zombie)
    left[0].wait()
    assert (fields["to"], fields["errno"], fields["comm"]) == ("nobody", None, "true")


def test_a_signal_to_the_routines_own(gracekill: Judge) -> None:
    left: list[subprocess.Popen[bytes]] = []

    def helper(_vm: int) -> int:
        left.append(subprocess.Popen(["sleep", "1000"]))
        while psutil.Process(left[0].pid).name() != "sleep":
            time.sleep(0.001)  # it execs
        return left[0].pid

    fields = recorded(gracekill, helper)
    left[0].wait()
    assert (fields["to"], fields["errno"], fields["comm"]) == ("routine's process", None, "sleep")
    assert fields["pid"] == left[0].pid


def test_a_signal_that_there_is_not(gracekill: Judge) -> None:
    fields = recorded(gracekill, lambda pid: pid, 999)
    assert (fields["to"], fields["errno"]) == ("vm", 22)


def test_a_signal_to_itself_that_there_is_not(gracekill: Judge) -> None:
    fields = recorded(gracekill, lambda _: os.getpid(), 999)
    assert (fields["to"], fields["errno"], fields["refused"]) == ("itself", 22, False)


def test_the_line_in_a_file_of_the_same_name_as_one_of_ours(
    gracekill: Judge, tmp_path: Path
) -> None:
    for name in ("process.py", "signals.py", "subprocess.py"):
        file = tmp_path / name
        file.write_text("import os\ndef send(pid):\n    os.kill(pid, 9)\n")
        module: dict[str, Any] = {}
        exec(compile(file.read_text(), str(file), "exec"), module)

        def stop(pid: int, module: dict[str, Any] = module) -> bool:
            module["send"](pid)
            return ended(pid)

        report = gracekill(stop, flush_time=0.0)
        (site,) = (e.fields["site"] for e in report.history.events() if e.kind == "signal")
        assert f"{name}:3 in send" in str(site)
