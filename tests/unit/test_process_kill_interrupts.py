"""One interrupt or exception anywhere in the wait or the re-take: locks and references stay."""

from __future__ import annotations

import inspect
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import pytest

from pytest_gracekill.routine.flags import KillFlags
from pytest_gracekill.routine.model import Driver
from pytest_gracekill.routine.owned_lock import OwnedLock
from pytest_gracekill.routine.policy import DROPS, WAITS, Drop, KillPolicy, Wait
from pytest_gracekill.routine.process_kill import process_kill
from pytest_gracekill.routine.target import PidfdTarget
from pytest_gracekill.routine.tenure import Tenure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

    from _typeshed import TraceFunction

    from pytest_gracekill.routine.result import KillResult

DEADLINE = 30.0
ROUTINE = str(Path(sys.modules[process_kill.__module__].__file__ or "").parent)

pytestmark = pytest.mark.skipif(
    threading.current_thread() is not threading.main_thread(),
    reason="signal handlers run in the main thread, and the tests do not",
)


class Injected(BaseException):
    """No Exception, so that nothing takes it for an error that it knows."""


@pytest.fixture(scope="module")
def vm() -> Iterator[subprocess.Popen[bytes]]:
    """A VM that ignores SIGTERM: one does for all calls, each as a new incarnation."""
    program = (
        "import signal, time\nsignal.signal(15, signal.SIG_IGN)\nprint(flush=True)\ntime.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


@pytest.fixture(autouse=True)
def _python_handler() -> Iterator[None]:
    """Whatever the runner has set, SIGINT raises KeyboardInterrupt here."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


class Scene:
    """A driver with one running domain, and a call as its callers make it."""

    def __init__(self, vm: subprocess.Popen[bytes], lock: type[OwnedLock] = OwnedLock) -> None:
        self._vm = vm
        self.driver = Driver(make_lock=lock)
        self.domain = self.driver.define("web", vm)
        self.domain.ref()
        self.pidfds = open_pidfds()

    def start_again(self) -> None:
        """A new incarnation: the next call asks it anew."""
        self.driver.define("web", self._vm)

    def kill(self, policy: KillPolicy, flags: int = 0) -> KillResult:
        return process_kill(self.driver, self.domain, flags, policy=policy)

    def check(self, when: object) -> None:
        """Locks held, references unchanged, SIGINT's handler back, no pidfd left."""
        assert self.driver.lock.held(), when
        assert self.domain.lock.held(), when
        assert self.domain.refs == 2, when
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, when
        assert open_pidfds() == self.pidfds, when


def open_pidfds() -> int:
    links = [entry for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return sum("pidfd" in str(link.readlink()) for link in links)


@contextmanager
def contended(*operations: Callable[[], None]) -> Iterator[None]:
    """Threads that repeat the operations meanwhile; each has to get through once after the end."""
    stopping = threading.Event()
    pool = ThreadPoolExecutor(len(operations))

    def repeat(operation: Callable[[], None]) -> None:
        while not stopping.is_set():
            operation()
            time.sleep(0.0005)
        operation()

    contenders = [pool.submit(repeat, operation) for operation in operations]
    try:
        yield
    finally:
        stopping.set()
    for contender in contenders:
        contender.result(DEADLINE)
    pool.shutdown()


# by a signal, at any time


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("drop", ["driver", "both"])
def test_sigint_at_random_moments(
    vm: subprocess.Popen[bytes], wait: Wait, drop: Drop, request: pytest.FixtureRequest
) -> None:
    scene = Scene(vm)
    driver, domain = scene.driver, scene.domain
    policy = KillPolicy(grace=0.004, reap=0.004, poll=0.002, wait=wait, drop=drop)
    main = threading.get_ident()
    moments = random.Random(request.node.name)
    armed, raised, late = False, 0, 0

    def handler(_signum: int, _frame: FrameType | None) -> None:
        nonlocal armed, late
        if not armed:
            late += 1
            return
        armed = False
        raise KeyboardInterrupt

    def look_up_both() -> None:
        with driver.lock, domain.lock:
            pass

    def look_up_domain() -> None:
        with domain.lock:
            pass

    signal.signal(signal.SIGINT, handler)
    with contended(look_up_both, look_up_domain):
        for trial in range(40):
            moment = moments.uniform(0.0, 0.012)
            interrupter = threading.Timer(moment, signal.pthread_kill, (main, signal.SIGINT))
            driver.lock.acquire()
            domain.lock.acquire()
            scene.start_again()
            interrupter.start()
            armed = True
            try:
                try:
                    process_kill(driver, domain, 0, policy=policy)
                finally:
                    armed = False
            except KeyboardInterrupt:
                raised += 1
            interrupter.join(DEADLINE)
            when = f"trial {trial}, SIGINT after {moment:.6f} s"
            assert driver.lock.held(), when
            assert domain.lock.held(), when
            assert domain.refs == 2, when
            assert signal.getsignal(signal.SIGINT) is handler, when
            assert open_pidfds() == scene.pidfds, when
            domain.lock.release()
            driver.lock.release()
    assert raised + late == 40
    assert raised > 0


# by a tracer, at each line and each bytecode

Grain = Literal["line", "opcode"]


class Tracer:
    """Calls ``act`` at the ``at``-th line or bytecode that runs in the routine's modules.

    ``within``: only in that function and what it calls. ``reached`` says whether there was one.
    """

    def __init__(
        self,
        at: int,
        act: Callable[[], object],
        *,
        grain: Grain,
        within: CodeType | None = None,
    ) -> None:
        self.reached = False
        self._at = at
        self._act = act
        self._grain = grain
        self._within = within
        self._count = 0

    def __enter__(self) -> Self:
        self._previous = sys.gettrace()
        frame = inspect.currentframe()
        if self._grain == "opcode" and frame is not None:
            # 3.12 has opcode events only if some frame wanted them before settrace
            frame.f_trace_opcodes = True
        sys.settrace(self._call)
        return self

    def __exit__(self, *_error: object) -> None:
        sys.settrace(self._previous)

    def _call(self, frame: FrameType, _event: str, _argument: Any) -> TraceFunction | None:
        if not frame.f_code.co_filename.startswith(ROUTINE):
            return None
        if self._within is not None and not self._is_within(frame):
            return None
        if self._grain == "opcode":
            frame.f_trace_opcodes = True
        return self._step

    def _is_within(self, frame: FrameType | None) -> bool:
        while frame is not None:
            if frame.f_code is self._within:
                return True
            frame = frame.f_back
        return False

    def _step(self, _frame: FrameType, event: str, _argument: Any) -> TraceFunction:
        if event == self._grain and not self.reached:
            self._count += 1
            if self._count == self._at:
                self.reached = True
                self._act()
        return self._step


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def inject() -> None:
    raise Injected


def each_moment(
    scene: Scene,
    policy: KillPolicy,
    act: Callable[[], object],
    *,
    grain: Grain,
    within: CodeType | None = None,
    flags: int = 0,
) -> int:
    """Make the call again and again, ``act`` one step later each time; how many steps it has."""
    expected = KeyboardInterrupt if act is interrupt else Injected
    for at in range(1, 100_000):
        scene.start_again()
        caught: BaseException | None = None
        tracer = Tracer(at, act, grain=grain, within=within)
        with tracer:
            try:
                scene.kill(policy, flags)
            except (KeyboardInterrupt, Injected) as error:
                caught = error
        if not tracer.reached:
            assert caught is None
            return at - 1
        when = f"{grain} {at} of {policy}"
        scene.check(when)
        # nothing is swallowed
        assert isinstance(caught, expected), when
    raise AssertionError("the call has no end")


def quick(wait: Wait = "pidfd", drop: Drop = "both") -> KillPolicy:
    if wait == "pidfd":
        return KillPolicy(grace=0.0, reap=0.001, drop=drop)
    return KillPolicy(grace=0.001, reap=0.0, poll=0.001, wait=wait, drop=drop)


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("drop", DROPS)
def test_sigint_at_each_line(vm: subprocess.Popen[bytes], wait: Wait, drop: Drop) -> None:
    scene = Scene(vm)
    with scene.driver.lock, scene.domain.lock:
        steps = each_moment(scene, quick(wait, drop), interrupt, grain="line")
    assert steps > 50


def test_sigint_at_each_bytecode(vm: subprocess.Popen[bytes]) -> None:
    scene = Scene(vm)
    with scene.driver.lock, scene.domain.lock:
        steps = each_moment(scene, quick(), interrupt, grain="opcode")
    assert steps > 500


def test_sigint_at_each_line_of_a_call_that_does_not_wait(vm: subprocess.Popen[bytes]) -> None:
    scene = Scene(vm)
    with scene.driver.lock, scene.domain.lock:
        steps = each_moment(scene, quick(), interrupt, grain="line", flags=KillFlags.NOWAIT)
    assert steps > 20


@pytest.mark.parametrize("drop", DROPS)
def test_an_exception_that_is_no_sigint_at_each_bytecode_between_the_locks(
    vm: subprocess.Popen[bytes], drop: Drop
) -> None:
    # as another signal's handler raises it, or another thread injects it
    scene = Scene(vm)
    with scene.driver.lock, scene.domain.lock:
        steps = each_moment(
            scene, quick(drop=drop), inject, grain="opcode", within=Tenure.unlocked.__code__
        )
    assert steps > 50


# out of the calls that the routine makes


@pytest.mark.parametrize("drop", DROPS)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(5, "injected"), Injected()])
def test_an_exception_out_of_a_sleep(
    vm: subprocess.Popen[bytes],
    drop: Drop,
    error: BaseException,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_seconds: float) -> None:
        raise error

    scene = Scene(vm)
    with scene.driver.lock, scene.domain.lock:
        monkeypatch.setattr(time, "sleep", fail)
        # a long grace: it has to come to its first sleep, however busy the machine is
        with pytest.raises(type(error)) as caught:
            scene.kill(KillPolicy(grace=60.0, wait="poll", drop=drop))
        assert caught.value is error
        scene.check("after the sleep")


class FailingLock(OwnedLock):
    """``acquire`` fails ``failures`` times, before or after it took the lock."""

    __slots__ = ("after", "failures", "raised")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.failures = 0
        self.after = False
        self.raised: list[BaseException] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 - threading's own signature
        if self.failures == 0:
            return super().acquire(blocking, timeout)
        self.failures -= 1
        if self.after:
            super().acquire(blocking, timeout)
        self.raised.append(Injected(f"{self.name} {self.failures}"))
        raise self.raised[-1]


@pytest.mark.parametrize("name", ["driver", "domain"])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("failures", [1, 3])
@pytest.mark.parametrize("drop", ["driver", "both"])
def test_an_exception_out_of_the_retake(
    vm: subprocess.Popen[bytes],
    name: str,
    after: bool,  # noqa: FBT001 - a parameter of the test
    failures: int,
    drop: Drop,
) -> None:
    scene = Scene(vm, FailingLock)
    lock = scene.driver.lock if name == "driver" else scene.domain.lock
    assert isinstance(lock, FailingLock)
    with scene.driver.lock, scene.domain.lock:
        lock.failures, lock.after = failures, after
        with pytest.raises(Injected) as caught:
            scene.kill(quick(drop=drop))
        scene.check("after the re-take")
        # asked again once per exception; the first one goes on
        assert len(lock.raised) == (1 if after else failures)
        assert caught.value is lock.raised[0]


def test_a_lock_that_always_refuses_ends_the_call_and_the_other_is_held(
    vm: subprocess.Popen[bytes],
) -> None:
    scene = Scene(vm, FailingLock)
    lock = scene.domain.lock
    assert isinstance(lock, FailingLock)
    scene.driver.lock.acquire()
    lock.acquire()
    lock.failures = -1
    with pytest.raises(Injected):
        scene.kill(quick())
    assert scene.driver.lock.held()
    assert not lock.held()
    assert scene.domain.refs == 2
    scene.driver.lock.release()


def test_an_exception_of_the_retake_does_not_replace_that_of_the_wait(
    vm: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_seconds: float) -> None:
        raise ZeroDivisionError

    scene = Scene(vm, FailingLock)
    lock = scene.driver.lock
    assert isinstance(lock, FailingLock)
    with lock, scene.domain.lock:
        lock.failures = 1
        monkeypatch.setattr(time, "sleep", fail)
        with pytest.raises(ZeroDivisionError) as caught:
            scene.kill(KillPolicy(grace=60.0, wait="poll"))
        scene.check("after both")
    assert "while the locks were taken again: Injected('driver 0')" in caught.value.__notes__[0]


# what is held back, and what is not


def test_sigint_during_the_wait_ends_it(
    vm: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = PidfdTarget.ended

    went_on: list[float] = []

    def interrupted(target: PidfdTarget, timeout: float) -> bool:
        if timeout:
            interrupt()
            went_on.append(timeout)
        return ended(target, 0.0)

    monkeypatch.setattr(PidfdTarget, "ended", interrupted)
    scene = Scene(vm)
    with scene.driver.lock, scene.domain.lock:
        with pytest.raises(KeyboardInterrupt):
            scene.kill(KillPolicy())
        scene.check("after the interrupt")
        assert went_on == []
        assert [sent.signum for sent in scene.domain.sent] == [15]


def test_sigint_before_the_wait_is_delivered_when_it_begins(
    vm: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    send = signal.pidfd_send_signal

    def interrupted(fd: int, signum: int) -> None:
        interrupt()
        send(fd, signum)

    waits: list[float] = []
    ended = PidfdTarget.ended

    def recorded(target: PidfdTarget, timeout: float) -> bool:
        if timeout:
            waits.append(timeout)
        return ended(target, 0.0)

    monkeypatch.setattr(signal, "pidfd_send_signal", interrupted)
    monkeypatch.setattr(PidfdTarget, "ended", recorded)
    scene = Scene(vm)
    with scene.driver.lock, scene.domain.lock:
        with pytest.raises(KeyboardInterrupt):
            scene.kill(KillPolicy())
        scene.check("after the interrupt")
        assert waits == []
        # the signal was on its way, and is on record
        assert [sent.signum for sent in scene.domain.sent] == [15]


class InterruptingLock(OwnedLock):
    """SIGINT arrives while it is taken again."""

    __slots__ = ("armed",)

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.armed = False

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:  # noqa: FBT001, FBT002 - threading's own signature
        if self.armed:
            self.armed = False
            interrupt()
        return super().acquire(blocking, timeout)


def test_sigint_during_the_retake_is_delivered_when_the_locks_are_back(
    vm: subprocess.Popen[bytes],
) -> None:
    scene = Scene(vm, InterruptingLock)
    lock = scene.driver.lock
    assert isinstance(lock, InterruptingLock)
    seen: list[tuple[bool, bool, int]] = []

    def handler(_signum: int, _frame: FrameType | None) -> None:
        seen.append((lock.held(), scene.domain.lock.held(), scene.domain.refs))

    with lock, scene.domain.lock:
        signal.signal(signal.SIGINT, handler)
        lock.armed = True
        result = scene.kill(quick())
    # a handler that does not raise leaves the result alone
    assert result.dead is False
    assert seen == [(True, True, 2)]


def test_a_handler_that_does_not_raise_does_not_end_the_wait(
    vm: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def sleep(_seconds: float) -> None:
        interrupt()

    signal.signal(signal.SIGINT, lambda signum, _frame: seen.append(signum))
    monkeypatch.setattr(time, "sleep", sleep)
    scene = Scene(vm)
    with scene.driver.lock, scene.domain.lock:
        result = scene.kill(KillPolicy(grace=0.4, reap=0.2, wait="seed"))
    assert result.dead is False
    assert seen == [signal.SIGINT] * 3


def test_after_a_handler_that_did_not_raise_the_next_sigint_is_let_in_too(
    vm: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    seen_in_the_wait: list[int] = []

    def sleep(_seconds: float) -> None:
        interrupt()
        interrupt()
        seen_in_the_wait.extend(seen)

    signal.signal(signal.SIGINT, lambda signum, _frame: seen.append(signum))
    monkeypatch.setattr(time, "sleep", sleep)
    scene = Scene(vm)
    with scene.driver.lock, scene.domain.lock:
        scene.kill(KillPolicy(grace=0.2, reap=0.0, wait="seed"))
    assert seen_in_the_wait == [signal.SIGINT] * 2


@pytest.mark.parametrize("handler", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_handler_that_is_not_pythons_is_left_alone(
    vm: subprocess.Popen[bytes], handler: signal.Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(time, "sleep", lambda _: seen.append(signal.getsignal(signal.SIGINT)))
    scene = Scene(vm)
    signal.signal(signal.SIGINT, handler)
    with scene.driver.lock, scene.domain.lock:
        scene.kill(KillPolicy(grace=0.2, reap=0.0, wait="seed"))
    assert seen == [handler]
    assert signal.getsignal(signal.SIGINT) == handler


def test_in_another_thread_no_handler_is_touched(
    vm: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(time, "sleep", lambda _: seen.append(signal.getsignal(signal.SIGINT)))
    scene = Scene(vm)

    def call() -> KillResult:
        with scene.driver.lock, scene.domain.lock:
            return scene.kill(KillPolicy(grace=0.2, reap=0.0, wait="seed"))

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(call).result(DEADLINE).dead is False
    assert seen == [signal.default_int_handler]


def test_a_handler_that_was_set_meanwhile_stays(
    vm: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(_signum: int, _frame: FrameType | None) -> None:
        """Set by somebody else."""

    monkeypatch.setattr(time, "sleep", lambda _: signal.signal(signal.SIGINT, other))
    scene = Scene(vm)
    with scene.driver.lock, scene.domain.lock:
        scene.kill(KillPolicy(grace=0.2, reap=0.0, wait="seed"))
    assert signal.getsignal(signal.SIGINT) is other


def test_a_lock_whose_take_is_interrupted_has_not_been_taken() -> None:
    lock = OwnedLock("driver")
    other_has_it, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            other_has_it.set()
            let_go.wait(DEADLINE)

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(hold)
        assert other_has_it.wait(DEADLINE)
        interrupter = threading.Timer(
            0.05, signal.pthread_kill, (threading.get_ident(), signal.SIGINT)
        )
        interrupter.start()
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
        let_go.set()
        holding.result(DEADLINE)
    assert not lock.held()
    assert not lock.locked()
