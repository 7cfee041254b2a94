"""The QMP commands that the fake knows, with QEMU 7.2's answers.

What they do is in `runstate`. `human-monitor-command` knows the words of the other monitor that
mean the same, and swallows labgrid's port forwards.
"""

import os

from .inventory import INVENTORY
from .record import STOP
from .runstate import Fault, Later, Vm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .qmp_json import Json

PACKAGE = "Debian 1:7.2+dfsg-7+deb12u18+b3"
VERSION: "Json" = {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": PACKAGE}
HUMAN_COMMAND = "human-monitor-command"
RESET_REASON = "host-qmp-system-reset"
BLOCKS_OF_STAT = 512  # bytes, whatever the file system


def known(name: str) -> bool:
    """Say whether there is such a command."""
    return name == HUMAN_COMMAND or name in COMMANDS or name in INVENTORY


def perform(vm: Vm, name: str, arguments: "dict[str, Json]") -> "Json | Later":
    """Do a command; a `Later` is what the VM still has to do.

    :raises Fault: the answer is an error.
    """
    if name == HUMAN_COMMAND:
        return _human(vm, arguments)
    if not known(name):
        raise Fault(f"The command {name} has not been found", "CommandNotFound")
    takes, answer = INVENTORY.get(name, ((), None))
    for argument in arguments:
        if argument not in takes:
            raise Fault(f"Parameter '{argument}' is unexpected")
    return COMMANDS[name](vm) if answer is None else answer(vm, arguments)


def _stop(vm: Vm) -> "Json | Later":
    if vm.status == "running":
        vm.event("STOP")
        vm.be("paused")
    # `do_vm_stop()` flushes whatever the state was, and the monitor stands still meanwhile
    vm.machine.flush(STOP)
    return Later(STOP, "") if vm.machine.deferred is not None else {}


def _cont(vm: Vm) -> "Json | Later":
    if vm.status == "shutdown":
        raise Fault("Resetting the Virtual Machine is required")
    if vm.status != "running":
        vm.be("running")
        vm.event("RESUME")
    return vm.heed() or {}


def _quit(_vm: Vm) -> Later:
    return Later("quit", "host-qmp-quit")


def _system_reset(vm: Vm) -> "Json | Later":
    if vm.no_reboot:
        return Later("system_reset", RESET_REASON)
    vm.event("RESET", guest=False, reason=RESET_REASON)
    if vm.status == "shutdown":
        vm.be("prelaunch")
    return {}


def _system_powerdown(vm: Vm) -> "Json | Later":
    vm.event("POWERDOWN")
    vm.press_button()
    return vm.heed() or {}


def _system_wakeup(_vm: Vm) -> "Json":
    raise Fault("Unable to wake up: guest is not in suspended state")


def _query_status(vm: Vm) -> "Json":
    return {"status": vm.status, "singlestep": False, "running": vm.status == "running"}


def _query_version(_vm: Vm) -> "Json":
    return VERSION


def _query_commands(_vm: Vm) -> "Json":
    return [{"name": name} for name in (HUMAN_COMMAND, *COMMANDS, *INVENTORY, "qmp_capabilities")]


def _query_name(vm: Vm) -> "Json":
    return {"name": vm.name} if vm.name else {}


def _query_uuid(vm: Vm) -> "Json":
    return {"UUID": vm.uuid}


def _query_kvm(_vm: Vm) -> "Json":
    return {"enabled": False, "present": True}


def _query_target(_vm: Vm) -> "Json":
    return {"arch": "x86_64"}


def _query_chardev(vm: Vm) -> "Json":
    return [
        {
            "frontend-open": line.chardev.in_use,
            "filename": line.filename,
            "label": line.chardev.label,
        }
        for line in vm.lines
    ]


def _query_block(vm: Vm) -> "Json":
    """One virtio disk of format raw, and what QEMU says of such a one that nobody throttles."""
    path = vm.machine.configuration.disk
    size = os.fstat(vm.machine.disk)
    inserted: dict[str, Json] = {
        "iops_rd": 0,
        "detect_zeroes": "off",
        "image": {
            "virtual-size": size.st_size,
            "filename": path,
            "format": "raw",
            "actual-size": size.st_blocks * BLOCKS_OF_STAT,
            "dirty-flag": False,
        },
        "iops_wr": 0,
        "ro": False,
        "node-name": "#block120",
        "backing_file_depth": 0,
        "drv": "raw",
        "iops": 0,
        "bps_wr": 0,
        "write_threshold": 0,
        "encrypted": False,
        "bps": 0,
        "bps_rd": 0,
        "cache": {"no-flush": False, "direct": False, "writeback": True},
        "file": path,
    }
    return [
        {
            "io-status": "ok",
            "device": "virtio0",
            "locked": False,
            "removable": False,
            "inserted": inserted,
            "qdev": "/machine/peripheral-anon/device[0]/virtio-backend",
            "type": "unknown",
        }
    ]


def _human(vm: Vm, arguments: "dict[str, Json]") -> "Json | Later":
    line = arguments.get("command-line")
    if line is None:
        raise Fault("Parameter 'command-line' is missing")
    if not isinstance(line, str):
        raise Fault("Invalid parameter type for 'command-line', expected: string")
    words = line.split()
    match words:
        case [] | ["hostfwd_add" | "hostfwd_remove", *_]:
            return ""
        case ["info", "status"]:
            return f"VM status: {HUMAN_STATUS.get(vm.status, vm.status)}\r\n"
        case ["info", "version"]:
            return f"7.2.22{PACKAGE}\r\n"
        case ["info", "name"]:
            return f"{vm.name}\r\n" if vm.name else ""
        case [word] if word in HUMAN:
            return _said(vm, HUMAN[word])
    unknown = " ".join(words[:2]) if words[0] == "info" else words[0]
    answer = f"unknown command: '{unknown}'"
    vm.rejected(line, answer, "HumanMonitor")
    return f"{answer}\r\n"


def _said(vm: Vm, name: str) -> "Json | Later":
    try:
        done = COMMANDS[name](vm)
    except Fault as fault:
        return f"Error: {fault}\r\n"
    if isinstance(done, Later):
        done.value = ""
        return done
    return ""


HUMAN_STATUS = {"shutdown": "paused (shutdown)", "prelaunch": "paused (prelaunch)"}
HUMAN = {name: name for name in ("quit", "stop", "cont", "system_reset", "system_powerdown")} | {
    "q": "quit",
    "s": "stop",
    "c": "cont",
}
# in the order in which QEMU lists them
COMMANDS: "dict[str, Callable[[Vm], Json | Later]]" = {
    "query-chardev": _query_chardev,
    "cont": _cont,
    "stop": _stop,
    "query-name": _query_name,
    "query-kvm": _query_kvm,
    "system_wakeup": _system_wakeup,
    "system_powerdown": _system_powerdown,
    "system_reset": _system_reset,
    "query-uuid": _query_uuid,
    "query-target": _query_target,
    "quit": _quit,
    "query-commands": _query_commands,
    "query-version": _query_version,
    "query-block": _query_block,
    "query-status": _query_status,
}
