"""Right routines raise no alarm in any schedule that is run, whoever comes in between."""

from __future__ import annotations

import os
import runpy
import select
import signal
from concurrent.futures import thread as executors
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gracekill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_gracekill.fixtures import Judge

HERE = Path(__file__).parent
#: Not simulated: /proc, and whatever is not a plain function.
NOT_SIMULATED = {"right_driver_domain_locks"}
#: One global lock is kept on purpose, or what comes in between is none of its contract.
WITHOUT = {"right_driver_only_dropped": {"same", "destroy", "restart"}}
PLAIN = ("right_pid_poll", "right_popen_wait", "right_psutil_tree", "right_condition_variable")
DRIVER = sorted(
    path.stem for path in HERE.glob("right_driver_*.py") if path.stem not in NOT_SIMULATED
)
BESIDE = ("same", "other", "eof", "undefine", "restart", "destroy")
#: What a real VM has beside time and signals, and who takes part there.
REAL_ONLY = {"helpers", "contenders", "callers"}


def explored(gracekill: Judge, name: str, **more: Any) -> None:
    """As many schedules as half a second has: none of them fails."""
    right = runpy.run_path(str(HERE / f"{name}.py"))
    trial = {key: value for key, value in right["TRIAL"].items() if key not in REAL_ONLY}
    routine = right.get("destroy") or right["stop"]
    if "_changed" in right:
        # as its own module has it: the routine's globals
        module = SimpleNamespace(**right)
        more["locks"] = [(module, "_changed")]
    found = gracekill.explore(routine, **{**trial, "seconds": 0.5, **more})
    assert found.status != "failed", found
    assert found.schedules > 1


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("name", DRIVER)
def test_right_routine_holds_beside(gracekill: Judge, name: str, beside: str) -> None:
    if beside in WITHOUT.get(name, ()):
        pytest.skip("the domain stays locked on purpose: whoever needs it waits")
    explored(gracekill, name, contenders=beside)


@pytest.mark.parametrize("name", PLAIN)
def test_right_routine_without_a_driver_holds(gracekill: Judge, name: str) -> None:
    explored(gracekill, name)


def _stop_by_proc(pid: int) -> bool:
    os.kill(pid, signal.SIGTERM)
    return "Z" in Path(f"/proc/{pid}/stat").read_text(encoding="ascii")


def _stop_by_epoll(pid: int) -> bool:
    os.kill(pid, signal.SIGTERM)
    with select.epoll():
        return True


def test_executor_does_not_wait_for_a_simulated_thread_when_python_ends(
    gracekill: Judge,
) -> None:
    explored(gracekill, "right_executor", preemptions=0, seconds=0.2)
    assert not [one for one in executors._threads_queues if "_gracekill_task" in vars(one)]


@pytest.mark.parametrize(
    ("routine", "what"),
    [(_stop_by_epoll, r"select\.epoll"), (_stop_by_proc, r"/proc/\d+/stat: /proc")],
)
def test_what_is_not_simulated_is_an_error_and_no_verdict(
    gracekill: Judge, routine: Callable[[int], bool], what: str
) -> None:
    with pytest.raises(UsageError, match=f"{what} is not simulated"):
        gracekill.explore(routine, force=True)
