"""A call that hangs is cut off, also when nothing that it waits for can be ended."""

from __future__ import annotations

import signal
import sys
import threading

import pytest

from pytest_gracekill.witness.watchdog import Watchdog

if sys.platform == "win32":
    pytest.skip("interrupts by signal need POSIX", allow_module_level=True)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_it_interrupts_also_when_what_should_free_fails() -> None:
    def cannot_free() -> None:
        raise TimeoutError("still there")

    watchdog = Watchdog(0.01, cannot_free)
    with watchdog:
        threading.Event().wait(60)
        pytest.fail("it was not interrupted")
    assert watchdog.expired
    assert watchdog.hung_in


def test_its_thread_takes_no_signal_from_the_main_one() -> None:
    masks: list[set[int | signal.Signals]] = []
    with Watchdog(0.01, lambda: masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))):
        threading.Event().wait(60)
    assert masks[0] >= {signal.SIGALRM, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD}
    assert not masks[0] & {signal.SIGSEGV, signal.SIGBUS}  # faulthandler's


def test_a_call_that_ends_in_time_is_left_alone() -> None:
    freed: list[bool] = []
    with Watchdog(60, lambda: freed.append(True)) as watchdog:
        pass
    assert (watchdog.expired, watchdog.hung_in, freed) == (False, (), [])
