"""Scenarios of a VM that is started by a command line: its pid file, its place, its image, its end.

Each is started below a warden, so that nothing of it outlives the run, daemonised or not.
"""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from agreement_seen import Seen, await_that, complaints, locked, locks, there

from pytest_gracekill.child.mark import stat_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from agreement_kinds import Command, Kind


def pid_file(kind: Kind) -> Seen:
    """`-pidfile`, while it runs and afterwards; and a second VM that wants the same."""
    folder = kind.folder()
    vm = kind.command("-pidfile", str(folder / "pid"), folder=folder)
    seen: Seen = {
        "it holds the VM's pid and a line feed": vm.pid_file.read_bytes() == b"%d\n" % vm.pid,
        "its mode": f"{vm.pid_file.stat().st_mode & 0o777:o}",
        "it is locked": locked(vm.pid_file),
    }
    second = kind.command("-pidfile", str(vm.pid_file), monitor=False)
    seen["a second VM with it"] = [f"exit status {second.status()}", *_of(second, folder)]
    seen["it is the first one's still"] = vm.pid_file.read_bytes() == b"%d\n" % vm.pid
    vm.signal(signal.SIGTERM)
    seen |= {"after SIGTERM: exit status": vm.status(), "after SIGTERM: it is": there(vm.pid_file)}
    vm = kind.command("-pidfile", str(folder / "pid"), folder=_again(folder))
    vm.signal(signal.SIGKILL)
    left = folder / "pid"
    seen |= {"after SIGKILL: exit status": vm.status(), "after SIGKILL: it is": there(left)}
    seen["after SIGKILL: it is locked"] = locked(left)
    vm = kind.command("-pidfile", str(left))
    seen["a VM that gets one which was left behind"] = left.read_bytes() == b"%d\n" % vm.pid
    left.unlink()
    vm.signal(signal.SIGTERM)
    seen["SIGTERM, when somebody has taken it away: exit status"] = vm.status()
    return seen


def _of(command: Command, folder: Path) -> list[str]:
    """What it has said, with the paths of another one's folder, too."""
    text = command.guarded.output.read_text(encoding="utf-8")
    return complaints(text.replace(f"{folder}/", f"{command.folder}/"), command.folder)


def _again(folder: Path) -> Path:
    """A folder of its own below another one's."""
    made = folder / "again"
    made.mkdir()
    return made


def daemonized(kind: Kind) -> Seen:
    """`-daemonize`: what the process that was started tells, and where the VM is then."""
    folder = kind.folder()
    mask = os.umask(0o022)
    try:
        vm = kind.command(*("-daemonize", "-pidfile", str(folder / "pid")), folder=folder)
    finally:
        os.umask(mask)
    seen: Seen = {"what was started: exit status": vm.status()}
    pid, proc = vm.pid, Path(f"/proc/{vm.pid}")
    status = (proc / "status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":\t", 1) for line in status if ":\t" in line)
    stat = stat_fields(pid)
    seen |= {
        "the pid file has the VM's pid": vm.pid_file.read_bytes() == b"%d\n" % pid,
        "the pid file is locked": locked(vm.pid_file),
        "working directory": str((proc / "cwd").readlink()),
        "standard input, output and error": [str((proc / f"fd/{n}").readlink()) for n in range(3)],
        "umask": fields["Umask"],
        "it leads its session": stat[3] == str(pid),
        "it has a terminal": stat[4] != "0",
    }
    vm.signal(signal.SIGTERM)
    seen["QMP after SIGTERM"] = vm.monitor.rest()
    vm.gone()
    return seen | {"pid file": there(vm.pid_file), "standard error": vm.said()}


def daemonized_in_vain(kind: Kind) -> Seen:
    """`-daemonize` of a VM that cannot be had."""
    folder = kind.folder()
    options = ("-daemonize", "-pidfile", str(folder / "none/pid"))
    vm = kind.command(*options, folder=folder, monitor=False)
    return {"what was started: exit status": vm.status(), "standard error": vm.said()}


def too_early(kind: Kind) -> Seen:
    """SIGTERM while the VM waits for the client of a monitor, before it is ready."""
    folder = kind.folder()
    options = ("-pidfile", str(folder / "pid"), "-qmp", f"unix:{folder / 'qmp'},server=on")
    vm = kind.command(*options, folder=folder, monitor=False)
    await_that(lambda: any("waiting for connection" in line for line in vm.said()), "its word")
    seen: Seen = {"pid file": there(vm.pid_file)}
    os.kill(int(vm.pid_file.read_text(encoding="ascii")), signal.SIGTERM)
    return seen | {
        "exit status": vm.status(),
        "standard error": vm.said(),
        "pid file then": there(vm.pid_file),
        "QMP socket then": there(folder / "qmp"),
    }


def image_lock(kind: Kind) -> Seen:
    """The locks on an image of this machine, and a second VM that wants the same image."""
    folder = kind.folder()
    image, options = kind.image(folder)
    vm = kind.command(*options, folder=folder)
    seen: Seen = {"while it runs": locks(image)}
    other = kind.folder()
    (other / "image").hardlink_to(image)
    _, options = kind.image(other)
    second = kind.command(*options, folder=other, monitor=False)
    seen |= {
        "a second VM: exit status": second.status(),
        "a second VM: standard error": second.said(),
        "then": locks(image),
    }
    vm.signal(signal.SIGTERM)
    seen |= {"after SIGTERM: exit status": vm.status(), "after SIGTERM": locks(image)}
    third = kind.folder()
    (third / "image").hardlink_to(image)
    _, options = kind.image(third)
    vm = kind.command(*options, folder=third)
    seen["another VM"] = locks(image)
    vm.signal(signal.SIGKILL)
    return seen | {"after SIGKILL: exit status": vm.status(), "after SIGKILL": locks(image)}


def power_button(options: tuple[str, ...], kind: Kind) -> Seen:
    """A guest that heeds the power button."""
    vm = _with_guest(kind, *options)
    vm.monitor.send('{"execute": "system_powerdown"}')
    if "-no-shutdown" not in options:
        return {"QMP": vm.monitor.rest(), "exit status": vm.status(), "standard error": vm.said()}
    seen: Seen = {"QMP": vm.monitor.until("STOP") + vm.monitor.so_far()}
    for command in ("query-status", "cont", "system_powerdown", "query-status"):
        seen[f"halted: {len(seen)}: {command}"] = vm.monitor.ask(command)
    vm.signal(signal.SIGTERM)
    seen["after SIGTERM"] = vm.monitor.rest()
    return seen | {"exit status": vm.status(), "standard error": vm.said()}


def power_button_of_a_stopped_guest(kind: Kind) -> Seen:
    """A guest that does not run heeds nothing, until it does."""
    vm = _with_guest(kind)
    seen: Seen = {
        command: vm.monitor.ask(command) for command in ("stop", "system_powerdown", "query-status")
    }
    vm.monitor.send('{"execute": "cont"}')
    return seen | {"cont": vm.monitor.rest(), "exit status": vm.status()}


def reset(options: tuple[str, ...], kind: Kind) -> Seen:
    """`system_reset`."""
    vm = _with_guest(kind, *options)
    if options:
        vm.monitor.send('{"execute": "system_reset"}')
    else:
        said = vm.monitor.ask("system_reset")
        vm.monitor.send('{"execute": "quit"}')
        return {"QMP": said, "then quit": vm.monitor.rest(), "exit status": vm.status()}
    return {"QMP": vm.monitor.rest(), "exit status": vm.status(), "standard error": vm.said()}


def no_shutdown_and_sigterm(kind: Kind) -> Seen:
    """`-no-shutdown` says what becomes of a guest that powers off, and nothing about signals."""
    vm = kind.command("-no-shutdown")
    vm.signal(signal.SIGTERM)
    return {"QMP": vm.monitor.rest(), "exit status": vm.status(), "standard error": vm.said()}


def paused(kind: Kind) -> Seen:
    """`-S`: the guest does not run yet."""
    vm = kind.command("-S")
    seen: Seen = {
        f"{at}: {command}": vm.monitor.ask(command)
        for at, command in enumerate(("query-status", "stop", "cont", "query-status"))
    }
    vm.signal(signal.SIGTERM)
    return seen | {"QMP then": vm.monitor.rest(), "exit status": vm.status()}


def power_button_of_no_guest(kind: Kind) -> Seen:
    """`-machine none`: nobody is there to heed it."""
    vm = kind.command()
    said = vm.monitor.ask("system_powerdown")
    vm.signal(signal.SIGTERM)
    return {"QMP": said, "then SIGTERM": vm.monitor.rest(), "exit status": vm.status()}


REFUSED = {
    "a chardev without id": ("-chardev", "null"),
    "two chardevs of one name": ("-chardev", "null,id=a", "-chardev", "null,id=a"),
    "a monitor at no chardev": ("-mon", "chardev=a,mode=control"),
    "a monitor of an unknown mode": ("-chardev", "null,id=a", "-mon", "chardev=a,mode=loud"),
    "a socket in no folder": ("-qmp", "unix:/nowhere/qmp,server=on,wait=off"),
    "a client of nobody": ("-qmp", "unix:/nowhere/qmp"),
    "wait=on of a client": ("-chardev", "socket,id=a,path=/nowhere/qmp,wait=on"),
    "a switch that is neither on nor off": ("-chardev", "socket,id=a,path=/x,server=maybe"),
    "a path that is too long": ("-qmp", f"unix:/{'x' * 108},server=on,wait=off"),
    "a descriptor that is no number": ("-chardev", "socket,id=a,fd=none"),
    # at a monitor there QEMU may greet, or not, before it gives up
    "standard input twice": ("-chardev", "stdio,id=a", "-serial", "stdio"),
    "standard input of a daemon": ("-qmp", "stdio", "-daemonize"),
    "standard input of a daemon's serial line": ("-serial", "stdio", "-daemonize"),
    "no such backend": ("-qmp", "smoke:signals"),
    "a pid file in no folder": ("-pidfile", "/nowhere/pid"),
    "an option without its value": ("-pidfile",),
}


def refused(kind: Kind) -> Seen:
    """Command lines with which no VM is started."""
    started = {what: kind.command(*options, monitor=False) for what, options in REFUSED.items()}
    return {what: [f"exit status {vm.status()}", *vm.said()] for what, vm in started.items()}


def _with_guest(kind: Kind, *options: str) -> Command:
    """A PC whose guest is up, and waits for the power button."""
    folder = kind.folder()
    vm = kind.command(*kind.machine(folder), *options, folder=folder, machine=True)
    kind.await_guest(folder)
    return vm


#: By what is started, and what is done to it.
SCENARIOS: dict[str, Callable[[Kind], Seen]] = {
    "SIGTERM before it is ready": too_early,
    "-pidfile": pid_file,
    "-daemonize": daemonized,
    "-daemonize, with a pid file that cannot be made": daemonized_in_vain,
    "the lock on the image": image_lock,
    "system_powerdown": partial(power_button, ()),
    "system_powerdown, with -no-shutdown": partial(power_button, ("-no-shutdown",)),
    "system_powerdown of a stopped guest": power_button_of_a_stopped_guest,
    "system_powerdown, without a guest": power_button_of_no_guest,
    "system_reset": partial(reset, ()),
    "system_reset, with -no-reboot": partial(reset, ("-no-reboot",)),
    "SIGTERM, with -no-shutdown": no_shutdown_and_sigterm,
    "-S": paused,
    "command lines that are refused": refused,
}
