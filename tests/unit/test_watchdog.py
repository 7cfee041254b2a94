"""A call that hangs is cut off, also when nothing that it waits for can be ended.

What cuts it off never comes out of its guard, whenever it arrives.
"""

from __future__ import annotations

import ctypes
import random
import signal
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.witness import cut_off, watchdog
from pytest_gracekill.witness.cut_off import CutOff, Interruptible
from pytest_gracekill.witness.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


# -- what is raised, and where


@pytest.fixture
def quick_turns() -> Iterator[None]:
    """Threads that have their turns often: else what is short ends before the other has one."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch, quick_turns: None) -> Iterator[None]:
    """Interrupts that come at once, and a hundred times as often."""
    monkeypatch.setattr(watchdog, "_AFTER_KILL", 0.0)
    monkeypatch.setattr(watchdog, "_BETWEEN_INTERRUPTS", 0.0005)
    before = signal.getsignal(signal.SIGURG)
    yield
    assert signal.getsignal(signal.SIGURG) == before


def hang() -> None:
    threading.Event().wait(60)
    pytest.fail("it was not interrupted")


def clean_up(steps: int) -> None:
    """Take a while in Python code, which can be interrupted anywhere."""
    for step in range(steps):
        str(step)


@pytest.mark.usefixtures("eager")
def test_none_comes_out_of_a_clean_up_of_any_length() -> None:
    chosen = random.Random(0)
    for steps in (chosen.randrange(20_000) for _ in range(150)):
        cleaned = False
        with Watchdog(0.0005, lambda: None) as dog:
            try:
                hang()
            finally:
                clean_up(steps)
                cleaned = True
        clean_up(500)
        assert cleaned
        assert dog.expired
        assert not dog._thread.is_alive()


@pytest.mark.usefixtures("eager")
def test_none_comes_out_of_calls_that_end_when_their_budget_does() -> None:
    interrupted = Counter[bool]()
    for steps in range(0, 40_000, 200):
        dog = Watchdog(0.001, lambda: None)
        with dog:
            clean_up(steps)
        interrupted[dog.expired] += 1
    assert set(interrupted) == {True, False}


def expired() -> Watchdog:
    """A watchdog whose budget is over as soon as it is entered."""
    dog = Watchdog(60, lambda: None)
    dog.expired = True
    return dog


def test_one_that_comes_when_the_body_has_ended_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    dog = expired()
    join = dog._thread.join

    def interrupted_join(timeout: float) -> None:
        signal.raise_signal(signal.SIGURG)
        join(timeout)

    monkeypatch.setattr(dog._thread, "join", interrupted_join)
    with dog:
        signal.raise_signal(signal.SIGURG)
        pytest.fail("the body was not interrupted")
    assert not dog._thread.is_alive()


def test_one_that_comes_before_the_body_has_begun_is_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dog = expired()
    start = dog._thread.start

    def interrupted_start() -> None:
        signal.raise_signal(signal.SIGURG)
        start()

    monkeypatch.setattr(dog._thread, "start", interrupted_start)
    begun = False
    with dog:
        begun = True
    assert begun


def test_a_watchdog_within_the_body_begins_and_ends_undisturbed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inner = Watchdog(60, lambda: None)
    join = inner._thread.join

    def interrupted_join(timeout: float) -> None:
        # by the outer one, whose budget is over
        outer._interrupt(signal.SIGURG, sys._getframe())
        join(timeout)

    monkeypatch.setattr(inner._thread, "join", interrupted_join)
    outer = expired()
    ended = False
    with outer:
        with inner:
            pass
        ended = True
    assert ended


def test_a_clean_up_is_not_interrupted_until_it_takes_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = []
    with expired():
        try:
            signal.raise_signal(signal.SIGURG)
        finally:
            for _ in range(20):
                signal.raise_signal(signal.SIGURG)
            told.append("cleaned up")
            try:
                int("an error of the clean-up's own hides nothing")
            except ValueError:
                signal.raise_signal(signal.SIGURG)
            told.append("with an error of its own")
            monkeypatch.setattr(cut_off, "_CLEAN_UP", 0.0)
            signal.raise_signal(signal.SIGURG)
            told.append("for ever")
    assert told == ["cleaned up", "with an error of its own"]


def test_a_body_that_swallows_it_is_interrupted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    swallowed = []
    monkeypatch.setattr(cut_off, "_SWALLOWED", 0.0)
    with expired():
        for _ in range(3):
            try:
                signal.raise_signal(signal.SIGURG)
                pytest.fail("it was not interrupted")
            except CutOff as error:
                swallowed.append(error)
        signal.raise_signal(signal.SIGURG)
        pytest.fail("it was not interrupted")
    assert len(swallowed) == 3


def test_a_watchdog_that_the_user_has_interrupted_does_not_go_on() -> None:
    """Ctrl-C may come when the body has ended, in place of what would disarm the watchdog."""
    before = signal.getsignal(signal.SIGURG)
    dog = expired()

    def enter() -> None:
        dog.__enter__()

    enter()
    signal.raise_signal(signal.SIGURG)
    dog._thread.join(10)
    assert not dog._thread.is_alive()
    assert signal.getsignal(signal.SIGURG) == before


# -- a thread beside it


def beside(body: Callable[[], object], guard: Interruptible) -> list[BaseException | str]:
    """Interrupt a body in a thread again and again until it has ended; what happened there."""
    seen: list[BaseException | str] = []

    def work() -> None:
        try:
            guard.run(body)
            clean_up(2_000)  # an interrupt that comes late comes here
            seen.append("went on")
        except BaseException as error:  # noqa: BLE001 - CutOff is one
            seen.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        guard.interrupt()
    thread.join()
    return seen


@pytest.mark.usefixtures("quick_turns")
def test_none_comes_out_of_a_thread_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cut_off, "_SWALLOWED", 0.0)
    monkeypatch.setattr(cut_off, "_CLEAN_UP", 0.0)
    interrupted = Counter[bool]()
    for steps in range(0, 6_000, 20):
        ended = False

        def body(steps: int = steps) -> None:
            nonlocal ended
            clean_up(steps)
            ended = True

        assert beside(body, Interruptible()) == ["went on"]
        interrupted[ended] += 1
    assert set(interrupted) == {True, False}


def test_a_thread_beside_it_cleans_up() -> None:
    cleaned = []

    def body() -> None:
        try:
            hang()
        finally:
            clean_up(50_000)
            cleaned.append(True)

    assert beside(body, Interruptible()) == ["went on"]
    assert cleaned == [True]


def test_what_the_body_raises_itself_comes_out() -> None:
    def body() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        Interruptible().run(body)


def goes_on_when_profiled() -> bool:
    """Whether a thread that is profiled comes through the call of a function."""
    done = threading.Event()

    def called() -> None:
        pass

    def work() -> None:
        sys.setprofile(lambda *_: None)
        called()
        sys.setprofile(None)
        done.set()

    threading.Thread(target=work, daemon=True).start()
    return done.wait(20)


def test_an_interrupt_that_is_taken_back_leaves_nothing_pending() -> None:
    """CPython 3.11 takes NULL for an exception, too, and forgets the flag for it."""
    cut_off._set_async_exc(threading.get_ident(), ctypes.py_object())
    cut_off.withdraw()
    assert goes_on_when_profiled()


def test_a_body_that_ends_with_its_interrupt_leaves_nothing_pending() -> None:
    for _ in range(50):
        guard = Interruptible()
        going = threading.Event()

        def body(going: threading.Event = going) -> None:
            going.set()

        thread = threading.Thread(target=guard.run, args=(body,))
        thread.start()
        going.wait(20)
        guard.interrupt()
        thread.join(20)
        assert not thread.is_alive()
    assert goes_on_when_profiled()
