"""Domains for libvirt, and what others ask of libvirt while one of them is being destroyed."""

from __future__ import annotations

import contextlib
import functools
import time
from typing import TYPE_CHECKING

import libvirt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from libvirt_daemon import Libvirtd

    from pytest_gracekill.child.real_managed import RealChild
    from pytest_gracekill.child.unstarted import Child

    Stop = tuple[Callable[[], object], Callable[[], bool]]

#: The domain that is destroyed, and one that has nothing to do with it.
SAME, OTHER = "same", "other"

_DOMAIN = """\
<domain type="qemu" xmlns:qemu="http://libvirt.org/schemas/domain/qemu/1.0">
  <name>{name}</name>
  <memory unit="MiB">32</memory>
  <os><type arch="x86_64" machine="q35">hvm</type></os>
  <devices>
    <emulator>{emulator}</emulator>
    <controller type="usb" model="none"/>
    <memballoon model="none"/>{devices}
  </devices>
  <qemu:commandline>{qemu}</qemu:commandline>
</domain>
"""
_PROGRAM = '<qemu:env name="VM_PROGRAM" value="{program}"/>'
_DISK = """
    <disk type="network" device="disk">
      <driver name="qemu" type="qcow2"/>
      <source protocol="nbd"><host transport="unix" socket="{disk}"/></source>
      <target dev="vda" bus="virtio"/>
    </disk>"""


def plain(daemon: Libvirtd, name: str) -> str:
    """A domain of a real QEMU without any disk."""
    return _DOMAIN.format(name=name, emulator=daemon.emulator, devices="", qemu="")


def of_fake(daemon: Libvirtd, name: str, child: Child) -> str:
    """A domain whose emulator is the fake."""
    program = _PROGRAM.format(program=child.program)
    return _DOMAIN.format(name=name, emulator=daemon.emulator, devices="", qemu=program)


def of_real(daemon: Libvirtd, name: str, child: RealChild) -> str:
    """A domain of a real QEMU, whose disk is the slow one."""
    program, disk = _PROGRAM.format(program=child.program), _DISK.format(disk=child.disk)
    return _DOMAIN.format(name=name, emulator=daemon.emulator, devices=disk, qemu=program)


class Clients:
    """What a manager's clients do all the time, each over a connection of its own: `work`.

    ``longest``: by name, for how many seconds the slowest call of each has stood. The domain
    `OTHER` is there as long as they are.
    """

    def __init__(self, daemon: Libvirtd, stack: contextlib.ExitStack) -> None:
        self.longest: dict[str, float] = {}

        def connected() -> libvirt.virConnect:
            connection = daemon.connect()
            stack.callback(connection.close)
            return connection

        other = connected().createXML(plain(daemon, OTHER), libvirt.VIR_DOMAIN_START_PAUSED)
        stack.callback(other.destroy)
        lists, finds_same, finds_other, asks_same, asks_other = (connected() for _ in range(5))

        def list_all_domains() -> None:
            lists.listAllDomains()

        def look_up_same() -> None:
            finds_same.lookupByName(SAME)

        def look_up_other() -> None:
            finds_other.lookupByName(OTHER)

        def info_of_same() -> None:
            asks_same.lookupByName(SAME).info()

        def info_of_other() -> None:
            asks_other.lookupByName(OTHER).info()

        calls = (list_all_domains, look_up_same, look_up_other, info_of_same, info_of_other)
        self.work: list[Callable[[], None]] = [self._timed(call) for call in calls]

    def _timed(self, call: Callable[[], None]) -> Callable[[], None]:
        @functools.wraps(call)
        def timed() -> None:
            began = time.monotonic()
            try:
                call()
            except libvirt.libvirtError as error:
                # a domain of this kind has no definition: destroyed, it is not there any more
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
            finally:
                took = time.monotonic() - began
                self.longest[call.__name__] = max(self.longest.get(call.__name__, 0.0), took)

        return timed


@contextlib.contextmanager
def other_clients(daemon: Libvirtd) -> Iterator[Clients]:
    """Have others work with the daemon; their connections are closed at the end."""
    with contextlib.ExitStack() as stack:
        yield Clients(daemon, stack)


def destroy_fake(daemon: Libvirtd, flags: int = 0) -> Callable[[Child], Iterator[Stop]]:
    """A routine: `virDomainDestroyFlags`, of a domain whose emulator is the fake."""

    def libvirt_destroy(child: Child) -> Iterator[Stop]:
        with contextlib.closing(daemon.connect()) as connection:
            domain = connection.createXML(of_fake(daemon, SAME, child))
            yield lambda: domain.destroyFlags(flags), lambda: _is_active(connection, SAME)

    return libvirt_destroy


def start_real(daemon: Libvirtd) -> Callable[[RealChild], object]:
    """Start a domain of a real QEMU whose disk is the slow one: for `real_qemu(start=...)`."""

    def start(child: RealChild) -> None:
        with contextlib.closing(daemon.connect()) as connection:
            # paused: its firmware would set the disk up without a write cache, as no guest does
            connection.createXML(of_real(daemon, SAME, child), libvirt.VIR_DOMAIN_START_PAUSED)

    return start


def destroy_real(daemon: Libvirtd, flags: int = 0) -> Callable[[int], int]:
    """A routine: `virDomainDestroyFlags`, of the domain that runs."""

    def libvirt_destroy(pid: int) -> int:
        with contextlib.closing(daemon.connect()) as connection:
            result: int = connection.lookupByName(SAME).destroyFlags(flags)
            return result

    return libvirt_destroy


def _is_active(connection: libvirt.virConnect, name: str) -> bool:
    """What libvirt says of a domain; one that it does not know is none."""
    return name in (domain.name() for domain in connection.listAllDomains())
