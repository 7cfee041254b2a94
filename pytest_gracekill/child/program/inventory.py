"""What a manager asks of a VM that it has just started: libvirt's words, with QEMU 7.2's answers.

CPUs, devices, disk nodes, migration: the fake has one CPU with one property and no device, so the
answers are as short as QEMU 7.2's can be. What libvirt asks of a *binary*, hundreds of questions
about its schema and its device types, is not here: a real QEMU has to answer that.
"""

import os

from .runstate import Fault, Vm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .qmp_json import Json

CPU, CPU_TYPE = "/machine/unattached/device[0]", "qemu64-x86_64-cpu"
#: By path: the type, and the properties as QEMU types them, with their values.
OBJECTS: "dict[str, tuple[str, dict[str, tuple[str, Json]]]]" = {
    CPU: (CPU_TYPE, {"unavailable-features": ("strList", [])}),
    "/machine/peripheral": ("container", {}),
    "/machine/peripheral-anon": ("container", {}),
}
PLACE: "Json" = {"core-id": 0, "thread-id": 0, "socket-id": 0}
#: What may be switched on for a migration; there are two dozen more, and nobody migrates a fake.
MIGRATION = ("events",)

#: By argument of `set-action`, what QEMU takes; a fake neither panics nor has a watchdog.
ACTIONS = {
    "reboot": ("reset", "shutdown"),
    "shutdown": ("poweroff", "pause"),
    "panic": ("pause", "shutdown", "exit-failure", "none"),
    "watchdog": ("reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"),
}

STRING, ARRAY, OBJECT, BOOLEAN = "string", "array", "object", "boolean"
TYPES: "dict[str, type]" = {STRING: str, ARRAY: list, OBJECT: dict, BOOLEAN: bool}


def _query_iothreads(_vm: Vm, _arguments: "dict[str, Json]") -> "Json":
    return []


def _query_hotpluggable_cpus(_vm: Vm, _arguments: "dict[str, Json]") -> "Json":
    return [{"props": PLACE, "vcpus-count": 1, "qom-path": CPU, "type": CPU_TYPE}]


def _query_cpus_fast(_vm: Vm, _arguments: "dict[str, Json]") -> "Json":
    cpu: dict[str, Json] = {
        "thread-id": os.getpid(),
        "props": PLACE,
        "qom-path": CPU,
        "cpu-index": 0,
        "target": "x86_64",
    }
    return [cpu]


def _query_named_block_nodes(_vm: Vm, arguments: "dict[str, Json]") -> "Json":
    if "flat" in arguments:
        _is(arguments["flat"], BOOLEAN, "flat")
    return []


def _query_migrate_capabilities(vm: Vm, _arguments: "dict[str, Json]") -> "Json":
    return [{"state": name in vm.migration, "capability": name} for name in MIGRATION]


def _migrate_set_capabilities(vm: Vm, arguments: "dict[str, Json]") -> "Json":
    wanted = _needed(arguments, "capabilities", ARRAY)
    assert isinstance(wanted, list)
    states: dict[str, bool] = {}
    for number, each in enumerate(wanted):
        where = f"capabilities[{number}]"
        _is(each, OBJECT, where)
        assert isinstance(each, dict)
        name = _needed(each, "capability", STRING, f"{where}.")
        if name not in MIGRATION:
            raise Fault(f"Parameter 'capability' does not accept value '{name}'")
        states[str(name)] = bool(_needed(each, "state", BOOLEAN, f"{where}."))
    # all of it has been read, and is right: of a wrong list nothing is done
    for name, state in states.items():
        (vm.migration.add if state else vm.migration.discard)(name)
    return {}


def _set_action(vm: Vm, arguments: "dict[str, Json]") -> "Json":
    for name, value in arguments.items():
        _is(value, STRING, name)
        if value not in ACTIONS[name]:
            raise Fault(f"Parameter '{name}' does not accept value '{value}'")
    if "reboot" in arguments:
        vm.no_reboot = arguments["reboot"] == "shutdown"
    if "shutdown" in arguments:
        vm.no_shutdown = arguments["shutdown"] == "pause"
    return {}


def _qom_list(_vm: Vm, arguments: "dict[str, Json]") -> "Json":
    _, properties = _object(_needed(arguments, "path", STRING))
    listed = {"type": "string"} | {name: kind for name, (kind, _) in properties.items()}
    return [{"name": name, "type": kind} for name, kind in listed.items()]


def _qom_get(_vm: Vm, arguments: "dict[str, Json]") -> "Json":
    path, name = _needed(arguments, "path", STRING), _needed(arguments, "property", STRING)
    kind, properties = _object(path)
    if name == "type":
        return kind
    if str(name) not in properties:
        raise Fault(f"Property '{kind}.{name}' not found")
    return properties[str(name)][1]


def _object(path: "Json") -> "tuple[str, dict[str, tuple[str, Json]]]":
    if str(path) not in OBJECTS:
        raise Fault(f"Device '{path}' not found", "DeviceNotFound")
    return OBJECTS[str(path)]


def _needed(arguments: "dict[str, Json]", name: str, kind: str, within: str = "") -> "Json":
    if name not in arguments:
        raise Fault(f"Parameter '{within}{name}' is missing")
    _is(arguments[name], kind, f"{within}{name}")
    return arguments[name]


def _is(value: "Json", kind: str, name: str) -> None:
    if not isinstance(value, TYPES[kind]):
        raise Fault(f"Invalid parameter type for '{name}', expected: {kind}")


#: By command: the arguments that it takes, and what it does.
INVENTORY: "dict[str, tuple[tuple[str, ...], Callable[[Vm, dict[str, Json]], Json]]]" = {
    "query-iothreads": ((), _query_iothreads),
    "query-hotpluggable-cpus": ((), _query_hotpluggable_cpus),
    "query-cpus-fast": ((), _query_cpus_fast),
    "query-named-block-nodes": (("flat",), _query_named_block_nodes),
    "query-migrate-capabilities": ((), _query_migrate_capabilities),
    "migrate-set-capabilities": (("capabilities",), _migrate_set_capabilities),
    "set-action": (tuple(ACTIONS), _set_action),
    "qom-list": (("path",), _qom_list),
    "qom-get": (("path", "property"), _qom_get),
}
