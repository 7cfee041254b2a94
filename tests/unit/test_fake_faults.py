"""What is not the routine's doing: a full file system, the fake's own errors, a lost wrapper."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.child import mark as marks
from pytest_gracekill.child.handle import FakeQemu, spawn
from pytest_gracekill.child.knobs import Crash, Knobs
from pytest_gracekill.child.program import room
from pytest_gracekill.errors import StartError

if TYPE_CHECKING:
    from fakes import Spawn

if sys.platform != "linux":
    pytest.skip("fakes need Linux", allow_module_level=True)


def pid_of(vm: FakeQemu, role: str) -> int:
    return next(e.number("pid") for e in vm.journal.entries() if e.fields.get("role") == role)


def await_that(vm: FakeQemu) -> str:
    """Wait until a process of the infrastructure is seen to have gone."""
    deadline = time.monotonic() + 20
    while (lost := vm.infrastructure_lost) is None:
        assert time.monotonic() < deadline, "waited 20 s for the loss to be seen"
        time.sleep(0.005)
    return lost


# -- room


def test_the_room_for_disk_and_journal_is_set_aside(fake: Spawn) -> None:
    vm = fake(blocks=64)
    image = (vm.dir / "disk").stat()
    assert image.st_blocks * 512 >= image.st_size
    with vm.journal.path.open("rb") as journal:
        assert room.left(journal.fileno()) >= 64 * 128


def test_a_journal_is_no_longer_than_its_lines(fake: Spawn) -> None:
    vm = fake(flush_time=0.02)
    os.kill(vm.pid, signal.SIGTERM)
    assert vm.wait(20).code == 0
    assert vm.journal.path.read_bytes().endswith(b'"event": "exit", "code": 0}\n')


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_file_system_is_an_error_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(_fd: int, _offset: int, _size: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StartError) as caught:
        spawn(Knobs(blocks=16), tmp_path / "vm")
    assert os.strerror(number) in str(caught.value)
    assert str(tmp_path / "vm" / "disk") in str(caught.value)
    size = 4096 + 16 * 4096 + room.needed(16)
    assert f"needs {size} bytes" in str(caught.value)
    assert not (tmp_path / "vm" / "disk").exists()


SMALL = """
import os, signal, sys, time
from pathlib import Path
from pytest_gracekill.child.handle import spawn
from pytest_gracekill.child.knobs import Knobs
where = Path(sys.argv[1])
vm = spawn(Knobs(guest=sys.argv[2], flush_time=0.3), where / "vm")
try:
    # nothing is left for anybody
    with (where / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(b"x" * 4096):
                pass
        except OSError as error:
            print(error.strerror)
    deadline = time.monotonic() + 60
    while vm.knobs.guest != "idle" and vm.journal.last("guest_paused") is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(vm.pid, signal.SIGTERM)
    vm.wait(30)
    print(vm.exit.code, vm.fault, vm.disk.audit())
finally:
    vm.close()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="a small file system of its own needs root")
@pytest.mark.parametrize("guest", ["idle", "writing", "flushing"])
def test_a_file_system_that_fills_up_later_costs_nothing(tmp_path: Path, guest: str) -> None:
    script = 'mount -t tmpfs -o size=3m none "$1" && exec "$2" -c "$3" "$1" "$4"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", str(tmp_path), sys.executable, SMALL]
    ran = subprocess.run([*command, guest], capture_output=True, text=True, timeout=90, check=False)
    if "unshare" in ran.stderr or "mount:" in ran.stderr:
        pytest.skip(f"no small file system here: {ran.stderr}")
    assert ran.stdout.splitlines() == [
        "No space left on device",
        "0 None all 64 acknowledged blocks on disk",
    ], ran.stderr


# -- the fake's own errors


def test_an_error_of_its_own_is_journalled_and_told(fake: Spawn) -> None:
    vm = fake(flush_time=0.05)
    resource.prlimit(vm.pid, resource.RLIMIT_FSIZE, (20_000, 20_000))
    os.kill(vm.pid, signal.SIGTERM)
    assert vm.wait(20).code == os.EX_SOFTWARE
    assert vm.fault == "the fake failed: OSError: [Errno 27] File too large"
    assert "Traceback" in vm.stderr


def test_an_error_that_cannot_be_journalled_is_told_by_the_status(fake: Spawn) -> None:
    vm = fake(flush_time=0.05)
    resource.prlimit(vm.pid, resource.RLIMIT_FSIZE, (0, 0))
    os.kill(vm.pid, signal.SIGTERM)
    assert vm.wait(20).code == os.EX_SOFTWARE
    assert vm.fault is not None
    assert "ended with status 70, for no request" in vm.fault


def test_an_error_of_a_leaderless_vm_is_told_too(fake: Spawn) -> None:
    vm = fake(topology="leaderless", flush_time=0.05)
    resource.prlimit(vm.pid, resource.RLIMIT_FSIZE, (20_000, 20_000))
    os.kill(vm.pid, signal.SIGTERM)
    vm.wait(20)
    assert vm.fault == "the fake failed: OSError: [Errno 27] File too large"


@pytest.mark.parametrize(
    "knobs",
    [{"exit_status": 3}, {"on_term": "exit"}, {"on_term": Crash(at=2, exit=9)}],
    ids=["status", "exit", "crash"],
)
def test_what_it_was_configured_to_do_is_no_fault(fake: Spawn, knobs: dict[str, object]) -> None:
    vm = fake(flush_time=0.02, blocks=4, **knobs)
    assert vm.fault is None
    os.kill(vm.pid, signal.SIGTERM)
    assert vm.wait(20).code is not None
    assert vm.fault is None


def test_a_vm_that_was_killed_has_no_fault(fake: Spawn) -> None:
    vm = fake()
    os.kill(vm.pid, signal.SIGKILL)
    vm.wait(20)
    assert vm.fault is None


# -- wrapper, reaper, subreaper


@pytest.mark.parametrize(
    ("topology", "role"),
    [("wrapped", "wrapper"), ("reaped", "reaper"), ("zombie", "reaper"), ("daemon", "subreaper")],
)
def test_a_process_in_front_of_the_vm_that_was_killed_is_told(
    fake: Spawn, topology: str, role: str
) -> None:
    vm = fake(topology=topology)
    assert vm.infrastructure_lost is None
    pid = pid_of(vm, role)
    os.kill(pid, signal.SIGKILL)
    told = f"the {role} of the fake (pid {pid}) was ended by SIGKILL before it had reaped the VM"
    assert await_that(vm) == told
    assert vm.popen is None or vm.popen.wait(20) == -signal.SIGKILL  # its status was left there
    vm.close()
    assert vm.infrastructure_lost == told


@pytest.mark.parametrize("topology", ["child", "wrapped", "reaped", "zombie", "daemon"])
@pytest.mark.parametrize("ends", [True, False], ids=["ends", "is closed"])
def test_one_that_has_done_its_work_was_not_lost(fake: Spawn, topology: str, ends: bool) -> None:  # noqa: FBT001
    vm = fake(topology=topology, flush_time=0.02)
    if ends:
        os.kill(vm.pid, signal.SIGTERM)
        vm.wait(20)
        assert vm.infrastructure_lost is None
    vm.close()
    assert vm.infrastructure_lost is None
    assert not marks.state(vm.pid)
