"""A routine that is named by option, variable or ini file, and what is promised for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import RunPytest

TOOL = """
import os, select, signal

def destroy(pid):
    pidfd = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        select.select([pidfd], [], [], 10.0)
    finally:
        os.close(pidfd)

class Manager:
    @staticmethod
    def kill(pid):
        os.kill(pid, signal.SIGKILL)

timeout = 10
"""

TEST = """
def test_it(gracekill, kill_routine):
    print(f"<{getattr(kill_routine, '__qualname__', kill_routine)}>")
    print(gracekill(flush_time=0.1))
"""


@pytest.fixture
def run(
    run_pytest: RunPytest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> RunPytest:
    """A checkout that is not installed, with its tool below the rootdir."""
    pytester.mkpydir("vmtool").joinpath("process.py").write_text(TOOL)
    pytester.makeini("[pytest]\n")
    for name in ("ROUTINE", "STOP", "FORCE"):
        monkeypatch.delenv(f"GRACEKILL_{name}", raising=False)
    return lambda source, *arguments: run_pytest(source, "-s", "-p", "no:pythonpath", *arguments)


NAME = "vmtool.process:destroy"


def test_by_option(run: RunPytest) -> None:
    done = run(TEST, "--gracekill-routine", NAME)
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(
        [f"gracekill: routine={NAME} (from --gracekill-routine)", "*<destroy>"]
    )


def test_by_variable_over_ini(
    run: RunPytest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\ngracekill_routine = vmtool.process:nothing\n")
    monkeypatch.setenv("GRACEKILL_ROUTINE", NAME)
    run(TEST).stdout.fnmatch_lines(["*(from variable GRACEKILL_ROUTINE)", "*<destroy>"])


def test_by_ini(run: RunPytest, pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\ngracekill_routine = vmtool.process:Manager.kill\n")
    done = run(TEST)
    done.stdout.fnmatch_lines(["*<Manager.kill>", "gracekill: DATA LOST (64 of 64 *"])


def test_by_command(run: RunPytest) -> None:
    stop = "sh -c 'kill {pid}; while kill -0 {pid} 2>/dev/null; do sleep 0.02; done'"
    done = run(TEST, "--gracekill-stop", stop)
    done.assert_outcomes(passed=1)
    done.stdout.fnmatch_lines(["*<External(*kill {pid}*", "gracekill: ok"])


def test_a_stronger_source_names_the_other_kind(run: RunPytest, pytester: pytest.Pytester) -> None:
    pytester.makeini(f"[pytest]\ngracekill_routine = {NAME}\n")
    run(TEST, "--gracekill-stop", "kill {pid}").stdout.fnmatch_lines(["*<External('kill {pid}')>"])


def test_a_fixture_of_the_users_comes_first(run: RunPytest, pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        "import pytest\nfrom vmtool.process import Manager\n"
        "@pytest.fixture\ndef kill_routine():\n    return Manager.kill\n"
    )
    run(TEST, "--gracekill-routine", NAME).stdout.fnmatch_lines(["*<Manager.kill>"])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--gracekill-routine=vmtol.process:destroy"], "there is no module 'vmtol.process'"),
        (["--gracekill-routine=vmtool.proces:destroy"], "there is no module 'vmtool.proces'"),
        (["--gracekill-routine=vmtool.process:destory"], "did you mean 'destroy'?"),
        (["--gracekill-routine=vmtool.process"], "module:name is needed"),
        (["--gracekill-routine=vmtool.process:timeout"], "it is a int; a callable or an External"),
        (["--gracekill-routine=os:getpid"], "has no parameter; on offer are driver"),
        (["--gracekill-routine=broken:destroy"], "importing broken raised ZeroDivisionError"),
        (["--gracekill-stop=no-such-command {pid}"], "there is no command 'no-such-command'"),
        (["--gracekill-stop=kill {pdi}"], "there is no {pdi}; filled in are"),
        ([f"--gracekill-routine={NAME}", "--gracekill-stop=kill {pid}"], "one of them is needed"),
        (["--gracekill-force", "--gracekill-graceful"], "one of them is needed"),
    ],
)
def test_one_clear_error_and_no_test(
    run: RunPytest, pytester: pytest.Pytester, arguments: list[str], error: str
) -> None:
    pytester.makepyfile(broken="1 / 0")
    done = run(TEST, *arguments)
    assert done.ret == pytest.ExitCode.USAGE_ERROR
    told = [line for line in done.errlines if line.startswith("ERROR: gracekill: ")]
    assert len(told) == 1, done.errlines
    assert error in told[0]
    assert f"(from {arguments[0].partition('=')[0]}" in told[0] or "(from --gracekill-" in told[0]
    done.stdout.no_fnmatch_line("*<*>*")


PROMISES = """
import os, signal, time

def never_kills(pid):
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.3)
    return False

def kills(pid):
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.3)
    os.kill(pid, signal.SIGKILL)

def flagged(pid, flags):
    kills(pid)

def test_never_kills(gracekill):
    print(gracekill(never_kills, on_term="ignore", survive=0.1).verdicts["escalation"].word + "!")

def test_kills(gracekill):
    print(gracekill(kills, on_term="ignore", survive=0.1).verdicts["escalation"].word + "!")

def test_flagged(gracekill):
    print(gracekill(flagged, on_term="ignore", survive=0.1, flags=1).verdicts["escalation"].word)
"""


@pytest.mark.parametrize(
    ("switch", "words"),
    [
        ([], ["ok!", "ok!", "ok"]),
        (["--gracekill-force"], ["NEVER KILLED!", "ok!", "ok"]),
        # flags say more than the session
        (["--gracekill-graceful"], ["ok!", "KILLED ANYWAY!", "ok"]),
    ],
)
def test_what_a_routine_without_flags_promises(
    run: RunPytest, switch: list[str], words: list[str]
) -> None:
    done = run(PROMISES, *switch)
    done.assert_outcomes(passed=3)
    done.stdout.fnmatch_lines([f"*{word}" for word in words])
