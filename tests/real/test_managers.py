"""Other people's VM managers, as they are, start a real QEMU and stop it."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.fixtures import SETTLED

if TYPE_CHECKING:
    from jumpstarter_driver_qemu.driver import Qemu, QemuPower
    from labgrid.driver import QEMUDriver

    from pytest_gracekill import RealChild
    from pytest_gracekill.fixtures import Judge, StartReal

# when QEMU has let go of its disk, a busy machine still has to end the process
pytestmark = pytest.mark.gracekill(slack=5.0)


def disk_of(child: RealChild) -> list[str]:
    """The disk, with no device: a firmware would set that up without a write cache."""
    server = f"file.driver=nbd,file.server.type=unix,file.server.path={child.disk}"
    return ["-blockdev", f"driver=qcow2,node-name=ours,{server}"]


class Labgrid:
    """labgrid's driver for boards that are QEMU; it speaks QMP on QEMU's standard streams."""

    driver: QEMUDriver

    def start(self, child: RealChild) -> None:
        from labgrid import Environment, Target
        from labgrid.driver import QEMUDriver

        configuration = Path(child.dir, "labgrid.yaml")
        configuration.write_text(f"targets: {{main: {{}}}}\ntools: {{qemu: {child.program}}}\n")
        target = Target("main", env=Environment(str(configuration)))
        self.driver = QEMUDriver(
            *(target, "vm"),
            qemu_bin="qemu",
            machine="pc",
            cpu="max",
            memory="64M",
            extra_args=shlex.join(disk_of(child)),
        )
        target.activate(self.driver)
        self.driver.on()

    def off(self, pid: int) -> None:  # noqa: ARG002 - says what it is
        self.driver.off()

    def atexit(self, pid: int) -> None:  # noqa: ARG002 - says what it is
        self.driver._atexit()
        self.driver.status = 0  # the process ends here, as far as labgrid knows

    def tidy(self) -> None:
        self.driver._child = None
        self.driver.target.deactivate(self.driver)


class Jumpstarter:
    """Jumpstarter's driver; it finds QEMU on PATH, and takes no options: a script adds the disk."""

    driver: Qemu | None = None

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def start(self, child: RealChild) -> None:
        from jumpstarter_driver_qemu import driver

        folder = child.dir / "path"
        folder.mkdir()
        script = folder / "qemu-system-x86_64"
        script.write_text(f'#!/bin/sh\nexec {child.program} "$@" {shlex.join(disk_of(child))}\n')
        script.chmod(0o755)
        # it takes KVM and vsock where the machine has them, and they may not work in here
        elsewhere = SimpleNamespace(machine=lambda: "elsewhere", system=lambda: "elsewhere")
        self._monkeypatch.setattr(driver, "platform", elsewhere)
        self._monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        self.driver = driver.Qemu(arch="x86_64", mem="64M", smp=1)
        asyncio.run(self._power.on())

    @property
    def _power(self) -> QemuPower:
        assert self.driver is not None
        power: QemuPower = self.driver.children["power"]
        return power

    def off(self, pid: int) -> None:  # noqa: ARG002 - says what it is
        self._power.off()

    def tidy(self) -> None:
        if self.driver is not None:
            self.driver._tmp_dir.cleanup()


def test_labgrid_waits_for_what_its_quit_takes(gracekill: Judge, real_qemu: StartReal) -> None:
    labgrid = Labgrid()
    vm = real_qemu(start=labgrid.start, flush_time=1.5)
    report = gracekill(labgrid.off, vm=vm)
    labgrid.tidy()
    report.check()
    assert len(report.disk.acknowledged) == 64


def test_labgrid_loses_data_when_python_ends(gracekill: Judge, real_qemu: StartReal) -> None:
    labgrid = Labgrid()
    vm = real_qemu(start=labgrid.start, gate="held")
    report = gracekill(labgrid.atexit, vm=vm, force=True)
    labgrid.tidy()
    assert report.disk.lost == list(range(64))
    assert report.verdicts["data"].word == "DATA LOST"
    assert "SIGTERM t+" in report.verdicts["escalation"].evidence
    assert "SIGKILL t+" in report.verdicts["escalation"].evidence


@pytest.fixture
def jumpstarter(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Jumpstarter]:
    if importlib.util.find_spec("jumpstarter_driver_qemu") is None:
        required = request.config.stash[SETTLED]["require_qemu"].value
        (pytest.fail if required else pytest.skip)(
            "jumpstarter-driver-qemu is not installed: pip install jumpstarter-driver-qemu"
        )
    made = Jumpstarter(monkeypatch)
    yield made
    made.tidy()


# it forgets a process, and a folder, that it has not waited for or taken away
forgetful = pytest.mark.filterwarnings(
    "ignore:Implicitly cleaning up:ResourceWarning",
    "ignore:subprocess .* is still running:ResourceWarning",
)


@forgetful
def test_jumpstarter_waits_for_a_short_flush(
    gracekill: Judge, real_qemu: StartReal, jumpstarter: Jumpstarter
) -> None:
    report = gracekill(jumpstarter.off, vm=real_qemu(start=jumpstarter.start, flush_time=1.0))
    report.check()
    assert len(report.disk.acknowledged) == 64


@forgetful
def test_jumpstarter_loses_data_after_five_seconds(
    gracekill: Judge, real_qemu: StartReal, jumpstarter: Jumpstarter
) -> None:
    vm = real_qemu(start=jumpstarter.start, gate="held")
    report = gracekill(jumpstarter.off, vm=vm, force=True)
    assert report.disk.lost == list(range(64))
    assert report.verdicts["data"].word == "DATA LOST"
    assert "SIGTERM t+" in report.verdicts["escalation"].evidence
    assert "SIGKILL t+" in report.verdicts["escalation"].evidence
