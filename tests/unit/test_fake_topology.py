"""Who starts, who reaps, and what the rest of the system sees of the VM."""

import os
import signal
import subprocess
import time

import pytest
from fakes import Spawn, await_line

from pytest_gracekill.child import mark as marks
from pytest_gracekill.child.handle import FakeQemu
from pytest_gracekill.child.program.lifeline import ORPHAN

TOPOLOGIES = ("child", "reaped", "zombie", "daemon", "wrapped", "leaderless")


def parent(pid: int) -> int:
    return int(marks.stat_fields(pid)[1])


def role(fake: FakeQemu, name: str) -> int:
    lines = [entry for entry in fake.journal.entries() if entry.fields.get("role") == name]
    return lines[-1].number("pid") if lines else -1


def await_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while marks.state(pid):
        assert time.monotonic() < deadline, f"pid {pid} ({marks.state(pid)}) still there after 20 s"
        time.sleep(0.001)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_each_topology_flushes_and_tells_its_status(fake: Spawn, topology: str) -> None:
    machine = fake(flush_time=0.05, topology=topology, exit_status=4)
    assert machine.alive
    assert machine.exit is None
    assert int((machine.dir / "pid").read_text()) == machine.pid == role(machine, "vm")
    os.kill(machine.pid, signal.SIGTERM)
    ended = machine.wait(20)
    assert (ended.code, ended.signal) == (4, None)
    assert not machine.alive
    assert machine.disk.audit().ok
    assert machine.disk.audit() == machine.disk.audit()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT])
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_each_topology_tells_by_which_signal_it_died(
    fake: Spawn, topology: str, number: int
) -> None:
    machine = fake(topology=topology, reaper_delay=20)
    os.kill(machine.pid, number)
    ended = machine.wait(20)
    assert (ended.code, ended.signal) == (None, number)
    assert machine.disk.audit().lost == list(range(64))


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_the_handle_has_the_pids_that_a_manager_would_have(fake: Spawn, topology: str) -> None:
    machine = fake(topology=topology)
    ours = topology in ("child", "wrapped", "leaderless")
    assert (machine.popen is not None) is ours
    if machine.popen is not None:
        assert machine.started_pid == machine.popen.pid
    assert (machine.started_pid == machine.pid) is (topology != "wrapped")
    assert machine.processes() == ([machine.started_pid] if topology == "wrapped" else [])
    fork = {"child": "", "leaderless": "", "daemon": "subreaper", "wrapped": "wrapper"}
    started_by = fork.get(topology, "reaper")
    deadline = time.monotonic() + 20
    while started_by and role(machine, started_by) < 0:
        assert time.monotonic() < deadline, "it writes its role beside the VM's start"
        time.sleep(0.002)
    assert parent(machine.pid) == (role(machine, started_by) if started_by else os.getpid())


@pytest.mark.parametrize("topology", ["reaped", "zombie", "daemon"])
def test_a_signal_to_the_group_does_not_reach_the_infrastructure(
    fake: Spawn, topology: str
) -> None:
    machine = fake(topology=topology, reaper_delay=0.1)
    assert os.getsid(machine.pid) != os.getsid(parent(machine.pid))
    os.killpg(os.getpgid(machine.pid), signal.SIGKILL)
    reaped = await_line(machine, "reaped")
    assert dict(reaped.fields) == {"pid": machine.pid, "signal": 9}


def test_a_child_is_a_zombie_until_we_reap_it_and_knowing_its_exit_does_not(fake: Spawn) -> None:
    machine = fake(flush_time=0)
    os.kill(machine.pid, signal.SIGTERM)
    assert machine.wait(20).code == 0
    assert marks.state(machine.pid) == "Z"
    assert machine.popen is not None
    assert os.waitpid(machine.pid, 0) == (machine.pid, 0)


@pytest.mark.parametrize("topology", ["reaped", "daemon"])
def test_somebody_else_reaps_at_once(fake: Spawn, topology: str) -> None:
    machine = fake(flush_time=0, topology=topology)
    with pytest.raises(ChildProcessError):
        os.waitpid(machine.pid, 0)
    os.kill(machine.pid, signal.SIGTERM)
    machine.wait(20)
    await_gone(machine.pid)
    with pytest.raises(ProcessLookupError):
        os.kill(machine.pid, 0)


@pytest.mark.parametrize("delay", [0.0, 0.5])
def test_a_zombie_stays_for_its_delay(fake: Spawn, delay: float) -> None:
    machine = fake(flush_time=0, topology="zombie", reaper_delay=delay)
    os.kill(machine.pid, signal.SIGTERM)
    assert machine.wait(20).code == 0
    if delay:
        assert marks.state(machine.pid) == "Z"
        os.kill(machine.pid, 0)
    reaped = await_line(machine, "reaped")
    await_gone(machine.pid)
    died = await_line(machine, "died")
    assert reaped.at_ns - died.at_ns >= delay * 1e9


def test_a_wrapper_forwards_nothing_and_is_in_the_same_group(fake: Spawn) -> None:
    machine = fake(flush_time=0.02, topology="wrapped")
    assert os.getpgid(machine.pid) == machine.started_pid
    assert machine.popen is not None
    os.kill(machine.started_pid, signal.SIGTERM)
    assert machine.popen.wait(20) == -signal.SIGTERM
    assert machine.alive
    assert machine.processes() == []
    assert machine.journal.last("signal") is None
    os.kill(machine.pid, signal.SIGTERM)
    assert machine.wait(20).code == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 6), (signal.SIGKILL, 137)])
def test_a_wrapper_exits_with_the_status_of_the_vm(fake: Spawn, number: int, status: int) -> None:
    machine = fake(flush_time=0.02, topology="wrapped", exit_status=6)
    os.kill(machine.pid, number)
    assert machine.popen is not None
    assert machine.popen.wait(20) == status


def test_an_orphan_of_a_killed_wrapper_that_is_killed_ends_somehow(fake: Spawn) -> None:
    machine = fake(topology="wrapped")
    os.kill(machine.started_pid, signal.SIGKILL)
    assert machine.popen is not None
    machine.popen.wait(20)
    os.kill(machine.pid, signal.SIGKILL)
    ended = machine.wait(20)
    assert ended.code is None
    assert ended.signal in (None, signal.SIGKILL)  # the kernel tells since Linux 6.15


def test_leaderless_looks_like_a_zombie_and_lives(fake: Spawn) -> None:
    machine = fake(flush_time=0.3, topology="leaderless")
    assert marks.state(machine.pid) == "Z"
    assert machine.alive
    assert machine.disk.locked()
    os.kill(machine.pid, signal.SIGTERM)
    await_line(machine, "block", 5)
    assert machine.alive
    assert machine.wait(20).code == 0
    assert machine.disk.audit().ok


@pytest.mark.parametrize("topology", ["child", "leaderless"])
def test_the_exit_is_known_although_the_routine_reaps_first(fake: Spawn, topology: str) -> None:
    for _ in range(5):
        machine = fake(topology=topology)
        assert machine.popen is not None
        machine.popen.kill()
        machine.popen.wait(20)
        assert machine.wait(20).signal == signal.SIGKILL


def test_the_exit_status_of_a_daemon_whose_subreaper_was_killed_is_no_guess(fake: Spawn) -> None:
    machine = fake(topology="daemon")
    os.kill(parent(machine.pid), signal.SIGKILL)
    os.kill(machine.pid, signal.SIGKILL)
    ended = machine.wait(20)
    assert ended.code is None
    assert ended.signal in (None, signal.SIGKILL)


def test_waiting_too_short_names_the_pid_and_its_state(fake: Spawn) -> None:
    machine = fake(flush_profile="never")
    with pytest.raises(TimeoutError, match=rf"fake pid {machine.pid} \(state [SR]\) still runs"):
        machine.wait(0.01)


def test_the_program_file_runs_by_itself(fake: Spawn) -> None:
    machine = fake()
    program = machine.dir / "qemu-system-x86_64"
    assert os.access(program, os.X_OK)
    machine.close()
    # without the mark there is nobody to live for
    done = subprocess.run([program], capture_output=True, timeout=20, check=False)
    assert (done.returncode, done.stderr) == (ORPHAN, b"")
