"""A fake that somebody else starts: what a manager gets, and what the harness hears of that."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pytest_gracekill.child import mark as marks
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.child.lineage import Lineage
from pytest_gracekill.child.program import imagelock
from pytest_gracekill.child.unstarted import Child, Unstarted
from pytest_gracekill.errors import StartError, UsageError
from pytest_gracekill.routine.adapt import adapt

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)

LONG = 20.0
Prepare = Callable[..., Unstarted]


def manager(child: object) -> None: ...


@pytest.fixture
def prepare(tmp_path: Path) -> Iterator[Prepare]:
    made: list[Unstarted] = []

    def make(**knobs: object) -> Unstarted:
        folder = tmp_path / f"fake {len(made)}"
        made.append(Unstarted(Knobs.from_values({"flush_time": 0, **knobs}), folder))
        return made[-1]

    yield make
    for unstarted in made:
        unstarted.close()


def ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], LONG)[0])


WAYS: dict[str, Callable[[Child], subprocess.Popen[bytes]]] = {
    "argv": lambda child: subprocess.Popen(child.argv),
    "cmdline": lambda child: subprocess.Popen(f"{child.cmdline}; exit $?", shell=True),
    "program": lambda child: subprocess.Popen([child.program]),
    "target": lambda child: subprocess.Popen(
        [sys.executable, "-c", "import pickle, sys; pickle.load(sys.stdin.buffer)()"],
        stdin=pickled(child.target),
    ),
}


def pickled(target: object) -> int:
    reading, writing = os.pipe()
    os.write(writing, pickle.dumps(target))
    os.close(writing)
    return reading


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_start_it(prepare: Prepare, way: str) -> None:
    unstarted = prepare(exit_status=4)
    child = unstarted.child
    process = WAYS[way](child)
    child.wait_ready()
    vm = unstarted.ready_vm(LONG)
    assert vm.pid == child.pid == unstarted.pid
    assert (child.pid == process.pid) == (way != "cmdline")
    unstarted.check_started_once(adapt(manager))
    os.kill(child.pid, signal.SIGTERM)
    assert vm.wait(LONG).code == 4
    assert process.wait(LONG) == 4
    assert vm.disk.audit().ok
    if process.stdin is not None:
        process.stdin.close()


def test_what_a_manager_gets(prepare: Prepare) -> None:
    child = prepare(qmp=True).child
    assert child.dir.is_dir()
    assert child.argv[-1] == child.program
    assert os.access(child.program, os.X_OK)
    assert child.cmdline == subprocess.list2cmdline(child.argv).replace('"', "'")
    assert child.qmp is not None
    assert prepare().child.qmp is None
    assert repr(child) == f"<Child {child.program}>"
    assert repr(child.target) == f"<fake QEMU in {child.image}>"


def test_before_its_start_it_has_no_pid(prepare: Prepare) -> None:
    unstarted = prepare()
    assert unstarted.pid is None
    with pytest.raises(StartError, match=r"has not told its pid yet.*child\.wait_ready\(\)"):
        unstarted.child.pid  # noqa: B018 - a property
    with pytest.raises(StartError, match=r"was not ready after 0\.01 s"):
        unstarted.child.wait_ready(0.01)
    assert not unstarted.wait_started(0.01)


def test_one_that_ends_before_it_is_ready_is_told_at_once(prepare: Prepare) -> None:
    unstarted = prepare()
    disk = os.open(unstarted.child.image, os.O_RDWR)
    imagelock.take(disk)  # so that it says that it is there, and goes
    with subprocess.Popen(unstarted.child.argv, stderr=subprocess.PIPE) as process:
        with pytest.raises(StartError, match="ended before it was ready"):
            unstarted.child.wait_ready(60)
        assert process.wait(LONG) == 1
    os.close(disk)


def test_a_second_start_is_counted(prepare: Prepare) -> None:
    unstarted = prepare()
    first = subprocess.Popen(unstarted.child.argv)
    unstarted.child.wait_ready()
    # it finds the disk locked, as QEMU does
    second = subprocess.run(unstarted.child.argv, stderr=subprocess.PIPE, check=False)
    assert b"Is another process using the image [" in second.stderr
    deadline = time.monotonic() + LONG
    while len(unstarted.starts) < 2:
        assert time.monotonic() < deadline, "the second start has not shown"
        time.sleep(0.001)
    with pytest.raises(UsageError, match=r"adapter manager started the fake 2 times \(pids \d+, "):
        unstarted.check_started_once(adapt(manager))
    unstarted.close()
    first.wait(LONG)


class HearsNoReadiness(Unstarted):
    def _hear(self, line: bytes) -> None:
        if not line.startswith(b"ready"):
            super()._hear(line)


def test_close_ends_whoever_was_started_and_leaves_nothing(tmp_path: Path) -> None:
    threads, descriptors = threading.active_count(), sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for number, ready in enumerate((True, False)):
        kind = Unstarted if ready else HearsNoReadiness
        unstarted = kind(Knobs(helpers=1), tmp_path / f"{number}")
        process = subprocess.Popen(unstarted.child.argv)
        assert unstarted.wait_started(LONG)
        if ready:
            unstarted.child.wait_ready()
        pidfd = os.pidfd_open(process.pid)
        unstarted.close()
        assert ended(pidfd)
        os.close(pidfd)
        unstarted.close()
        assert marks.state(process.pid) == "", "no zombie stays"
        process.wait(LONG)
    assert threading.active_count() == threads
    assert sorted(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_close_does_not_wait_for_forked_children_of_ours(tmp_path: Path) -> None:
    unstarted = Unstarted(Knobs(), tmp_path / "fake")
    reading, writing = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=os.read, args=(reading, 1))
    process.start()
    # it has everything open that we have
    unstarted.close()
    alive = unstarted._thread.is_alive()
    os.write(writing, b".")
    process.join(LONG)
    os.close(reading)
    os.close(writing)
    assert not alive


def test_one_that_is_started_when_all_is_over_goes_without_a_word(tmp_path: Path) -> None:
    unstarted = Unstarted(Knobs(), tmp_path / "fake")
    unstarted.close()
    late = subprocess.run(unstarted.child.argv, capture_output=True, timeout=60, check=False)
    assert (late.returncode, late.stdout, late.stderr) == (70, b"", b"")


def test_lineage_knows_our_descendants_from_those_that_were_there() -> None:
    first = Lineage()
    with subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=-1) as shell:
        assert shell.stdout is not None
        grandchild = int(shell.stdout.readline())
        # at once: /proc counts in hundredths of a second, and these have just been started
        second = Lineage()
        pids = (shell.pid, grandchild)
        assert [first.came_since(pid) for pid in pids] == [True, True]
        assert [second.came_since(pid) for pid in pids] == [False, False]
        os.kill(grandchild, signal.SIGKILL)
    assert not first.came_since(shell.pid), "it has ended"
    assert not first.came_since(1)
    assert not first.came_since(os.getpid()), "we do not come from ourselves"
