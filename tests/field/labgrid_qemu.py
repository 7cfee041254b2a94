"""labgrid: its driver for boards that are QEMU; it speaks QMP on QEMU's standard streams."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .shipped import KILL, UNBOUNDED, Shipped, Step, term

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from labgrid.driver import QEMUDriver

    from pytest_gracekill.child.unstarted import Child


def running(child: Child) -> QEMUDriver:
    from labgrid import Environment, Target
    from labgrid.driver import QEMUDriver

    configuration = Path(child.dir, "labgrid.yaml")
    configuration.write_text(f"targets: {{main: {{}}}}\ntools: {{qemu: {child.program}}}\n")
    target = Target("main", env=Environment(str(configuration)))
    driver = QEMUDriver(target, "vm", qemu_bin="qemu", machine="pc", cpu="max", memory="64M")
    target.activate(driver)
    driver.on()
    return driver


def off(child: Child) -> Iterator[Callable[[], None]]:
    driver = running(child)
    yield driver.off
    tidy(driver)


def atexit(child: Child) -> Iterator[Callable[[], None]]:
    driver = running(child)
    yield driver._atexit
    driver.status = 0  # the process ends here, as far as labgrid knows
    tidy(driver)


def tidy(driver: QEMUDriver) -> None:
    driver._child = None
    driver.target.deactivate(driver)


SHIPPED = (
    Shipped(
        key="labgrid-off",
        call="labgrid QEMUDriver.off()",
        routine=off,
        steps=(Step(send="QMP quit", wait=UNBOUNDED),),
        source="labgrid/driver/qemudriver.py: QEMUDriver.off",
        package="labgrid",
    ),
    Shipped(
        key="labgrid-atexit",
        call="labgrid, when Python ends",
        routine=atexit,
        steps=(term(1), KILL),
        source="labgrid/driver/qemudriver.py: QEMUDriver._atexit",
        package="labgrid",
        force=True,
    ),
)
