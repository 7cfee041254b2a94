"""Clients that others wrote drive the fake, unchanged: `qemu.qmp`, labgrid's `QEMUDriver`.

`QEMUMachine` is missing here: of PyPI's `qemu` there is one release (0.0.0a1), an empty package.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from math import floor
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gracekill.child import mark as marks
from pytest_gracekill.child.handle import spawn
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.child.unstarted import Unstarted

qmp = pytest.importorskip("qemu.qmp")

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
    from pathlib import Path

    from pytest_gracekill import FakeQemu, Report
    from pytest_gracekill.child.unstarted import Child
    from pytest_gracekill.fixtures import Judge

WITHIN = 20.0
VERSION = {
    "qemu": {"micro": 22, "minor": 2, "major": 7},
    "package": "Debian 1:7.2+dfsg-7+deb12u18+b3",
}


def run(work: Callable[[Any], Awaitable[None]], address: str | socket.socket) -> None:
    """Connect with the official client, do the work, and disconnect as it asks for."""

    async def connected() -> None:
        client = qmp.QMPClient("vm")
        await client.connect(address)
        try:
            await work(client)
        finally:
            # it tells of the VM's end in the middle of a disconnection as of an error
            with suppress(EOFError):
                await client.disconnect()

    async def in_time() -> None:
        await asyncio.wait_for(connected(), WITHIN)

    asyncio.run(in_time())


async def heard(events: AsyncIterator[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < count:
        found.append(await anext(events))
        stamp = found[-1].pop("timestamp")
        assert set(stamp) == {"seconds", "microseconds"}
    return found


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[FakeQemu]:
    vm = spawn(Knobs(qmp=True, flush_time=0.2), tmp_path / "vm")
    yield vm
    vm.close()


async def everything(client: Any) -> None:
    """What a manager does with a VM, up to its end."""
    assert client.greeting.QMP.version == VERSION
    assert client.greeting.QMP.capabilities == ["oob"]
    with client.listener() as listener:
        events = aiter(listener)
        assert await client.execute("query-version") == VERSION
        running = {"status": "running", "singlestep": False, "running": True}
        assert await client.execute("query-status") == running
        (block,) = await client.execute("query-block")
        assert block["inserted"]["image"]["format"] == "raw"
        with pytest.raises(qmp.ExecuteError) as unknown:
            await client.execute("no-such-command")
        assert unknown.value.error_class == "CommandNotFound"
        assert str(unknown.value) == "The command no-such-command has not been found"
        with pytest.raises(qmp.ExecuteError, match="Parameter 'x' is unexpected"):
            await client.execute("stop", {"x": 1})
        with pytest.raises(qmp.ExecuteError, match="does not support OOB"):
            await client.execute("query-status", oob=True)
        assert await client.execute("stop") == {}
        assert (await client.execute("query-status"))["status"] == "paused"
        assert await client.execute("cont") == {}
        assert await client.execute("system_reset") == {}
        answers = await asyncio.gather(*(client.execute("query-name") for _ in range(20)))
        assert answers == [{}] * 20
        assert await client.execute("quit") == {}
        assert await heard(events, 4) == [
            {"event": "STOP"},
            {"event": "RESUME"},
            {"event": "RESET", "data": {"guest": False, "reason": "host-qmp-system-reset"}},
            {"event": "SHUTDOWN", "data": {"guest": False, "reason": "host-qmp-quit"}},
        ]


def flushed(vm: FakeQemu) -> None:
    assert vm.wait(WITHIN).code == 0
    assert vm.disk.audit().ok


def test_qemu_qmp_by_path(machine: FakeQemu) -> None:
    assert machine.qmp is not None
    run(everything, machine.qmp)
    flushed(machine)


@pytest.mark.parametrize("wait", ["", ",server=on,wait=off"])
def test_qemu_qmp_by_a_passed_descriptor(tmp_path: Path, wait: str) -> None:
    """A connected pair of sockets, and a socket that listens."""
    with ExitStack() as stack:
        unstarted = Unstarted(Knobs(flush_time=0.2), tmp_path / "vm")
        stack.callback(unstarted.close)
        if wait:
            theirs = stack.enter_context(socket.socket(socket.AF_UNIX))
            theirs.bind(str(tmp_path / "q"))
            theirs.listen(1)
            address: str | socket.socket = str(tmp_path / "q")
        else:
            address, theirs = socket.socketpair()
            stack.enter_context(address)
        fd = theirs.fileno()
        vm = subprocess.Popen(
            [unstarted.child.program, "-display", "none", "-vga", "none", "-chardev",
             f"socket,id=mon,fd={fd}{wait}", "-mon", "chardev=mon,mode=control"],
            pass_fds=[fd],
        )  # fmt: skip
        stack.enter_context(vm)
        stack.callback(vm.kill)
        theirs.close()
        run(everything, address)
        assert vm.wait(WITHIN) == 0
        flushed(unstarted.ready_vm(WITHIN))


def test_qemu_qmp_sees_who_asked_for_the_end(machine: FakeQemu) -> None:
    assert machine.qmp is not None
    assert machine.popen is not None
    end = machine.popen

    async def signalled(client: Any) -> None:
        with client.listener() as listener:
            end.terminate()
            assert await heard(aiter(listener), 1) == [
                {"event": "SHUTDOWN", "data": {"guest": False, "reason": "host-signal"}}
            ]
            # nothing is answered any more, and the end of the flush is the end of file
            with pytest.raises(qmp.ExecInterruptedError):
                await client.execute("query-status")

    run(signalled, machine.qmp)
    flushed(machine)


def test_qemu_qmp_presses_the_power_button(machine: FakeQemu) -> None:
    assert machine.qmp is not None

    async def pressed(client: Any) -> None:
        with client.listener() as listener:
            assert await client.execute("system_powerdown") == {}
            assert await heard(aiter(listener), 2) == [
                {"event": "POWERDOWN"},
                {"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}},
            ]

    run(pressed, machine.qmp)
    flushed(machine)


# -- managers that stop by QMP, judged


def quit_of(path: Path) -> None:
    """Ask the VM to quit; return when it has said that it has."""

    async def quits(client: Any) -> None:
        await client.execute("quit")

    run(quits, str(path))


def start(child: Child) -> subprocess.Popen[bytes]:
    options = ["-m", "64", "-qmp", f"unix:{child.dir}/monitor,server=on,wait=off"]
    popen = subprocess.Popen([*child.argv, *options], stdin=subprocess.DEVNULL)
    child.wait_ready()
    return popen


def by_quit(child: Child) -> Generator[Callable[[], object]]:
    popen = start(child)

    def stop() -> int:
        quit_of(child.dir / "monitor")
        return popen.wait(WITHIN)

    yield stop
    assert popen.returncode == 0


def by_quit_and_kill(child: Child) -> Generator[Callable[[], object]]:
    popen = start(child)

    def stop() -> int:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(child.dir / "monitor"))
            client.sendall(b'{"execute": "qmp_capabilities"}{"execute": "quit"}')
            try:
                return popen.wait(0.2)
            except subprocess.TimeoutExpired:
                popen.kill()
                return popen.wait(WITHIN)

    yield stop


def words(report: Report) -> dict[str, tuple[str, ...]]:
    return {
        name: (verdict.word, *verdict.also)
        for name, verdict in report.verdicts.items()
        if verdict.status != "ok"
    }


def check_lost(report: Report) -> None:
    """Of twenty blocks one a second is written in time, and what comes after them is lost."""
    found = re.search(
        r"the flush needed 20\.00 s, the grace was (\d+\.\d+) s",
        report.verdicts["escalation"].evidence.replace("\n", " "),
    )
    assert found is not None
    given = float(found[1])
    # from when the VM took note, which a busy machine makes later
    assert given > 0
    lost = report.disk.lost
    assert len(lost) >= 20 - floor(given + 0.01)
    assert lost == list(range(20 - len(lost), 20))


def test_a_manager_that_quits_and_waits_is_right(gracekill: Judge) -> None:
    report = gracekill(by_quit, flush_time=0.3)
    report.check()
    assert report.disk.lost == []
    assert report.verdicts["escalation"].evidence.startswith("QMP quit t+")
    assert not report.sigkill_sent


def test_a_manager_that_quits_and_kills_is_judged_from_the_quit(gracekill: Judge) -> None:
    report = gracekill(by_quit_and_kill, flush_time=20, blocks=20)
    expected = {"data": ("DATA LOST",), "escalation": ("KILLED EARLY",)}
    assert words(report) == expected, str(report)
    assert report.verdicts["escalation"].evidence.startswith("QMP quit t+")
    check_lost(report)


def daemonised(child: Child) -> int:
    """Start the VM with `-daemonize`, as nobody's child; a pidfd of it."""
    options = ["-daemonize", "-pidfile", "vm.pid", "-qmp", "unix:monitor,server=on,wait=off"]
    subprocess.run([child.program, *options], cwd=child.dir, check=True, timeout=WITHIN)
    child.wait_ready()
    assert int((child.dir / "vm.pid").read_text()) == child.pid
    return os.pidfd_open(child.pid)


def daemon_by_quit(child: Child) -> Generator[Callable[[], object]]:
    pidfd = daemonised(child)

    def stop() -> bool:
        quit_of(child.dir / "monitor")
        return marks.await_end(pidfd, WITHIN)

    yield stop
    os.close(pidfd)
    assert not (child.dir / "vm.pid").exists()


def daemon_by_kill(child: Child) -> Generator[Callable[[], object]]:
    pidfd = daemonised(child)

    def stop() -> bool:
        words = f"kill {child.pid}; sleep 0.2; kill -9 {child.pid}"
        subprocess.run(["sh", "-c", words], check=True, timeout=WITHIN)
        return marks.await_end(pidfd, WITHIN)

    yield stop
    os.close(pidfd)


def test_a_daemonised_vm_is_judged_by_its_own_pid(gracekill: Judge) -> None:
    report = gracekill(daemon_by_quit, flush_time=0.3)
    report.check()
    assert report.disk.lost == []
    assert report.verdicts["escalation"].evidence.startswith("QMP quit t+")


def test_a_daemonised_vm_that_a_command_kills(gracekill: Judge) -> None:
    report = gracekill(daemon_by_kill, flush_time=20, blocks=20)
    expected = {"data": ("DATA LOST",), "escalation": ("KILLED EARLY",)}
    assert words(report) == expected, str(report)
    check_lost(report)


# -- labgrid


labgrid_needed = pytest.mark.skipif(find_spec("labgrid") is None, reason="labgrid is not there")


def driver_of(child: Child) -> Any:
    """The driver of labgrid, with the fake's program as its QEMU."""
    from labgrid import Environment, Target
    from labgrid.driver import QEMUDriver

    config = child.dir / "labgrid.yaml"
    config.write_text(f'targets:\n  main:\n    drivers: {{}}\ntools:\n  qemu: "{child.program}"\n')
    target = Target("main", env=Environment(str(config)))
    return QEMUDriver(
        target, "qemu", qemu_bin="qemu", machine="q35", cpu="max", memory="64M", display="none"
    )


def by_labgrid(child: Child) -> Generator[Callable[[], object]]:
    """Its `on()` starts with `-S -qmp stdio`, takes the serial line's connection and says cont."""
    driver = driver_of(child)
    driver.target.activate(driver)
    driver.on()
    assert driver.monitor_command("query-status")["status"] == "running"
    assert driver.monitor_command("query-version") == VERSION
    driver.add_port_forward("tcp", "127.0.0.1", 5022, "127.0.0.1", 22)
    yield driver.off
    driver.target.deactivate(driver)


def by_labgrid_at_exit(child: Child) -> Generator[Callable[[], object]]:
    driver = driver_of(child)
    driver.target.activate(driver)
    driver.on()
    vm = driver._child
    yield driver._atexit
    # what it leaves: a pipe to a VM that has ended
    vm.stdin.close()
    driver._child, driver.status = None, 0
    driver.target.deactivate(driver)


@labgrid_needed
def test_labgrids_driver_drives_it_and_stops_it_right(gracekill: Judge) -> None:
    report = gracekill(by_labgrid, flush_time=0.3)
    report.check()
    assert report.disk.lost == []
    assert report.verdicts["escalation"].evidence.startswith("QMP quit t+")


@labgrid_needed
def test_labgrids_exit_kills_after_a_second(gracekill: Judge) -> None:
    report = gracekill(by_labgrid_at_exit, flush_time=20, blocks=20)
    expected = {"data": ("DATA LOST",), "escalation": ("KILLED EARLY",)}
    assert words(report) == expected, str(report)
    check_lost(report)
