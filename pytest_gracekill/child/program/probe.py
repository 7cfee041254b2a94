"""What tools ask a QEMU before they start one: `-version`, `-help`, `-machine help` and the like.

The texts are as QEMU 7.2 prints them, shortened to what the fake knows or swallows.
"""

import os

from .command_line import words
from .commands import PACKAGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = f"""\
QEMU emulator version 7.2.22 ({PACKAGE})
Copyright (c) 2003-2022 Fabrice Bellard and the QEMU Project developers
"""
HELP = """\
usage: qemu-system-x86_64 [options] [disk_image]

'disk_image' is a raw hard disk image for IDE hard disk 0

Standard options:
-h or -help     display this help and exit
-version        display version information and exit
-name string1[,process=string2][,debug-threads=on|off]
-uuid %08x-%04x-%04x-%04x-%012x
-chardev socket,id=id[,host=host],port=port[,server=on|off][,wait=on|off]
-chardev socket,id=id,path=path[,server=on|off][,wait=on|off][,abstract=on|off]
-chardev stdio,id=id
-serial dev     redirect the serial port to char device 'dev'
-monitor dev    redirect the monitor to char device 'dev'
-qmp dev        like -monitor but opens in 'control' mode
-qmp-pretty dev like -qmp but uses pretty JSON formatting
-mon [chardev=]name[,mode=readline|control][,pretty[=on|off]]
-pidfile file   write PID to 'file'
-S              freeze CPU at startup (use 'c' to start execution)
-no-reboot      exit instead of rebooting
-no-shutdown    stop before shutdown
-action reboot=reset|shutdown
-action shutdown=poweroff|pause
-daemonize      daemonize QEMU after initializing

This is a fake: other options of QEMU are accepted and ignored.
"""
LISTS = {
    "machine": (
        "Supported machines are:\n"
        "pc                   Standard PC (i440FX + PIIX, 1996) (alias of pc-i440fx-7.2)\n"
        "pc-i440fx-7.2        Standard PC (i440FX + PIIX, 1996) (default)\n"
        "q35                  Standard PC (Q35 + ICH9, 2009) (alias of pc-q35-7.2)\n"
        "pc-q35-7.2           Standard PC (Q35 + ICH9, 2009)\n"
        "none                 empty machine\n"
    ),
    "cpu": "Available CPUs:\nx86 max\nx86 qemu64\n",
    "accel": "Accelerators supported in QEMU binary:\ntcg\n",
    "chardev": "Available chardev backend types: \n  stdio\n  null\n  socket\n",
    "display": "Available display backend types:\nnone\n",
    "netdev": "Available netdev backend types:\nuser\ntap\n",
    "device": 'Storage devices:\nname "virtio-blk-pci", bus PCI, alias "virtio-blk"\n',
    "object": "List of user creatable objects:\n  iothread\n",
    "audiodev": "Available audio drivers:\nnone\n",
    "vga": "none                 no graphic card\nstd                  standard VGA (default)\n",
}
ALIASES = {"M": "machine"}


def answer(arguments: "Sequence[str]") -> str | None:
    """Return what is to be printed, None when a VM is asked for.

    :raises Unusable: an option lacks its value.
    """
    for given, value in words(arguments):
        name = ALIASES.get(given, given)
        if name == "version":
            return VERSION
        if name in ("h", "help"):
            return VERSION + HELP
        if value in ("help", "?") and name in LISTS:
            return LISTS[name]
    return None


def show(text: str) -> None:
    """Print it, to whoever still reads."""
    left = text.encode()
    try:
        while left:
            left = left[os.write(1, left) :]
    except OSError:
        pass  # `qemu -version | true`
