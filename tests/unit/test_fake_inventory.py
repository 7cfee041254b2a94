"""What libvirt asks of a VM that it has started: the literals are QEMU 7.2.22's, q35, no device."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.child.handle import spawn
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.child.program.commands import COMMANDS
from pytest_gracekill.child.program.inventory import INVENTORY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Ask = Callable[..., object]

WITHIN = 20.0
PLACE = {"core-id": 0, "thread-id": 0, "socket-id": 0}
CPU = "/machine/unattached/device[0]"
CPU_TYPE = "qemu64-x86_64-cpu"
EVENTS_ON = {"capability": "events", "state": True}


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Asks one fake: the `return`, or (class, description) of the error."""
    folder: Path = tmp_path_factory.mktemp("inventory")
    vm = spawn(Knobs.from_values({"qmp": True, "flush_time": 0.0}), folder)
    try:
        assert vm.qmp is not None
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(WITHIN)
            client.connect(vm.qmp)
            with client.makefile("rw", encoding="utf-8") as lines:
                assert "QMP" in json.loads(lines.readline())

                def asked(command: str, **arguments: object) -> object:
                    request = {"execute": command, "arguments": arguments}
                    lines.write(json.dumps(request) + "\n")
                    lines.flush()
                    answer = json.loads(lines.readline())
                    if "error" in answer:
                        return answer["error"]["class"], answer["error"]["desc"]
                    return answer["return"]

                assert asked("qmp_capabilities") == {}
                asked.pid = vm.pid  # type: ignore[attr-defined]
                yield asked
    finally:
        vm.close()


def test_one_cpu(ask: Ask) -> None:
    assert ask("query-hotpluggable-cpus") == [
        {"props": PLACE, "vcpus-count": 1, "qom-path": CPU, "type": CPU_TYPE}
    ]
    assert ask("query-cpus-fast") == [
        {
            "thread-id": ask.pid,  # type: ignore[attr-defined]
            "props": PLACE,
            "qom-path": CPU,
            "cpu-index": 0,
            "target": "x86_64",
        }
    ]
    assert ask("qom-get", path=CPU, property="type") == CPU_TYPE
    assert ask("qom-get", path=CPU, property="unavailable-features") == []
    assert {"name": "unavailable-features", "type": "strList"} in ask("qom-list", path=CPU)  # type: ignore[operator]


def test_nothing_else(ask: Ask) -> None:
    for path in ("/machine/peripheral", "/machine/peripheral-anon"):
        assert ask("qom-list", path=path) == [{"name": "type", "type": "string"}]
    assert ask("query-iothreads") == []
    assert ask("query-named-block-nodes") == []
    assert ask("query-named-block-nodes", flat=True) == []


def test_what_is_switched_on_stays_on(ask: Ask) -> None:
    off, on = ({"state": state, "capability": "events"} for state in (False, True))
    assert ask("query-migrate-capabilities") == [off]
    assert ask("migrate-set-capabilities", capabilities=[EVENTS_ON]) == {}
    assert ask("query-migrate-capabilities") == [on]
    assert ask("migrate-set-capabilities", capabilities=[EVENTS_ON | {"state": False}]) == {}
    assert ask("query-migrate-capabilities") == [off]


WRONG = [
    ("qom-list", {}, "Parameter 'path' is missing"),
    ("qom-list", {"path": 5}, "Invalid parameter type for 'path', expected: string"),
    ("qom-get", {"path": CPU}, "Parameter 'property' is missing"),
    ("qom-get", {"property": "type"}, "Parameter 'path' is missing"),
    ("qom-get", {"path": CPU, "property": "x"}, f"Property '{CPU_TYPE}.x' not found"),
    (
        "qom-get",
        {"path": "/machine/peripheral", "property": "x"},
        "Property 'container.x' not found",
    ),
    ("query-cpus-fast", {"x": 1}, "Parameter 'x' is unexpected"),
    (
        "query-named-block-nodes",
        {"flat": 3},
        "Invalid parameter type for 'flat', expected: boolean",
    ),
    ("migrate-set-capabilities", {}, "Parameter 'capabilities' is missing"),
    (
        "migrate-set-capabilities",
        {"capabilities": 5},
        "Invalid parameter type for 'capabilities', expected: array",
    ),
    (
        "migrate-set-capabilities",
        {"capabilities": [5]},
        "Invalid parameter type for 'capabilities[0]', expected: object",
    ),
    (
        "migrate-set-capabilities",
        {"capabilities": [{"state": True}]},
        "Parameter 'capabilities[0].capability' is missing",
    ),
    (
        "migrate-set-capabilities",
        {"capabilities": [EVENTS_ON, {"capability": "events"}]},
        "Parameter 'capabilities[1].state' is missing",
    ),
    (
        "migrate-set-capabilities",
        {"capabilities": [{"capability": "nope", "state": True}]},
        "Parameter 'capability' does not accept value 'nope'",
    ),
]


@pytest.mark.parametrize(("command", "arguments", "text"), WRONG)
def test_wrong_arguments(ask: Ask, command: str, arguments: dict[str, object], text: str) -> None:
    assert ask(command, **arguments) == ("GenericError", text)


@pytest.mark.parametrize("command", ["qom-list", "qom-get"])
def test_unknown_path(ask: Ask, command: str) -> None:
    more = {} if command == "qom-list" else {"property": "type"}
    assert ask(command, path="/x", **more) == ("DeviceNotFound", "Device '/x' not found")


def test_all_are_listed_once(ask: Ask) -> None:
    listed = [each["name"] for each in ask("query-commands")]  # type: ignore[attr-defined]
    assert len(listed) == len(set(listed))
    assert set(listed) >= {*COMMANDS, *INVENTORY}
