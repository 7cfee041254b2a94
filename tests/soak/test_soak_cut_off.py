"""2,000 cut-offs with clean-ups of random length, under six busy loops: none comes out."""

from __future__ import annotations

import random
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.witness import watchdog
from pytest_gracekill.witness.cut_off import CutOff, Interruptible
from pytest_gracekill.witness.watchdog import Watchdog
from tests.soak.conftest import start_burners
from tests.soak.test_soak import scaled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.soak.conftest import Summarise

if sys.platform == "win32":
    pytest.skip("interrupts by signal need POSIX", allow_module_level=True)

CUT_OFFS = 2_000
#: Four besides the two that the whole soak has.
MORE_BURNERS = 4
#: Seconds of the longest clean-up: two intervals between interrupts, and more.
LONGEST = 0.12

pytestmark = pytest.mark.timeout(0)


@pytest.fixture
def busier() -> Iterator[None]:
    burners = start_burners(MORE_BURNERS)
    yield
    for burner in burners:
        burner.kill()
        burner.communicate()


def hang_and_clean_up(seconds: float) -> None:
    try:
        while True:
            time.sleep(0.01)
    finally:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass


def cut_off(seconds: float) -> bool:
    """Cut one call off; whether anything came out of its watchdog, then or in the next 20 ms."""
    dog = Watchdog(0.001, lambda: None)
    try:
        with dog:
            hang_and_clean_up(seconds)
        time.sleep(0.02)
    except CutOff:
        dog._guards = None
        dog._done.set()
        return True
    return False


@pytest.mark.usefixtures("busier")
def test_no_cut_off_comes_out(monkeypatch: pytest.MonkeyPatch, summarise: Summarise) -> None:
    monkeypatch.setattr(watchdog, "_AFTER_KILL", 0.001)  # this only saves time
    chosen = random.Random()
    count = scaled(CUT_OFFS)
    out = sum(cut_off(chosen.uniform(0, LONGEST)) for _ in range(count))
    summarise(f"{out} of {count} cut-offs came out of their watchdog")
    assert out == 0
    assert signal.getsignal(signal.SIGURG) is signal.SIG_DFL


@pytest.mark.usefixtures("busier")
def test_none_comes_out_of_a_thread_beside_it(summarise: Summarise) -> None:
    chosen = random.Random()
    count, out = scaled(CUT_OFFS), 0
    for _ in range(count):
        guard, seconds = Interruptible(), chosen.uniform(0, LONGEST)
        ended: list[bool] = []

        def work(
            guard: Interruptible = guard, seconds: float = seconds, ended: list[bool] = ended
        ) -> None:
            try:
                guard.run(lambda: hang_and_clean_up(seconds))
                time.sleep(0.005)
            except CutOff:
                return
            ended.append(True)

        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            guard.interrupt()
            thread.join(0.001)
        out += not ended
    summarise(f"{out} of {count} cut-offs came out of a thread beside it")
    assert out == 0
