"""Helper processes of the fake: who ends them, and what they keep open."""

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import Spawn, await_line

from pytest_gracekill.child import mark as marks
from pytest_gracekill.child.handle import spawn
from pytest_gracekill.child.knobs import Knobs


def ended(pidfd: int) -> bool:
    """Wait for the end of a process; no end is what most of the tests here are about."""
    return bool(select.select([pidfd], [], [], 10)[0])


@pytest.fixture
def watch() -> Iterator[Callable[[int], int]]:
    with contextlib.ExitStack() as stack:

        def open_pidfd(pid: int) -> int:
            pidfd = os.pidfd_open(pid)
            stack.callback(os.close, pidfd)
            return pidfd

        yield open_pidfd


@pytest.mark.parametrize("topology", ["child", "reaped", "daemon", "leaderless"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_there_are_as_many_as_asked_for_and_they_survive_sigkill(
    fake: Spawn, count: int, topology: str
) -> None:
    machine = fake(helpers=count, topology=topology)
    helpers = machine.processes()
    assert len(helpers) == count
    os.kill(machine.pid, signal.SIGKILL)
    machine.wait(20)
    assert machine.processes() == helpers
    machine.kill()
    assert machine.processes() == []


def test_a_clean_exit_ends_and_reaps_them(fake: Spawn) -> None:
    machine = fake(flush_time=0, helpers=2)
    helpers = machine.processes()
    os.kill(machine.pid, signal.SIGTERM)
    machine.wait(20)
    assert [marks.state(pid) for pid in helpers] == ["", ""]
    assert machine.processes() == []


@pytest.mark.parametrize("ignores", [False, True])
def test_sigterm_ends_them_unless_they_ignore_it(
    fake: Spawn,
    watch: Callable[[int], int],
    ignores: bool,  # noqa: FBT001  # a parameter
) -> None:
    machine = fake(flush_time=0, helpers=2, helper={"ignores_term"} if ignores else set())
    first, second = machine.processes()
    pidfd = watch(first)
    os.kill(first, signal.SIGTERM)
    if not ignores:
        assert ended(pidfd)
    os.kill(machine.pid, signal.SIGTERM)
    assert machine.wait(20).code == 0
    assert machine.processes() == ([first, second] if ignores else [])


@pytest.mark.parametrize("session", [False, True])
def test_a_signal_to_the_group_reaches_those_of_the_same_session(
    fake: Spawn,
    watch: Callable[[int], int],
    session: bool,  # noqa: FBT001  # a parameter
) -> None:
    machine = fake(helpers=1, helper={"session"} if session else set())
    (helper,) = machine.processes()
    pidfd = watch(helper)
    assert (os.getsid(helper) == os.getsid(machine.pid)) is not session
    os.killpg(os.getpgid(machine.pid), signal.SIGKILL)
    machine.wait(20)
    if session:
        assert machine.processes() == [helper]
    else:
        assert ended(pidfd)


@pytest.mark.parametrize("holds", [False, True])
def test_a_reader_of_stdout_sees_its_end_unless_a_helper_holds_it(
    tmp_path: Path,
    holds: bool,  # noqa: FBT001  # a parameter
) -> None:  # a parameter
    knobs = Knobs(helpers=1, helper=frozenset({"holds_stdout"} if holds else ()))
    machine = spawn(knobs, tmp_path / "fake", stdout=subprocess.PIPE)
    try:
        assert machine.popen is not None
        assert machine.popen.stdout is not None
        os.kill(machine.pid, signal.SIGKILL)
        machine.wait(20)
        # end of file, as communicate() waits for
        readable = select.select([machine.popen.stdout], [], [], 0.2 if holds else 10)[0]
        assert bool(readable) is not holds
    finally:
        machine.close()


@pytest.mark.parametrize("holds", [False, True])
def test_the_lock_outlives_the_vm_if_a_helper_holds_it(fake: Spawn, holds: bool) -> None:  # noqa: FBT001  # a parameter
    machine = fake(helpers=1, helper={"holds_lock"} if holds else set())
    os.kill(machine.pid, signal.SIGKILL)
    machine.wait(20)
    assert machine.disk.locked() is holds
    machine.kill()
    assert not machine.disk.locked()


def test_helpers_do_not_delay_the_exit_that_the_vm_took(fake: Spawn) -> None:
    machine = fake(flush_time=0, helpers=1)
    (helper,) = machine.processes()
    os.kill(helper, signal.SIGSTOP)
    os.kill(machine.pid, signal.SIGTERM)
    assert machine.wait(20).code == 0


def test_helpers_are_no_part_of_a_bare_fake(fake: Spawn) -> None:
    machine = fake()
    await_line(machine, "ready")
    roles = [e.fields["role"] for e in machine.journal.entries() if e.event == "role"]
    assert roles == ["vm"]
