"""Of a command that was run below a warden nothing is left, however it tries to get away.

What a command started is known by a pidfd, which the command's own descendants hand over by a
file; whether it has ended is asked of that, never of a pid.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from pytest_gracekill.child import mark as marks
from pytest_gracekill.child import programfile
from pytest_gracekill.errors import StartError, WardenLostError

if sys.platform != "linux":
    pytest.skip("wardens need Linux", allow_module_level=True)

from pytest_gracekill.child import warden
from pytest_gracekill.child.warden import Guarded, RunError

Run = Callable[..., Guarded]
GONE_WITHIN = 20.0

# tells its pid by a line, and stays
STAY = """
import os, signal, sys, time
for name in sys.argv[2:]:
    signal.signal(signal.Signals[name], signal.SIG_IGN)
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND)
os.write(fd, b"%d\\n" % os.getpid())
while True:
    time.sleep(60)
"""
# as daemon(3) does it, twice, each time with a session of its own; then what follows
DAEMONISE = """
import os, sys
for _ in range(2):
    if os.fork():
        os._exit(0)
    os.setsid()
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[1:]])
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with ExitStack() as stack:
        (tmp_path / "pids").touch()

        def start(*command: str, name: str = "command") -> Guarded:
            guarded = Guarded(command, tmp_path, name)
            stack.callback(guarded.end)
            return guarded

        yield start


@pytest.fixture
def stays(tmp_path: Path, run: Run) -> Iterator[Callable[..., tuple[Guarded, int]]]:
    """Run something that stays; returns who guards it, and a pidfd of it."""
    pidfds: list[int] = []

    def start(*ignores: str, daemon: bool = False) -> tuple[Guarded, int]:
        first = ("-c", DAEMONISE) if daemon else ("-c",)
        guarded = run(sys.executable, *first, STAY, str(tmp_path / "pids"), *ignores)
        pidfds.append(os.pidfd_open(told(tmp_path / "pids")))
        return guarded, pidfds[-1]

    yield start
    for pidfd in pidfds:
        os.close(pidfd)


def told(path: Path) -> int:
    """The pid that comes by this file; a file gives no event that one could wait for."""
    deadline = time.monotonic() + 30
    while not (text := path.read_text()).endswith("\n"):
        assert time.monotonic() < deadline, f"waited 30 s for a pid in {path}"
        time.sleep(0.005)
    return int(text.split()[-1])


def ended(pidfd: int, seconds: float = GONE_WITHIN) -> bool:
    return bool(select.select([pidfd], [], [], seconds)[0])


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough


@pytest.mark.parametrize(
    ("command", "code"),
    [("true", 0), ("false", 1), ("sh -c 'exit 77'", 77), ("sh -c 'kill -9 $$'", -9)],
)
def test_the_status_is_the_commands_own(run: Run, command: str, code: int) -> None:
    guarded = run("sh", "-c", f"exec {command}")
    assert guarded.wait(30) == code
    assert guarded.ended


def test_output_is_kept_and_nobody_who_holds_it_is_waited_for(run: Run) -> None:
    guarded = run("sh", "-c", "seq 5; sleep 600 & echo done >&2")
    assert guarded.wait(30) == 0
    assert guarded.tail() == "4; 5; done"
    assert run("true", name="other").tail() == ""


def test_it_reads_nothing_of_what_pytest_reads(run: Run) -> None:
    guarded = run("sh", "-c", "cat; readlink /proc/self/fd/0")
    assert guarded.wait(30) == 0
    assert guarded.tail() == "/dev/null"


def test_wait_has_a_deadline_that_names_the_command(run: Run) -> None:
    guarded = run("sleep", "600")
    with pytest.raises(TimeoutError, match=r"command still runs after 0\.01 s"):
        guarded.wait(0.01)
    assert not guarded.ended
    assert repr(guarded) == "<Guarded command: runs>"


@pytest.mark.parametrize(
    ("command", "error"),
    [("/no/such/command", "No such file or directory"), ("/etc/passwd", "Permission denied")],
)
def test_a_command_that_cannot_be_run(tmp_path: Path, command: str, error: str) -> None:
    before = descriptors()
    with pytest.raises(RunError) as caught:
        Guarded([command], tmp_path, "command")
    assert str(caught.value) == error
    assert descriptors() == before
    assert [path.name for path in tmp_path.iterdir()] == ["command.log"]


@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemon"])
@pytest.mark.parametrize("ignores", [(), ("SIGTERM", "SIGHUP", "SIGINT")], ids=["kind", "stubborn"])
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_end_ends_everything(
    stays: Callable[..., tuple[Guarded, int]],
    tmp_path: Path,
    daemon: bool,  # noqa: FBT001
    ignores: tuple[str, ...],
    stopped: bool,  # noqa: FBT001
) -> None:
    guarded, pidfd = stays(*ignores, daemon=daemon)
    if stopped:
        signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
    assert not ended(pidfd, 0)
    guarded.end()
    assert ended(pidfd, 0), "gone when end returns"
    assert not (tmp_path / "command.mark").exists()
    guarded.end()  # once more does nothing


def test_a_kind_one_is_asked_before_it_is_killed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "pids").write_text("")
    script = f"trap 'echo bye; exit 0' TERM; echo $$ >{tmp_path}/pids; while :; do sleep 0.01; done"
    guarded = run("sh", "-c", script)
    told(tmp_path / "pids")
    guarded.end()
    assert (guarded.code, guarded.tail()) == (0, "bye")


@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemon"])
def test_strike_kills_at_once(stays: Callable[..., tuple[Guarded, int]], daemon: bool) -> None:  # noqa: FBT001
    guarded, pidfd = stays("SIGTERM", daemon=daemon)
    guarded.strike()
    assert ended(pidfd)
    assert guarded.wait(30) == (0 if daemon else -9)


def test_what_dies_meanwhile_is_reaped(run: Run, tmp_path: Path) -> None:
    # an orphan whose parent has gone: without a reaper, kill -0 would find its zombie for ever
    script = f"(sh -c 'echo $$ >{tmp_path}/pids; exec sleep 0.1' &) ; exec sleep 600"
    run("sh", "-c", script)
    pid = told(tmp_path / "pids")
    deadline = time.monotonic() + 30
    while marks.state(pid):
        assert time.monotonic() < deadline, f"pid {pid} is {marks.state(pid)!r} after 30 s"
        time.sleep(0.005)


def wardens(guarded: Guarded) -> tuple[int, int]:
    """The pids of the warden, and of the process behind it."""
    behind = psutil.Process(guarded._warden.pid)
    (warden,) = behind.children()
    return warden.pid, behind.pid


@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemon"])
@pytest.mark.parametrize("both", [False, True], ids=["one", "both"])
def test_a_warden_that_is_killed_is_told_and_leaves_nothing(
    stays: Callable[..., tuple[Guarded, int]],
    daemon: bool,  # noqa: FBT001
    both: bool,  # noqa: FBT001
) -> None:
    guarded, pidfd = stays("SIGTERM", daemon=daemon)
    if daemon:
        assert guarded.wait(30) == 0
    warden, behind = wardens(guarded)
    for pid in (behind, warden) if both else (warden,):
        killed = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        assert ended(killed)
        os.close(killed)
    if not daemon:
        with pytest.raises(
            WardenLostError, match=r"^the warden of .* was killed by another process"
        ):
            guarded.wait(30)
        assert guarded.ended
    if not both:
        assert ended(pidfd)
    guarded.end()
    assert ended(pidfd, 0)
    assert guarded.lost is not None
    guarded.end()


def test_who_has_killed_the_warden_did_not_change_a_status_that_was_known(run: Run) -> None:
    guarded = run("false")
    assert guarded.wait(30) == 1
    os.kill(wardens(guarded)[0], signal.SIGKILL)
    guarded.end()
    assert guarded.wait(0) == 1


@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemon"])
def test_the_process_behind_the_warden_is_not_needed_as_long_as_that_lives(
    stays: Callable[..., tuple[Guarded, int]],
    daemon: bool,  # noqa: FBT001
) -> None:
    guarded, pidfd = stays("SIGTERM", daemon=daemon)
    os.kill(wardens(guarded)[1], signal.SIGKILL)
    assert not ended(pidfd, 0.05)
    guarded.end()
    assert ended(pidfd, 0)
    assert guarded.lost is None


def test_a_warden_that_is_stopped_is_killed_in_the_end(
    stays: Callable[..., tuple[Guarded, int]],
) -> None:
    guarded, pidfd = stays()
    os.kill(wardens(guarded)[0], signal.SIGSTOP)
    guarded.end()
    assert ended(pidfd, 0)
    assert guarded.lost is None


@pytest.mark.parametrize("left", ["blocked", "ignored"])
def test_what_pytest_blocks_or_ignores_is_not_the_commands(run: Run, left: str) -> None:
    number = signal.SIGCHLD
    old = signal.getsignal(number)
    try:
        if left == "blocked":
            signal.pthread_sigmask(signal.SIG_BLOCK, [number, signal.SIGTERM])
        else:
            signal.signal(number, signal.SIG_IGN)
        guarded = run("sh", "-c", "sleep 0.01 & wait; grep -E 'Sig(Blk|Ign)' /proc/self/status")
        assert guarded.wait(30) == 0
        masks = [int(line.split()[1], 16) for line in guarded.printed(2)]
        # signals 32 and 33 are libc's own, and cannot be set
        assert [mask & ~(3 << 31) for mask in masks] == [0, 0]
        guarded.end()
    finally:
        signal.signal(number, old)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number, signal.SIGTERM])


KEEPER = """
import sys, time
from pathlib import Path
from pytest_gracekill.child.warden import Guarded
guarded = Guarded(sys.argv[2:], Path(sys.argv[1]), "command")
time.sleep(600)
"""


@pytest.mark.parametrize("daemon", [False, True], ids=["foreground", "daemon"])
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_nothing_outlives_a_keeper_that_is_sigkilled(
    tmp_path: Path,
    daemon: bool,  # noqa: FBT001
    stopped: bool,  # noqa: FBT001
) -> None:
    (tmp_path / "pids").touch()
    first = ("-c", DAEMONISE) if daemon else ("-c",)
    command = [sys.executable, *first, STAY, str(tmp_path / "pids"), "SIGTERM"]
    with subprocess.Popen([sys.executable, "-c", KEEPER, str(tmp_path), *command]) as keeper:
        pidfd = os.pidfd_open(told(tmp_path / "pids"))
        if stopped:
            signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
        keeper.kill()
    try:
        assert ended(pidfd)
    finally:
        os.close(pidfd)


def test_a_warden_whose_keeper_has_gone_already_runs_nothing(tmp_path: Path) -> None:
    # a FIFO that nobody writes to: poll would never tell of an end
    os.mkfifo(tmp_path / "mark")
    program = programfile.argv(Path(warden.__file__).parent / "program" / "warden.py")
    ran = subprocess.run(
        [*program, tmp_path / "mark", tmp_path / "log", "touch", tmp_path / "ran"],
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    assert ran.stdout == b"over\n"
    assert not (tmp_path / "ran").exists()


def test_an_interrupted_start_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pids").touch()
    pidfds: list[int] = []

    def interrupted(guarded: Guarded, deadline: float) -> bool:
        if not pidfds:
            pidfds.append(os.pidfd_open(told(tmp_path / "pids")))
            raise KeyboardInterrupt
        return hear(guarded, deadline)

    hear = Guarded._hear
    monkeypatch.setattr(Guarded, "_hear", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Guarded([sys.executable, "-c", STAY, str(tmp_path / "pids")], tmp_path, "command")
    assert ended(pidfds[0], 0)
    os.close(pidfds[0])


def test_a_warden_that_dies_before_it_has_begun_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text("raise SystemExit(1)")
    monkeypatch.setattr(warden, "_PROGRAM", tmp_path / "broken.py")
    with pytest.raises(StartError, match=r"^true: its warden ended before it had begun$"):
        Guarded(["true"], tmp_path, "command")


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_of_the_keeper_does_not_keep_it_alive(
    stays: Callable[..., tuple[Guarded, int]],
) -> None:
    guarded, pidfd = stays()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        guarded.strike()
        assert ended(pidfd)
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(pid, 0)


def test_it_leaves_no_descriptor_and_no_zombie(run: Run, tmp_path: Path) -> None:
    run("true", name="warm-up").end()
    before = descriptors()
    guarded = run("sh", "-c", "sleep 600 & exec sleep 600")
    assert descriptors() != before
    guarded.end()
    assert descriptors() == before
    assert guarded._warden.returncode == 0
