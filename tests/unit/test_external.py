"""Commands as a routine: what is filled in, how words are made of it, and what is refused."""

from __future__ import annotations

import json
import os
import select
import shlex
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pytest_gracekill.child.handle import FakeQemu, spawn
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.errors import UsageError
from pytest_gracekill.routine import fields
from pytest_gracekill.routine.command import Command
from pytest_gracekill.routine.external import External

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)

VALUES: dict[str, str | list[str]] = {
    "pid": "12",
    "argv": ["/usr/bin/py thon", "-I", "/tmp/a b/qemu"],
    "program": "/tmp/a b/qemu",
    "dir": "/tmp/a b",
    "pid_file": "/tmp/a b/pid",
    "qmp": "/tmp/a b/qmp",
}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("kill {pid}", "kill 12"),
        ("{program} in {dir} at {qmp}", "/tmp/a b/qemu in /tmp/a b at /tmp/a b/qmp"),
        ("exec {argv}", "exec '/usr/bin/py thon' -I '/tmp/a b/qemu'"),
        # a text without {{ says nothing of its braces
        ('{"vm": {"run": "{program}"}}', '{"vm": {"run": "/tmp/a b/qemu"}}'),
        ("f() { kill {pid}; }", "f() { kill 12; }"),
        ("{}{ pid }{1}", "{}{ pid }{1}"),
        # doubled: what is to stay
        ("{{pid}} {pid}", "{pid} 12"),
        ('{{"run": {{"pid": {pid}}}}}', '{"run": {"pid": 12}}'),
        # a shell's own
        ("kill ${pid} ${1:-{pid}}", "kill ${pid} ${1:-12}"),
    ],
)
def test_filling_in(text: str, filled: str) -> None:
    assert fields.filled(text, VALUES) == filled


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("kill -TERM {pid}", ["kill", "-TERM", "12"]),
        # words are made before anything is filled in: what a value has in it stays together
        ("ls {dir} '{dir}/x y'", ["ls", "/tmp/a b", "/tmp/a b/x y"]),
        ("{argv} -m 1", ["/usr/bin/py thon", "-I", "/tmp/a b/qemu", "-m", "1"]),
        (["nice", "{argv}"], ["nice", "/usr/bin/py thon", "-I", "/tmp/a b/qemu"]),
        (("kill", "{pid}"), ["kill", "12"]),
        (["a b", "$HOME", "*"], ["a b", "$HOME", "*"]),
        # within a word it is for a shell to read
        ("sh -c '{argv} & wait'", ["sh", "-c", "'/usr/bin/py thon' -I '/tmp/a b/qemu' & wait"]),
        ("sh -c 'echo \"$HOME\"'", ["sh", "-c", 'echo "$HOME"']),
        ("{{argv}}", ["{argv}"]),
    ],
)
def test_words(command: str | list[str], words: list[str]) -> None:
    assert fields.filled_words(command, VALUES) == words


@pytest.mark.parametrize(
    "external",
    [
        External(stop="kill {pid}"),
        External(stop=["sh", "-c", "kill {pid}"]),
        External(stop="sh {dir}/stop", files={"stop": "kill {pid}"}),
        External(stop="{dir}/bin/stop", files={"bin/stop": "#!/bin/sh\nkill {pid}"}),
        External(start="{program}", stop="true"),
        External(start="sh {dir}/run", stop="kill {pid}", files={"run": "exec {argv}"}),
        External(start=["{program}", "-qmp", "unix:{qmp}"], stop="true {qmp}"),
    ],
    ids=str,
)
def test_what_can_be_run(external: External) -> None:
    external.check("the call")


def test_whether_qmp_is_wanted() -> None:
    assert External(stop="true {qmp}").wants_qmp
    assert External(start="{program} {qmp}", stop="true").wants_qmp
    assert External(start="sh {dir}/x", stop="true", files={"x": "{argv} {qmp}"}).wants_qmp
    assert not External(stop="kill {pid} {{qmp}}").wants_qmp


NEEDED = "a command is needed, as a string or a list of words"
WITHIN = "a name below {dir} is needed, such as 'etc/vm.conf'"


def wrong_file(name: object, text: object = "") -> External:
    return External(stop="kill {pid}", files={name: text})  # type: ignore[dict-item]


WRONG: dict[str, tuple[External, str]] = {
    "no string": (External(stop=12), f"stop=12: {NEEDED} (it is neither)"),  # type: ignore[arg-type]
    "no words": (
        External(stop=["kill", 12]),  # type: ignore[list-item]
        f"stop=['kill', 12]: {NEEDED} (its word 2 is 12)",
    ),
    "a word is None": (
        External(start=("{program}", None), stop="true"),  # type: ignore[arg-type]
        f"start=('{{program}}', None): {NEEDED} (its word 2 is None)",
    ),
    "missing": (External(), f"stop='': {NEEDED} (it is empty)"),  # type: ignore[call-arg]
    "missing, with a start": (
        External(start="{program}"),  # type: ignore[call-arg]
        f"stop='': {NEEDED} (it is empty)",
    ),
    "None": (External(stop=None), f"stop=None: {NEEDED} (it is neither)"),  # type: ignore[arg-type]
    "empty": (External(stop=""), f"stop='': {NEEDED} (it is empty)"),
    "blank": (External(stop="  "), f"stop='  ': {NEEDED} (it is empty)"),
    "empty list": (External(stop=[]), f"stop=[]: {NEEDED} (it is empty)"),
    "bytes": (External(stop=b"true"), f"stop=b'true': {NEEDED} (it is neither)"),  # type: ignore[arg-type]
    "NUL": (
        External(stop=["kill", "\0{pid}"]),
        f"stop=['kill', '\\x00{{pid}}']: {NEEDED} (a NUL character is in it)",
    ),
    "empty start": (
        External(start="", stop="true"),
        f"start='': {NEEDED} (it is empty)",
    ),
    "open quote": (
        External(stop="kill '{pid}"),
        f'stop="kill \'{{pid}}": {NEEDED} (No closing quotation)',
    ),
    "wrong start": (
        External(start=[], stop="true"),
        f"start=[]: {NEEDED} (it is empty)",
    ),
    "unknown field": (
        External(stop="kill {pdi}"),
        (
            "stop='{pdi}': there is no {pdi}; filled in are {dir}, {pid_file}, {qmp}, {pid}"
            " ({{pdi}} stays {pdi})"
        ),
    ),
    "nothing is started": (
        External(stop="kill {pid} {program}"),
        (
            "stop='{program}': {program} is not known there; filled in are {dir}, {pid_file},"
            " {qmp}, {pid} ({{program}} stays {program})"
        ),
    ),
    "no pid yet": (
        External(start="{program} {pid}", stop="true"),
        (
            "start='{pid}': {pid} is not known there; filled in are {dir}, {pid_file}, {qmp},"
            " {argv}, {program} ({{pid}} stays {pid})"
        ),
    ),
    "unknown field in a file": (
        wrong_file("conf", "run={programm}"),
        (
            "files['conf']='run={programm}': there is no {programm}; filled in are {dir},"
            " {pid_file}, {qmp}, {pid} ({{programm}} stays {programm})"
        ),
    ),
    "names nothing": (
        External(stop="true"),
        "stop='true': it names nothing of the VM; {pid} is what it stops",
    ),
    "starts nothing": (
        External(start="sleep 1", stop="true"),
        (
            "start='sleep 1': neither it nor a file has {program} or {argv}, so that it cannot"
            " start the fake"
        ),
    ),
    "no command": (
        External(stop="gracekill-has-no-such-command {pid}"),
        (
            "stop='gracekill-has-no-such-command {pid}': there is no command"
            " 'gracekill-has-no-such-command'; its path, or a name on PATH, is needed"
        ),
    ),
    "no command to start": (
        External(start="/no/such/command {program}", stop="true"),
        (
            "start='/no/such/command {program}': there is no command '/no/such/command'; its path,"
            " or a name on PATH, is needed"
        ),
    ),
    "not executable": (
        External(stop=[__file__, "{pid}"]),
        (
            f"stop={shlex.join([__file__, '{pid}'])!r}: {__file__!r} is no file that may be"
            " executed; chmod +x, or the program that reads it as the first word, is needed"
        ),
    ),
    "no dict": (
        External(stop="kill {pid}", files=["conf"]),  # type: ignore[arg-type]
        "files=['conf']: a dict, name to text, is needed",
    ),
    "no dict, with a start": (
        External(start="{program}", stop="true", files=["conf"]),  # type: ignore[arg-type]
        "files=['conf']: a dict, name to text, is needed",
    ),
    "no text": (wrong_file("conf", b"text"), "files['conf']=b'text': a text is needed"),
}
for bad in ("/etc/conf", "../conf", "a/../../conf", "", ".", "a\0b", None, 7):
    WRONG[f"name {bad!r}"] = (wrong_file(bad), f"files[{bad!r}]: {WITHIN}")


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_run_is_one_error_before_anything_is_started(case: str) -> None:
    external, error = WRONG[case]
    with pytest.raises(UsageError) as caught:
        external.check("option --gracekill-stop")
    assert str(caught.value) == f"{error} (from option --gracekill-stop)"


# -- in use, with a VM that runs already

Use = Callable[[External], Command]


def own(vm: FakeQemu) -> Path:
    """The folder of the commands."""
    (folder,) = vm.dir.glob("own*")
    return folder


WRITE = "import json, sys; json.dump(sys.argv[1:], open(sys.argv[1], 'w'))"


@pytest.fixture
def vm(tmp_path: Path) -> Iterator[FakeQemu]:
    fake = spawn(Knobs(topology="reaped", flush_time=0, qmp=True), tmp_path / "fa ke")
    yield fake
    fake.close()


@pytest.fixture
def use(vm: FakeQemu) -> Iterator[Use]:
    with ExitStack() as stack:

        def begin(external: External) -> Command:
            external.check("a test")
            command = Command(external, None, "a test")
            stack.callback(command.end)
            command.begin(vm)
            return command

        yield begin


def test_a_command_is_told_of_the_vm(vm: FakeQemu, use: Use) -> None:
    stop = [sys.executable, "-c", WRITE, "{dir}/told", "{pid}", "{qmp}", "{pid_file}", "{{pid}}"]
    ended = use(External(stop=stop)).stop()
    assert (ended.ok, ended.returncode, ended.output) == (True, 0, "")
    told = json.loads((own(vm) / "told").read_text())
    assert told == [f"{own(vm)}/told", str(vm.pid), vm.qmp, str(vm.pid_file), "{pid}"]
    assert vm.pid_file.read_text() == f"{vm.pid}\n"


def test_files_are_there_before_and_scripts_can_be_run(vm: FakeQemu, use: Use) -> None:
    files = {
        "bin/stop": "#!/bin/sh\nkill {pid} && cat '{dir}/etc/greeting'\n",
        "etc/greeting": "bye",
    }
    ended = use(External(stop="{dir}/bin/stop", files=files)).stop()
    assert str(ended) == "exit 0: bye"
    assert vm.wait(20).code == 0
    assert not os.access(own(vm) / "etc/greeting", os.X_OK)


def test_any_name_is_free_and_none_of_the_vm_is_touched(vm: FakeQemu, use: Use) -> None:
    names = sorted(path.name for path in vm.dir.iterdir())
    kept = {name: (vm.dir / name).read_bytes() for name in ("disk", "journal", "pid")}
    files = dict.fromkeys((*names, "start.log", "stop-1.log", "own/x"), "mine {pid}")
    command = use(External(stop=["cat", "{dir}/stop-1.log"], files=files))
    assert str(command.stop()) == f"exit 0: mine {vm.pid}"
    assert {(own(vm) / name).read_text() for name in files} == {f"mine {vm.pid}"}
    assert {name: (vm.dir / name).read_bytes() for name in kept} == kept


def test_the_next_trial_of_a_vm_finds_nothing_of_the_last_one(vm: FakeQemu, use: Use) -> None:
    script = ["sh", "-c", "echo {pid}; ls '{dir}'; touch '{dir}/mark'"]
    for _ in range(2):
        assert str(use(External(stop=script)).stop()) == f"exit 0: {vm.pid}"


def test_how_a_command_ends_is_told_with_its_last_words(use: Use) -> None:
    command = use(External(stop="sh -c 'echo one; echo two >&2; exit 3 # {pid}'"))
    ended = command.stop()
    assert (ended.ok, str(ended)) == (False, "exit 3: one; two")
    command.end()
    killed = use(External(stop="sh -c 'kill -9 $$ # {pid}'")).stop()
    assert (killed.ok, str(killed)) == (False, "exit -9")


@pytest.mark.parametrize(
    ("mode", "text", "why"),
    [
        (0o644, "exit 0", "Permission denied"),
        (0o755, "#!/no/such/shell\n", "No such file or directory"),
        (0o755, "", "Exec format error"),
    ],
)
def test_a_command_that_cannot_be_run_is_no_failure_of_the_routine(
    vm: FakeQemu, use: Use, mode: int, text: str, why: str
) -> None:
    command = use(External(stop="{dir}/stop {pid}"))
    (own(vm) / "stop").write_text(text)
    (own(vm) / "stop").chmod(mode)
    with pytest.raises(UsageError) as caught:
        command.stop()
    assert str(caught.value) == (
        f"stop='{{dir}}/stop {{pid}}': '{own(vm)}/stop' cannot be run: {why} (from a test)"
    )


def test_a_file_that_cannot_be_written_is_named(use: Use) -> None:
    with pytest.raises(UsageError, match=r"files\['a/b'\]: it cannot be written \(.*/a'\)"):
        use(External(stop="kill {pid}", files={"a": "", "a/b": ""}))


def test_several_callers_each_get_their_own_answer(vm: FakeQemu, use: Use) -> None:
    script = "#!/bin/sh\necho $$ # {pid}\n"
    command = use(External(stop="{dir}/stop", files={"stop": script}))
    told: list[str] = []
    barrier = threading.Barrier(4)

    def call() -> None:
        barrier.wait(20)
        told.append(str(command.stop()))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(told)) == 4, told
    assert sorted(path.name for path in vm.dir.glob("commands/stop-*.log")) == [
        f"stop-{number}.log" for number in range(1, 5)
    ]


def test_stops_that_hang_are_freed_and_so_are_those_to_come(vm: FakeQemu, use: Use) -> None:
    script = 'echo >"$1"; sleep 600'
    command = use(External(stop=["sh", "-c", script, "sh", "{dir}/runs", "{pid}"]))
    os.mkfifo(own(vm) / "runs")
    runs = os.open(own(vm) / "runs", os.O_RDWR)
    ended: list[str] = []
    thread = threading.Thread(target=lambda: ended.append(str(command.stop())))
    thread.start()
    assert select.select([runs], [], [], 30)[0]
    command.free()
    thread.join(30)
    assert ended == ["exit -9"]
    assert str(command.stop()) == "exit -9"
    os.close(runs)


@pytest.mark.parametrize("operator", ["&&", "|", ";", ">", "&"])
def test_an_operator_of_a_shell_needs_a_shell(operator: str) -> None:
    with pytest.raises(UsageError, match="there is no shell that would know"):
        External(stop=f"kill {{pid}} {operator} true").check("the call")
    External(stop=["kill", "{pid}", operator]).check("the call")  # a word of its own, if one wants
    External(stop=f"sh -c 'kill {{pid}} {operator} true'").check("the call")
