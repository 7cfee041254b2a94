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
TRIALS = f"""
import sys

sys.path.insert(0, {str(Path(__file__).parent)!r})
from libvirt_daemon import Libvirtd, missing

assert missing() is None
from libvirt_domain import destroy_fake, destroy_real, other_clients, start_real


def tell(daemon, pid, folder):
    own = (daemon.dir / "pid").read_text().strip()
    print("STANDS", pid, own, daemon.dir, folder, file=sys.__stderr__, flush=True)


def test_fake(gracekill):
    with Libvirtd() as daemon, other_clients(daemon) as clients:
        destroy = destroy_fake(daemon)

        def told(child):
            for stop, status in destroy(child):
                tell(daemon, child.pid, child.dir.parent)
                yield stop, status

        gracekill(told, flush_time=60, blocks=600, force=True, contend=clients.work)


def test_real(gracekill, real_qemu):
    with Libvirtd() as daemon, other_clients(daemon) as clients:
        vm = real_qemu(start=start_real(daemon), flush_time=60)
        tell(daemon, vm.pid, vm.dir)
        gracekill(destroy_real(daemon), vm=vm, force=True, contend=clients.work)
"""


@pytest.fixture(autouse=True)
def _needs(request: pytest.FixtureRequest) -> None:
    need_libvirt(request.config)


def in_the_middle(folder: Path, vm: str) -> tuple[subprocess.Popen[str], list[int], list[Path]]:
    """A pytest whose trial has asked libvirt; its processes, the folders of daemon and VM."""
    (folder / "test_trial.py").write_text(TRIALS, encoding="utf-8")
    options = ["-p", "no:cacheprovider", "-s", f"--rootdir={folder}", f"--basetemp={folder}/tmp"]
    with (folder / "output").open("w") as output:
        pytest_ = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, f"test_trial.py::test_{vm}"],
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
            return pytest_, [int(pid) for pid in rest[:2]], [Path(path) for path in rest[2:]]
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


@pytest.mark.parametrize(
    ("how", "vm"),
    [(signal.SIGKILL, "fake"), (signal.SIGKILL, "real"), (signal.SIGINT, "fake")],
)
def test_nothing_outlives_pytest(tmp_path: Path, how: signal.Signals, vm: str) -> None:
    pytest_, pids, (folder, vms_folder) = in_the_middle(tmp_path, vm)
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
        left = vms_folder.iterdir() if vms_folder.exists() else ()
        assert not [path for path in left if path.is_socket()]


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
