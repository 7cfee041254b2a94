"""What a report says of the commands of an External: one that hangs, and a start that fails."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill import External
from pytest_gracekill.errors import StartError

if TYPE_CHECKING:
    from pytest_gracekill.fixtures import Judge
    from pytest_gracekill.report import Report

#: Ends when the VM has.
WAIT = "while [ -e /proc/{pid} ]; do sleep 0.02; done"
STOP = ["sh", "-c", f"kill {{pid}}; {WAIT}"]
#: Has the daemon go on, waits until it has ended, and stops the VM.
ENDS_THE_DAEMON = """
touch {dir}/called
while [ -n "$(tr -d '\\0' </proc/$(cat {dir}/daemon)/cmdline 2>/dev/null)" ]; do sleep 0.01; done
kill $1
while [ -e /proc/$1 ]; do sleep 0.02; done
"""


def detail(report: Report) -> list[str]:
    return list(report.verdicts["promptness"].detail)


def hung(gracekill: Judge, script: str, callers: int = 1) -> list[str]:
    """What is told of a stop command that is cut off."""
    report = gracekill(
        External(stop=["sh", "-c", f"{script} # {{pid}}"]),
        flush_time=0.1,
        budget=1.0,
        callers=callers,
    )
    assert report.verdicts["promptness"].word == "HUNG"
    assert report.verdicts["promptness"].evidence.endswith("s in its stop command")
    told = detail(report)
    assert not any(
        line.endswith(":") and not following.startswith("  ")
        for line, following in zip(told, [*told[1:], ""], strict=True)
    ), f"a heading without anything below it: {told}"
    return told


def test_a_command_that_hangs_tells_what_it_said_and_where_it_stands(gracekill: Judge) -> None:
    told = hung(gracekill, "echo waiting for the agent; echo of vm-7 >&2; sleep 600")
    assert told[:3] == ["its stop command had printed:", "  waiting for the agent", "  of vm-7"]
    assert told[3] == "its processes, each below its parent:"
    shell, sleep = told[4:]
    assert shell.startswith("  sh ")
    assert sleep.startswith("    sleep ")
    assert "(sleep 600) sleeps" in sleep


def test_one_that_prints_nothing_and_stands_still(gracekill: Judge) -> None:
    told = hung(gracekill, "kill -STOP $$")
    assert told[0] == "its stop command had printed nothing"
    assert told[2].endswith(" is stopped")


def test_one_that_has_left_a_daemon_in_another_session(gracekill: Judge) -> None:
    told = hung(gracekill, "(setsid sleep 601 &); exec sleep 602")
    assert {"(sleep 601)", "(sleep 602)"} == {
        word for line in told for word in ("(sleep 601)", "(sleep 602)") if word in line
    }


def test_one_that_prints_without_an_end(gracekill: Judge) -> None:
    told = hung(gracekill, "while :; do echo line; done")
    assert 3 < len(told) < 20
    assert told[1:3] == ["  line", "  line"]


def test_each_of_several_callers_tells_of_its_own_command(gracekill: Judge) -> None:
    script = (
        "n=$(ls {dir} | wc -l); touch {dir}/$$; [ $n = 0 ] && exec sleep 603; echo first; exit 1"
    )
    told = hung(gracekill, script, callers=2)
    assert told[0] == "its stop command had printed nothing"


def external(script: str) -> External:
    return External(start=["sh", "-c", script], stop=STOP)


def test_a_start_that_has_failed_by_the_call_is_no_routine(gracekill: Judge) -> None:
    """It says that the VM could not be started, whatever runs: nothing is judged."""
    failing = external("(sleep 0.3; exec {argv}) & echo no tap device >&2; exit 3")
    with pytest.raises(StartError, match=r"start=.* ended with status 3: no tap device \(from"):
        gracekill(failing, flush_time=0.1)


#: Holds QEMU's lock on the image, so that the VM says that it is there and ends; then it stays.
LOCKS = """
import fcntl, struct, subprocess, sys, time
image = open(sys.argv[1], "r+b")
fcntl.fcntl(image, 37, struct.pack("hhqqi4x", 0, 0, 100, 200, 0))  # F_OFD_SETLK
print("vm-7 on tap0", flush=True)
subprocess.run(sys.argv[2:])
time.sleep(600)
"""


def test_a_vm_that_does_not_come_up_tells_what_its_start_command_said(gracekill: Judge) -> None:
    image = "$(dirname {pid_file})/disk"
    failing = External(
        start=["sh", "-c", f"exec {sys.executable} {{dir}}/start {image} {{argv}}"],
        stop=STOP,
        files={"start": LOCKS},
    )
    with pytest.raises(StartError) as caught:
        gracekill(failing)
    assert "ended before it was ready" in str(caught.value)
    last = str(caught.value).splitlines()[-1]
    assert re.search(r"^start=.* runs: vm-7 on tap0; .*Is another process", last), caught.value


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ("echo no tap device; exit 3", "ended with status 3 at t+"),
        ("echo no tap device; kill -9 $$", "ended by SIGKILL at t+"),
    ],
)
def test_a_start_that_fails_meanwhile_is_on_record(gracekill: Judge, end: str, told: str) -> None:
    until = "while [ ! -e {dir}/called ]; do sleep 0.01; done"
    daemon = External(
        start=["sh", "-c", f"echo $$ >{{dir}}/daemon; {{argv}} & {until}; {end}"],
        # the daemon has ended, but for its zombie perhaps, before the command goes on
        stop=["sh", "{dir}/stop", "{pid}"],
        files={"stop": ENDS_THE_DAEMON},
    )
    report = gracekill(daemon, flush_time=0.1)
    report.check()
    (note,) = report.notes
    assert told in note
    assert ": no tap device" in note
    assert "no tap device" in str(report)


@pytest.mark.parametrize(
    "start",
    [
        ["{program}"],
        ["sh", "-c", "exec {argv}"],
        ["sh", "-c", "{argv} & sleep 0.01"],
        ["sh", "-c", "{argv} & wait $!; exit 0"],
    ],
)
def test_a_start_command_that_ends_as_it_should_is_not_told_of(
    gracekill: Judge, start: list[str]
) -> None:
    killed = ["sh", "-c", f"kill -9 {{pid}}; {WAIT}"]
    for stop in (STOP, killed):
        report = gracekill(External(start=start, stop=stop), flush_time=0.05)
        assert not report.notes


#: Clears the screen, sets the window's title, rings; a carriage return, and bytes that are no text.
HOSTILE = r"printf '\033[2J\033]0;mine\007no\rtap\233\377 device\n'"


@pytest.mark.parametrize("where", ["stop", "hung", "start"])
def test_control_characters_of_a_command_do_not_reach_the_terminal(
    gracekill: Judge, where: str
) -> None:
    if where == "hung":
        told = "\n".join(hung(gracekill, f"{HOSTILE}; exec sleep 600"))
    elif where == "stop":
        stop = External(stop=["sh", "-c", f"{HOSTILE}; exit 3 # {{pid}}"])
        told = str(gracekill(stop, flush_time=0.1))
    else:
        with pytest.raises(StartError) as caught:
            gracekill(external(f"(sleep 0.3; exec {{argv}}) & {HOSTILE}; exit 3"), flush_time=0.1)
        told = str(caught.value)
    assert r"\x1b[2J" in told
    assert r"no\rtap" in told
    assert told.replace("\n", "").isprintable()
