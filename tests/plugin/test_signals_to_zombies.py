"""A signal to a zombie reaches nobody: who sends SIGKILL to a whole family is no danger to anybody.

The helpers end at SIGTERM, and a VM that ignores it does not reap them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from pytest_gracekill.fixtures import Judge


def kill_proc_tree(process: psutil.Process) -> None:
    """As psutil's documentation has it."""
    tree = [*process.children(recursive=True), process]
    for each in tree:
        each.terminate()
    _, alive = psutil.wait_procs(tree, timeout=0.2)
    assert len(alive) == 3, "the VM, and two zombies"
    for each in alive:
        each.kill()
    psutil.wait_procs(alive, timeout=10)


def kill_group(pid: int) -> None:
    group = os.getpgid(pid)
    os.killpg(group, signal.SIGTERM)
    while not all(zombies(pid)):
        time.sleep(0.005)
    os.killpg(group, signal.SIGKILL)
    while psutil.pid_exists(pid):
        time.sleep(0.005)


def zombies(pid: int) -> list[bool]:
    helpers = psutil.Process(pid).children()
    assert len(helpers) == 2
    return [helper.status() == psutil.STATUS_ZOMBIE for helper in helpers]


def test_one_by_one(gracekill: Judge) -> None:
    report = gracekill(kill_proc_tree, on_term="ignore", helpers=2, force=True)
    # how soon it returns is up to who reaps the orphans
    report.check("escalation", "outcome", "leftovers")


def test_as_a_group(gracekill: Judge) -> None:
    report = gracekill(kill_group, on_term="ignore", helpers=2, force=True)
    report.check("escalation", "outcome", "promptness", "leftovers")


def test_a_stranger_whose_main_thread_has_ended_is_one_still(gracekill: Judge) -> None:
    program = (
        "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(60,)).start();"
        "print(flush=True); ctypes.CDLL(None).pthread_exit(None)"
    )
    with subprocess.Popen(["python3", "-c", program], stdout=subprocess.PIPE) as stranger:
        try:
            while psutil.Process(stranger.pid).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.005)

            def stop(popen: subprocess.Popen[bytes]) -> None:
                try:
                    os.kill(stranger.pid, signal.SIGKILL)
                finally:
                    popen.terminate()
                    popen.wait(10)

            report = gracekill(stop, flush_time=0.1)
            assert report.verdicts["escalation"].word == "STRANGER"
            assert psutil.Process(stranger.pid).num_threads() > 1, "it lives"
        finally:
            stranger.kill()
