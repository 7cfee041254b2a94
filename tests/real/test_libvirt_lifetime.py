"""Nothing of libvirt outlives pytest: not its daemon, not a VM of its, not a file.

A pytest of its own is killed while libvirt waits for a VM. Who is there is told by that pytest, and
watched by pidfd.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from libvirt_daemon import Libvirtd
from libvirt_needed import need_libvirt

WITHIN = 60.0
GONE_WITHIN = 20.0

# the flush would take three times as long as anything here waits
TRIAL = f"""
import sys

sys.path.insert(0, {str(Path(__file__).parent)!r})
from libvirt_daemon import Libvirtd, missing

assert missing() is None
from libvirt_domain import destroy_fake, other_clients


def test_trial(gracekill):
    with Libvirtd() as daemon, other_clients(daemon) as clients:
        destroy = destroy_fake(daemon)

        def told(child):
            for stop, status in destroy(child):
                pid = int((daemon.dir / "pid").read_text())
                line = f"STANDS {{child.pid}} {{pid}} {{daemon.dir}} {{child.dir}}"
                print(line, file=sys.__stderr__, flush=True)
                yield stop, status

        gracekill(told, flush_time=60, blocks=600, force=True, contend=clients.work)
"""


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    need_libvirt(request.config)


def in_the_middle(folder: Path) -> tuple[subprocess.Popen[str], list[int], Path]:
    """A pytest in whose trial libvirt has been asked; its processes, and the daemon's folder."""
    (folder / "test_trial.py").write_text(TRIAL, encoding="utf-8")
    options = ["-p", "no:cacheprovider", "-s", f"--rootdir={folder}", f"--basetemp={folder}/tmp"]
    with (folder / "output").open("w") as output:
        pytest_ = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, "test_trial.py"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    assert pytest_.stderr is not None
    readable = select.poll()
    readable.register(pytest_.stderr, select.POLLIN)
    while readable.poll(WITHIN * 1000) and (line := pytest_.stderr.readline()):
        word, *rest = line.split()
        if word == "STANDS":
            await_in(Path(rest[3], "journal"), '"event":"signal"')
            return pytest_, [int(pid) for pid in rest[:2]], Path(rest[2])
    pytest_.kill()
    said = (folder / "output").read_text(encoding="utf-8")
    raise AssertionError(f"it has not come to the trial: {said}")


def await_in(journal: Path, text: str) -> None:
    deadline = time.monotonic() + WITHIN
    while text not in journal.read_text(encoding="utf-8").replace(" ", ""):
        assert time.monotonic() < deadline, f"{text} is not in {journal}"
        time.sleep(0.01)  # a file tells nobody that it has grown


def ended(pidfd: int) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(GONE_WITHIN * 1000))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_pytest(tmp_path: Path, how: signal.Signals) -> None:
    pytest_, pids, folder = in_the_middle(tmp_path)
    with pytest_, ExitStack() as stack:
        stack.callback(pytest_.kill)
        pidfds = [os.pidfd_open(pid) for pid in pids]
        for pidfd in pidfds:
            stack.callback(os.close, pidfd)
        assert folder.is_dir()
        pytest_.send_signal(how)
        pytest_.wait(WITHIN)
        assert [ended(pidfd) for pidfd in pidfds] == [True, True]
        deadline = time.monotonic() + GONE_WITHIN
        while folder.exists() and time.monotonic() < deadline:
            time.sleep(0.01)  # a folder tells nobody that it has gone
        assert not folder.exists()


def test_nothing_is_left_of_a_daemon_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    write = Libvirtd._write

    def broken(self: Libvirtd) -> None:
        write(self)
        made.append(self.dir)
        (self.dir / "libvirtd.conf").write_text("nonsense\n", encoding="utf-8")

    monkeypatch.setattr(Libvirtd, "_write", broken)
    with pytest.raises(RuntimeError, match=r"exit 1: .*nonsense|exit 1: .*libvirtd.conf"):
        Libvirtd()
    assert made
    assert not made[0].exists()
