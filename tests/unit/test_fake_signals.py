"""What the fake does at a first and a second signal, and before it has handlers at all."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fakes import Spawn, await_line

from pytest_gracekill.child.handle import FakeQemu
from pytest_gracekill.child.knobs import Crash, Stop
from pytest_gracekill.child.mark import state
from pytest_gracekill.child.program.stderr import termination


def events(fake: FakeQemu) -> list[str]:
    return [entry.event for entry in fake.journal.entries()]


def first_argument() -> str:
    return Path("/proc/self/cmdline").read_bytes().partition(b"\0")[0].decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_three_signals_are_alike(fake: Spawn, number: int) -> None:
    machine = fake(flush_time=0.05)
    os.kill(machine.pid, number)
    assert machine.wait(20).code == 0
    assert machine.disk.audit().ok
    seen = machine.journal.last("signal")
    assert seen is not None
    assert dict(seen.fields) == {"signal": int(number), "pid": os.getpid()}
    assert machine.stderr == (
        f"qemu-system-x86_64: terminating on signal {int(number)} from pid {os.getpid()} "
        f"({first_argument()})\n"
    )


def test_the_report_says_when_it_does_not_know_the_sender() -> None:
    assert termination(2, 0) == "terminating on signal 2"
    assert termination(15, 2**22 + 1) == (
        "terminating on signal 15 from pid 4194305 (<unknown process>)"
    )


def test_a_sender_may_end_while_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = subprocess.Popen(["sleep", "60"])
    real = os.open

    def open_and_lose(path: str, flags: int) -> int:
        fd = real(path, flags)
        sender.kill()
        sender.wait()
        return fd

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", open_and_lose)
        said = termination(15, sender.pid)
    # nothing to read, or an error, by the kernel
    begins = f"terminating on signal 15 from pid {sender.pid} "
    assert said in {f"{begins}(<unknown process>)", f"{begins}()"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_ignore_notes_the_signal_and_nothing_else(fake: Spawn, number: int) -> None:
    machine = fake(flush_time=0, on_term="ignore", guest="writing")
    os.kill(machine.pid, number)
    await_line(machine, "signal")
    before = events(machine).count("ack")
    await_line(machine, "ack", before + 5)
    assert "flush_begin" not in events(machine)
    assert machine.alive
    assert machine.stderr == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_default_dies_at_once_by_the_signal(fake: Spawn, number: int) -> None:
    machine = fake(flush_time=0, on_term="default")
    os.kill(machine.pid, number)
    ended = machine.wait(20)
    assert (ended.code, ended.signal) == (None, number)
    assert machine.disk.audit().lost == list(range(64))
    assert "handlers" not in events(machine)


def test_exit_ends_with_its_status_and_flushes_nothing(fake: Spawn) -> None:
    machine = fake(flush_time=0, on_term="exit", exit_status=3)
    os.kill(machine.pid, signal.SIGTERM)
    assert machine.wait(20).code == 3
    assert machine.disk.audit().lost == list(range(64))


def test_refuse_says_no_and_stays(fake: Spawn) -> None:
    machine = fake(flush_time=0, on_term="refuse")
    for count in (1, 2):
        os.kill(machine.pid, signal.SIGTERM)
        await_line(machine, "signal", count)
    os.kill(machine.pid, signal.SIGHUP)
    await_line(machine, "signal", 3)
    assert machine.stderr.count("refusing to terminate on signal 15") == 2
    assert "flush_begin" not in events(machine)
    assert machine.alive


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize(
    "crash", [Crash(at=5, exit=3), Crash(at=0, exit=0), Crash(at=5, signal=9),
              Crash(at=7, signal=signal.SIGSEGV), Crash(at=3, signal=signal.SIGPIPE)], ids=str,
)  # fmt: skip
def test_a_crash_comes_when_its_block_is_due(fake: Spawn, crash: Crash, torn: bool) -> None:  # noqa: FBT001  # a parameter
    machine = fake(flush_time=0.08, blocks=8, on_term=crash, torn=torn)
    os.kill(machine.pid, signal.SIGTERM)
    ended = machine.wait(20)
    assert (ended.code, ended.signal) == (crash.exit, crash.signal)
    audit = machine.disk.audit()
    assert audit.torn == ([crash.at] if torn else [])
    assert audit.lost == list(range(crash.at + torn, 8))
    assert events(machine).count("crash") == 1
    assert "flush_end" not in events(machine)


def test_a_crash_in_a_guest_that_flushes_comes_even_when_its_block_is_clean(fake: Spawn) -> None:
    machine = fake(flush_time=0.05, guest="flushing", on_term=Crash(at=63, exit=9))
    await_line(machine, "guest_flush", 2)
    await_line(machine, "ack", events(machine).count("ack") + 2)
    os.kill(machine.pid, signal.SIGTERM)
    assert machine.wait(20).code in (0, 9)
    begun = machine.journal.last("flush_begin")
    assert begun is not None
    assert machine.exit is not None
    assert (machine.exit.code == 9) is (begun.number("blocks") > 0)


def test_stop_stops_itself_and_goes_on_after_sigcont(fake: Spawn) -> None:
    machine = fake(flush_time=0.4, blocks=8, on_term=Stop(at=4))
    os.kill(machine.pid, signal.SIGTERM)
    stop = await_line(machine, "stop")
    deadline = time.monotonic() + 20
    while state(machine.pid) != "T":
        assert time.monotonic() < deadline, f"pid {machine.pid} did not stop in 20 s"
    assert events(machine).count("block") == 4
    time.sleep(0.3)  # longer than the rest of the flush, which is not to be caught up
    continued = time.monotonic_ns()
    os.kill(machine.pid, signal.SIGCONT)
    assert machine.wait(20).code == 0
    assert machine.disk.audit().ok
    assert events(machine).count("stop") == 1
    flush = await_line(machine, "flush_end").at_ns - await_line(machine, "flush_begin").at_ns
    assert flush - (continued - stop.at_ns) >= 0.4e9


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("on_second_term", ["ignore", "abort", "restart"])
def test_a_second_signal_is_noted_when_it_comes(
    fake: Spawn, on_second_term: str, second: int
) -> None:
    machine = fake(flush_time=0.8, blocks=8, on_second_term=on_second_term)
    os.kill(machine.pid, signal.SIGTERM)
    await_line(machine, "block", 2)
    os.kill(machine.pid, second)
    ended = machine.wait(20)
    names = events(machine)
    seen = machine.journal.last("signal")
    assert seen is not None
    assert dict(seen.fields) == {"signal": int(second), "pid": os.getpid()}
    assert names.count("signal") == 2
    assert len(names) - names[::-1].index("signal") - 1 < names.index("exit")
    assert machine.stderr.count("terminating on signal") == 1
    if on_second_term == "abort":
        assert ended.code == 1
        blocks = names.count("block")
        assert 2 <= blocks < 8
        assert machine.disk.audit().lost == list(range(blocks, 8))
        return
    assert ended.code == 0
    assert machine.disk.audit().ok
    begins = [e.at_ns for e in machine.journal.entries() if e.event == "flush_begin"]
    assert len(begins) == (2 if on_second_term == "restart" else 1)
    done = machine.journal.last("flush_end")
    assert done is not None
    assert done.at_ns - begins[-1] >= 0.8e9
    indexes = [e.number("index") for e in machine.journal.entries() if e.event == "block"]
    assert indexes[-8:] == list(range(8))
    assert (len(indexes) > 8) is (on_second_term == "restart")


def test_a_second_signal_ends_the_lingering_only_if_it_aborts(fake: Spawn) -> None:
    for on_second_term, code in (("abort", 1), ("restart", 0)):
        machine = fake(flush_time=0, linger=1.0, on_second_term=on_second_term)
        os.kill(machine.pid, signal.SIGTERM)
        await_line(machine, "unlock")
        os.kill(machine.pid, signal.SIGTERM)
        assert machine.wait(20).code == code
        assert machine.disk.audit().ok


@pytest.mark.parametrize("ready_after", [0.0, 2.0])
def test_a_signal_before_the_handlers_kills(fake: Spawn, ready_after: float) -> None:
    machine = fake(flush_time=0.02, ready_after=ready_after)
    assert int((machine.dir / "pid").read_text()) == machine.pid
    assert ("handlers" in events(machine)) is (ready_after == 0)
    os.kill(machine.pid, signal.SIGTERM)
    ended = machine.wait(20)
    if ready_after:
        assert ended.signal == signal.SIGTERM
        assert machine.disk.audit().lost == list(range(64))
    else:
        assert ended.code == 0


def test_after_the_handlers_it_is_as_ever(fake: Spawn) -> None:
    machine = fake(flush_time=0.02, ready_after=0.1)
    late = await_line(machine, "handlers")
    early = await_line(machine, "pid_file")
    assert late.at_ns - early.at_ns >= 0.1e9
    os.kill(machine.pid, signal.SIGTERM)
    assert machine.wait(20).code == 0


@pytest.mark.parametrize("topology", ["child", "reaped", "leaderless"])
def test_an_inherited_block_leaves_sigterm_pending_for_ever(fake: Spawn, topology: str) -> None:
    machine = fake(flush_time=0.02, inherit="blocked", topology=topology)
    os.kill(machine.pid, signal.SIGTERM)
    os.kill(machine.pid, signal.SIGHUP)
    assert machine.wait(20).code == 0
    seen = [e.number("signal") for e in machine.journal.entries() if e.event == "signal"]
    assert seen == [signal.SIGHUP]


def test_an_inherited_block_is_there_before_the_handlers(fake: Spawn) -> None:
    machine = fake(flush_time=0.02, inherit="blocked", ready_after=0.3)
    os.kill(machine.pid, signal.SIGTERM)
    await_line(machine, "handlers")
    assert machine.alive


@pytest.mark.parametrize("topology", ["child", "wrapped", "leaderless"])
def test_an_inherited_ignore_drops_sigterm_until_the_handlers_are_in(
    fake: Spawn, topology: str
) -> None:
    machine = fake(flush_time=0.02, inherit="ignored", ready_after=2.0, topology=topology)
    os.kill(machine.pid, signal.SIGTERM)
    assert "handlers" not in events(machine)
    await_line(machine, "handlers")
    assert machine.alive
    os.kill(machine.pid, signal.SIGTERM)
    assert machine.wait(20).code == 0
    assert events(machine).count("signal") == 1


def test_what_our_own_parent_left_us_does_not_reach_the_fake(tmp_path: Path) -> None:
    """As under nohup, or from a thread that blocks signals."""
    code = (
        "import os, signal, sys, pathlib\n"
        "from pytest_gracekill.child.handle import spawn\n"
        "from pytest_gracekill.child.knobs import Knobs\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "for ignored in (signal.SIGCHLD, signal.SIGQUIT, signal.SIGINT):\n"
        "    signal.signal(ignored, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})\n"
        "knobs = Knobs(on_term='default', topology='reaped')\n"
        "fake = spawn(knobs, pathlib.Path(sys.argv[1]))\n"
        "os.kill(fake.pid, signal.SIGTERM)\n"
        "assert fake.wait(20).signal == signal.SIGTERM, fake.exit\n"
        "fake.close()\n"
        "fake = spawn(Knobs(), pathlib.Path(sys.argv[1]) / 'other')\n"
        "os.kill(fake.pid, signal.SIGQUIT)\n"
        "assert fake.wait(20).signal == signal.SIGQUIT, fake.exit\n"
        "fake.close()\n"
    )
    import subprocess  # only here

    subprocess.run([sys.executable, "-c", code, str(tmp_path / "fake")], check=True, timeout=60)
