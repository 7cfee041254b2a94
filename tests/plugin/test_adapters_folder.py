"""The folder of an adapter is its own: the fake has no file there, and no name is reserved."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill import Child, External

if TYPE_CHECKING:
    from pytest_gracekill.fixtures import Judge

#: Every name that the fake, its start and the commands have ever had beside their own.
NAMES = (
    *("pid", "disk", "journal", "mark", "ready", "qmp", "stderr", "stdout"),
    *("qemu-system-x86_64", "start.log", "start.mark", "stop-1.log", "stop-1.mark", "own"),
)


def test_a_manager_may_write_any_file(gracekill: Judge) -> None:
    seen: list[list[str]] = []

    def manager(child: Child) -> Iterator[Callable[[], object]]:
        seen.append([path.name for path in child.dir.iterdir()])
        for name in NAMES:
            (child.dir / name).write_text(name)
        vm = subprocess.Popen(child.argv)
        child.wait_ready()
        assert child.pid_file.read_text() == f"{vm.pid}\n"

        def stop() -> object:
            vm.terminate()
            return vm.wait(20)

        yield stop
        assert {path.name: path.read_text() for path in child.dir.iterdir()} == {
            n: n for n in NAMES
        }

    gracekill(manager, flush_time=0.1, qmp=True).check()
    assert seen == [[]], "it is empty at first"


def test_a_manager_may_have_its_own_monitor_there(gracekill: Judge) -> None:
    def manager(child: Child) -> Iterator[Callable[[], object]]:
        options = ["-qmp", f"unix:{child.dir}/qmp,server=on,wait=off"]
        vm = subprocess.Popen([child.program, *options, "-pidfile", f"{child.dir}/pid"])
        child.wait_ready()
        assert (child.dir / "pid").read_text() == f"{vm.pid}\n"

        def stop() -> object:
            with socket.socket(socket.AF_UNIX) as monitor:
                monitor.connect(f"{child.dir}/qmp")
                monitor.sendall(b'{"execute": "qmp_capabilities"}{"execute": "quit"}')
                return vm.wait(20)

        yield stop
        assert not list(child.dir.iterdir()), "the fake takes away what it was told to make"

    gracekill(manager, flush_time=0.1, qmp=True).check()


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_an_external_may_have_any_name(gracekill: Judge, name: str) -> None:
    stop = "kill {pid}; while [ -e /proc/{pid} ]; do sleep 0.02; done; grep -qx mine {dir}/" + name
    report = gracekill(
        External(
            start=["sh", "-c", "{argv} & echo theirs >{dir}/" + name + "; wait"],
            stop=["sh", "-c", f"echo mine >{{dir}}/{name}; {stop}"],
            files={name: "first"},
        ),
        flush_time=0.1,
    )
    report.check()


def test_the_fake_is_told_of_by_its_own_names(gracekill: Judge, tmp_path: Path) -> None:
    told = tmp_path / "told"
    gone = "while [ -e /proc/{pid} ]; do sleep 0.02; done"
    script = f"cat {{pid_file}} >{told}; kill {{pid}}; {gone}"
    gracekill(External(stop=["sh", "-c", script]), topology="daemon", flush_time=0.05).check()
    assert int(told.read_text()) > 1
