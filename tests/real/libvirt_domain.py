"""Domains for libvirt, and what others ask of libvirt while one of them is being destroyed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import libvirt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from libvirt_daemon import Libvirtd

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
_ENVIRONMENT = '<qemu:env name="FAKE_QEMU" value="{program}"/>'


def plain(daemon: Libvirtd, name: str) -> str:
    """A domain of a real QEMU without any disk."""
    return _DOMAIN.format(name=name, emulator=daemon.emulator, devices="", qemu="")


def of_fake(daemon: Libvirtd, name: str, program: str) -> str:
    """A domain whose emulator is the fake that ``program`` starts."""
    environment = _ENVIRONMENT.format(program=program)
    return _DOMAIN.format(name=name, emulator=daemon.emulator, devices="", qemu=environment)


@contextlib.contextmanager
def other_work(daemon: Libvirtd) -> Iterator[list[Callable[[], object]]]:
    """What the clients of a manager do all the time, each over a connection of its own.

    The domain `OTHER` is started for it, and destroyed afterwards.
    """
    with contextlib.ExitStack() as stack:

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
            with _unless_it_is_gone():
                finds_same.lookupByName(SAME)

        def look_up_other() -> None:
            finds_other.lookupByName(OTHER)

        def info_of_same() -> None:
            with _unless_it_is_gone():
                asks_same.lookupByName(SAME).info()

        def info_of_other() -> None:
            asks_other.lookupByName(OTHER).info()

        yield [list_all_domains, look_up_same, look_up_other, info_of_same, info_of_other]


@contextlib.contextmanager
def _unless_it_is_gone() -> Iterator[None]:
    """A domain of this kind has no definition: destroyed, it is not there any more."""
    try:
        yield
    except libvirt.libvirtError as error:
        if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
