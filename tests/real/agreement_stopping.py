"""Scenarios of a VM with acknowledged blocks that is stopped: by signals, by QMP, by SIGKILL.

None of them depends on a clock: the VM stands still in the middle of its flush until it is let go.
"""

from __future__ import annotations

import json
import os
import resource
import signal
from functools import partial
from typing import TYPE_CHECKING

from agreement_kinds import BLOCKS
from agreement_seen import WITHIN, Client, Seen, complaints, there

from pytest_gracekill.child.disk import ranges

if TYPE_CHECKING:
    from collections.abc import Callable

    from agreement_kinds import Kind

    from pytest_gracekill.child.handle import FakeQemu

    Ask = Callable[[FakeQemu, Client], None]

HALF = BLOCKS // 2


def _signalled(number: int, vm: FakeQemu, _client: Client) -> None:
    os.kill(vm.pid, number)


def _told(command: str, _vm: FakeQemu, client: Client) -> None:
    client.send(f'{{"execute": "{command}"}}')


def _status(vm: FakeQemu) -> int:
    assert vm.popen is not None
    return vm.popen.wait(WITHIN)


def _left(vm: FakeQemu) -> Seen:
    assert vm.qmp is not None
    return {"pid file": there(vm.dir / "pid"), "QMP socket": there(vm.qmp)}


def _ended(vm: FakeQemu) -> Seen:
    """What there is to be seen of one that ends."""
    return {
        "exit status": _status(vm),
        "standard error": complaints(vm.stderr, vm.dir),
        "blocks lost": ranges(vm.disk.audit().lost),
        **_left(vm),
    }


def asked_to_stop(ask: Ask, kind: Kind) -> Seen:
    """In the middle of the flush: what has been said, what is on the disk; and then the end."""
    vm = kind.held(HALF)
    client = kind.client(vm)
    ask(vm, client)
    said = client.until("SHUTDOWN")
    kind.reach(vm, HALF)
    said += client.so_far()
    seen: Seen = {
        "QMP before the disk is flushed": said,
        "blocks that would be lost in the middle": ranges(vm.disk.audit().lost),
        "in the middle: files": _left(vm),
    }
    kind.release(vm)
    return seen | {"QMP then": client.rest()} | _ended(vm)


def asked_again(kind: Kind) -> Seen:
    """Further requests in the middle of the flush."""
    vm = kind.held(HALF)
    client = kind.client(vm)
    os.kill(vm.pid, signal.SIGTERM)
    said = client.until("SHUTDOWN")
    kind.reach(vm, HALF)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(vm.pid, number)
    client.send('{"execute": "query-status"}')
    client.send('{"execute": "quit"}')
    late = Client.of(vm.qmp)
    kind.stack.callback(late.close)
    late.send('{"execute": "qmp_capabilities"}')
    said += client.so_far()
    kind.release(vm)
    return {
        "QMP": [*said, *client.rest()],
        "another client": late.rest(),
        **_ended(vm),
    }


def shutdown_event_first(kind: Kind) -> Seen:
    """When nothing is flushed yet."""
    vm = kind.held(0)
    client = kind.client(vm)
    os.kill(vm.pid, signal.SIGTERM)
    said = client.until("SHUTDOWN")
    kind.reach(vm, 0)
    seen: Seen = {
        "QMP when no block is on the disk": said + client.so_far(),
        "blocks lost by a SIGKILL now": ranges(vm.disk.audit().lost),
    }
    kind.release(vm)
    return seen | {"QMP then": client.rest()} | _ended(vm)


def killed_at(durable: int, kind: Kind) -> Seen:
    """SIGKILL when so many blocks are on the disk."""
    vm = kind.held(durable)
    client = kind.client(vm)
    os.kill(vm.pid, signal.SIGTERM)
    kind.reach(vm, durable)
    os.kill(vm.pid, signal.SIGKILL)
    return {"QMP": client.rest(), **_ended(vm)}


def killed_at_once(kind: Kind) -> Seen:
    """SIGKILL without anything before it."""
    vm = kind.vm()
    client = kind.client(vm)
    os.kill(vm.pid, signal.SIGKILL)
    return {"QMP": client.rest(), **_ended(vm)}


def quit_by_signal(number: int, kind: Kind) -> Seen:
    """A signal that is no request: before the flush, and in it."""
    seen: Seen = {}
    for when in ("before the flush", "in the flush"):
        vm = kind.endless()
        # a core file is of use to nobody
        resource.prlimit(vm.pid, resource.RLIMIT_CORE, (0, 0))
        client = kind.client(vm)
        said: list[str] = []
        if when == "in the flush":
            os.kill(vm.pid, signal.SIGTERM)
            said = client.until("SHUTDOWN")
            kind.await_flush(vm)
        os.kill(vm.pid, number)
        of: Seen = {"QMP": said + client.rest(), **_ended(vm)}
        seen |= {f"{when}: {name}": value for name, value in of.items()}
    return seen


def conversation(kind: Kind) -> Seen:
    """QMP while the VM runs."""
    vm = kind.vm()
    client = Client.of(vm.qmp)
    kind.stack.callback(client.close)
    seen: Seen = {"greeting": client.negotiate()}
    for command in (
        *("query-status", "stop", "stop", "query-status", "cont", "cont", "query-status"),
        *("query-name", "system_reset", "query-status"),
    ):
        seen[f"{len(seen)}: {command}"] = client.ask(command)
    client.send('{"execute": "quit"}')
    return seen | {"quit": client.rest()} | _ended(vm)


BAD_WORDS = (
    '{"execute": "query-stats-of-mine"}',
    '{"execute": "quit", "arguments": {"now": true}}',
    '{"execute": "quit", "arguments": []}',
    '{"execute": "quit", "id": 7, "more": 1}',
    '{"execute": 1, "id": "x"}',
    '{"arguments": {}}',
    '{"execute": "qmp_capabilities"}',
    '{"exec-oob": "query-status"}',
    '{"execute": "query-status", "id": {"a": [1]}}',
    "[1]",
    "nonsense",
    '{"execute": "set-action", "arguments": {"shutdown": "never"}}',
    '{"execute": "set-action", "arguments": {"shutdown": 1}}',
    '{"execute": "set-action", "arguments": {"power": "off"}}',
)


def misunderstandings(kind: Kind) -> Seen:
    """What QMP says to what it does not understand."""
    vm = kind.vm()
    client = Client.of(vm.qmp)
    kind.stack.callback(client.close)
    client.greeted()
    seen: Seen = {"quit, before qmp_capabilities": client.ask("quit")}
    client.ask("qmp_capabilities")
    seen |= {text: client.say(text) for text in BAD_WORDS}
    client.send('{"execute": "quit"}')
    return seen | {"quit": client.rest()} | _ended(vm)


def _half_flushed(asks: tuple[str, ...], kind: Kind) -> tuple[FakeQemu, Client, list[str]]:
    """A VM in the middle of a flush after which it stays, a client, and what QMP has said."""
    vm = kind.held_alive(HALF)
    client = kind.client(vm)
    for ask in asks[:-1]:
        client.say(ask)
    client.send(asks[-1])
    said = client.until("STOP")
    kind.reach(vm, HALF)
    return vm, client, said


def flushed_alive(asks: tuple[str, ...], kind: Kind) -> Seen:
    """A flush after which the VM stays: in the middle of it, after it, and killed then."""
    vm, client, said = _half_flushed(asks, kind)
    said += client.so_far()
    late = Client.of(vm.qmp)
    kind.stack.callback(late.close)
    seen: Seen = {
        "QMP before the disk is flushed": said,
        "blocks that would be lost in the middle": ranges(vm.disk.audit().lost),
        "in the middle: files": _left(vm),
    }
    kind.release(vm)
    seen["QMP then"] = client.read_answer()
    seen["query-status"] = client.ask("query-status")
    seen["stop"] = client.ask("stop")
    os.kill(vm.pid, signal.SIGKILL)
    return seen | {"QMP at last": client.rest()} | _ended(vm)


def flushed_alive_and_killed(ask: str, kind: Kind) -> Seen:
    """SIGKILL in the middle of such a flush."""
    vm = kind.held_alive(5)
    client = kind.client(vm)
    client.send(ask)
    kind.reach(vm, 5)
    os.kill(vm.pid, signal.SIGKILL)
    return {"QMP": client.rest(), **_ended(vm)}


def flushed_alive_and_asked(asks: tuple[str, ...], more: tuple[str, ...], kind: Kind) -> Seen:
    """Signals and QMP in the middle of such a flush: what ends the VM has to wait."""
    vm, client, said = _half_flushed(asks, kind)
    # of one kind: in which order QEMU's handlers run, and so which one it reports, is not settled
    for _ in range(2):
        os.kill(vm.pid, signal.SIGTERM)
    for ask in more:
        client.send(ask)
    late = Client.of(vm.qmp)
    kind.stack.callback(late.close)
    late.send('{"execute": "qmp_capabilities"}')
    said += client.so_far()
    kind.release(vm)
    return {"QMP": said + client.rest(), "another client": late.rest(), **_ended(vm)}


def stopped_and_asked(asks: tuple[str, ...], kind: Kind) -> Seen:
    """What was flushed by `stop` is flushed: the VM ends at once, and loses nothing."""
    vm = kind.vm()
    client = kind.client(vm)
    seen: Seen = {f"{number}: {ask}": client.say(ask) for number, ask in enumerate(asks, 1)}
    os.kill(vm.pid, signal.SIGTERM)
    return seen | {"SIGTERM": client.rest()} | _ended(vm)


def _command(name: str, **arguments: str) -> str:
    asked: dict[str, object] = {"execute": name}
    if arguments:
        asked["arguments"] = arguments
    return json.dumps(asked)


STOP, CONT = _command("stop"), _command("cont")
HUMAN_STOP = json.dumps({"execute": "human-monitor-command", "arguments": {"command-line": "stop"}})
#: As `-no-reboot -no-shutdown`: a reset is a shutdown, after which the VM stays.
RESET_HALTS = (
    _command("set-action", reboot="shutdown", shutdown="pause"),
    _command("system_reset"),
)


def _requests() -> dict[str, Callable[[Kind], Seen]]:
    asks: dict[str, Ask] = {
        number.name: partial(_signalled, number)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    asks["QMP quit"] = partial(_told, "quit")
    return {name: partial(asked_to_stop, ask) for name, ask in asks.items()}


#: By what is done to the VM.
SCENARIOS: dict[str, Callable[[Kind], Seen]] = {
    **_requests(),
    "SIGTERM, seen before anything is flushed": shutdown_event_first,
    "SIGTERM; in the flush SIGTERM, SIGINT, SIGHUP, QMP query-status and quit": asked_again,
    "SIGQUIT": partial(quit_by_signal, signal.SIGQUIT),
    "SIGKILL": killed_at_once,
    "SIGTERM; SIGKILL when nothing is on the disk": partial(killed_at, 0),
    "SIGTERM; SIGKILL when 5 of 16 blocks are on the disk": partial(killed_at, 5),
    "SIGTERM; SIGKILL when 15 of 16 blocks are on the disk": partial(killed_at, 15),
    "QMP stop": partial(flushed_alive, (STOP,)),
    "QMP human-monitor-command stop": partial(flushed_alive, (HUMAN_STOP,)),
    "QMP stop; SIGKILL when 5 of 16 blocks are on the disk": partial(
        flushed_alive_and_killed, STOP
    ),
    "QMP stop; in the flush SIGTERM, SIGTERM, QMP query-status and cont": partial(
        flushed_alive_and_asked, (STOP,), (_command("query-status"), CONT)
    ),
    "QMP stop; then SIGTERM": partial(stopped_and_asked, (STOP,)),
    "QMP stop and cont; then SIGTERM": partial(stopped_and_asked, (STOP, CONT)),
    "QMP stop and system_powerdown; then SIGTERM": partial(
        stopped_and_asked, (STOP, _command("system_powerdown"), _command("query-status"))
    ),
    "a shutdown that the VM survives (-no-shutdown)": partial(flushed_alive, RESET_HALTS),
    "a shutdown that the VM survives; in the flush SIGTERM, SIGTERM": partial(
        flushed_alive_and_asked, RESET_HALTS, ()
    ),
    "QMP while it runs": conversation,
    "QMP that is not understood": misunderstandings,
}
