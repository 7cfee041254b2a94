"""A VM manager as somebody would write it takes part, and its wrong twins are caught by name.

Each twin overrides one method of the right one; the wrong line is marked.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_gracekill.errors import UsageError

if TYPE_CHECKING:
    from pytest_gracekill import Report
    from pytest_gracekill.fixtures import Judge

DEADLINE = 30.0


class Manager:
    """Keeps one VM: what it does takes the lock for the moment, and stopping waits without it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._asked = False
        self.state = "running"
        self.cleaned_up = 0

    # -- the others' work

    def status(self) -> str:
        with self._lock:
            return self.state

    def names(self) -> list[str]:
        with self._lock:
            return ["vm"]

    def watch(self) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.state == "dead", timeout=0.01)

    # -- stopping

    def stop(self, pid: int) -> bool:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return self._is_dead()
        try:
            with self._lock:
                if not self._asked:
                    self._asked = True
                    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            return self._ends(pidfd, 10) or self._kill(pidfd)
        finally:
            os.close(pidfd)

    def _kill(self, pidfd: int) -> bool:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        return self._ends(pidfd, 5)

    def _ends(self, pidfd: int, seconds: float) -> bool:
        exited = select.poll()
        exited.register(pidfd, select.POLLIN)
        return bool(exited.poll(seconds * 1000)) and self._is_dead()

    def _is_dead(self) -> bool:
        with self._changed:
            if self.state != "dead":
                self.state = "dead"
                self.cleaned_up += 1
                self._changed.notify_all()
        return True


def judge(gracekill: Judge, manager: Manager, **arguments: Any) -> Report:
    return gracekill(
        manager.stop,
        **{
            "locks": [(manager, "_lock")],
            "contend": [manager.status, manager.names, manager.watch],
            "flush_time": 0.5,
            **arguments,
        },
    )


def words(report: Report) -> dict[str, str]:
    return {
        name: ", ".join((verdict.word, *verdict.also))
        for name, verdict in report.verdicts.items()
        if verdict.status != "ok"
    }


def line_of(method: Any, mark: str) -> int:
    """The number of the line of a method that has this mark."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    first = method.__code__.co_firstlineno
    return next(n for n in range(first, len(lines)) if mark in lines[n - 1])


def callers_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("gracekill:")]


@pytest.mark.parametrize("callers", [1, 2, 4])
def test_right_manager(gracekill: Judge, callers: int) -> None:
    manager = Manager()
    lock, wires = manager._lock, dict(vars(manager._changed))
    report = judge(gracekill, manager, callers=callers)
    report.check()
    # its domains are no model of ours
    assert set(report.not_judged) <= {"identity"}
    assert manager.cleaned_up == 1
    assert [call.success for call in report.calls] == [True] * callers
    assert report.result is report.calls[0].result is True
    assert "1 locks" in report.verdicts["deadlock"].evidence
    assert "3 contenders, longest stall" in report.verdicts["progress"].evidence
    assert manager._lock is lock
    assert dict(vars(manager._changed)) == wires
    assert not lock.locked()


def test_all_callers_of_a_right_manager_are_named_as_one(gracekill: Judge) -> None:
    report = judge(gracekill, Manager(), callers=2, contend=())
    report.check()
    assert report.verdicts["locks"].evidence.startswith("each of 2 callers: none held at entry")
    assert report.verdicts["outcome"].evidence == (
        "each of 2 callers: returned True; the VM is dead"
    )
    assert "ms after the exit" in report.verdicts["promptness"].evidence
    assert report.not_judged["progress"] == "no contenders took part"


def test_nothing_is_traced(gracekill: Judge) -> None:
    manager = Manager()
    report = judge(gracekill, manager, locks=(), contend=())
    report.check()
    assert (
        report.not_judged.items()
        >= {
            "deadlock": "no locks were handed in",
            "locks": "no locks were handed in",
            "progress": "no contenders took part",
        }.items()
    )
    with pytest.raises(AssertionError, match="NOT JUDGED locks"):
        report.check("locks")


# -- locks


class HoldsOverTheWait(Manager):
    def stop(self, pid: int) -> bool:
        with self._changed:  # FLAW
            os.kill(pid, signal.SIGTERM)
            while os.path.exists(f"/proc/{pid}"):  # noqa: PTH110
                time.sleep(0.005)
            self.state = "dead"
        return True


def test_held_over_the_wait(gracekill: Judge) -> None:
    manager = HoldsOverTheWait()
    report = judge(gracekill, manager)
    assert words(report) == {"locks": "HELD OVER WAIT", "progress": "STALLED"}
    site = f"test_own_manager.py:{line_of(HoldsOverTheWait.stop, 'FLAW')} in HoldsOverTheWait.stop"
    locks = report.verdicts["locks"].evidence
    assert "HoldsOverTheWait._lock held for " in locks
    assert site in locks
    assert "wanted meanwhile by Manager.names and Manager.status" in locks or (
        "wanted meanwhile by Manager.names, Manager.status, Manager.watch" in locks
    )
    progress = report.verdicts["progress"]
    assert "3 of 3 contenders stood still" in progress.evidence
    assert any(
        "waited for HoldsOverTheWait._lock" in line and "held by the routine" in line
        for line in progress.detail
    )
    assert "release the lock before waiting" in report.verdicts["locks"].advice


def test_held_over_the_wait_and_nobody_wants_it(gracekill: Judge) -> None:
    report = judge(gracekill, HoldsOverTheWait(), contend=())
    report.check()
    assert (
        "HoldsOverTheWait._lock held over the wait, wanted by nobody meanwhile"
        in report.verdicts["locks"].evidence
    )


def test_held_over_the_wait_is_seen_by_latency_when_no_lock_is_handed_in(gracekill: Judge) -> None:
    report = judge(gracekill, HoldsOverTheWait(), locks=(), flush_time=1.3)
    assert words(report) == {"progress": "STALLED"}
    assert "Manager.status took " in report.verdicts["progress"].evidence
    assert "1.00 s are allowed" in report.verdicts["progress"].evidence


class ReturnsWithTheLock(Manager):
    def stop(self, pid: int) -> bool:
        done = super().stop(pid)
        self._lock.acquire()  # FLAW: the error path's release is missing
        return done


def test_lock_lost(gracekill: Judge) -> None:
    manager = ReturnsWithTheLock()
    lock = manager._lock
    report = judge(gracekill, manager)
    assert words(report) == {"locks": "LOCK LOST"}
    assert (
        "held at entry: none; at return: ReturnsWithTheLock._lock"
        in report.verdicts["locks"].evidence
    )
    # the user's next test can use it
    assert manager._lock is lock
    assert not lock.locked()


class ReturnsWithTheRLock(Manager):
    def __init__(self) -> None:
        super().__init__()
        self._again = threading.RLock()

    def stop(self, pid: int) -> bool:
        with self._again:
            for _ in range(5):
                self._again.acquire()
            return super().stop(pid)


def test_rlock_lost_with_its_re_entries(gracekill: Judge) -> None:
    manager = ReturnsWithTheRLock()
    rlock = manager._again
    report = judge(gracekill, manager, locks=[(manager, "_again")])
    assert words(report) == {"locks": "LOCK LOST"}
    assert manager._again is rlock
    free: list[bool] = []
    thread = threading.Thread(target=lambda: free.append(rlock.acquire(blocking=False)))
    thread.start()
    thread.join(DEADLINE)
    assert free == [True]


class LosesTheLockInTheSecond(Manager):
    def stop(self, pid: int) -> bool:
        done = super().stop(pid)
        if threading.current_thread().name.startswith("gracekill:caller"):
            self._lock.acquire()
        return done


def test_lock_lost_by_the_second_caller(gracekill: Judge) -> None:
    manager = LosesTheLockInTheSecond()
    report = judge(gracekill, manager, callers=2)
    assert words(report) == {"locks": "LOCK LOST"}
    assert report.verdicts["locks"].evidence.startswith("caller-2: held at entry: none; at return")
    assert not manager._lock.locked()


class TakesTheLocksInACircle(Manager):
    """Two locks, in one order here and in the other there."""

    def __init__(self, *, meet: bool) -> None:
        super().__init__()
        self._listing = threading.Lock()
        self._meet = threading.Barrier(2) if meet else None
        self._stopping = False
        self._taken = threading.Event()

    def _together(self) -> None:
        if self._meet is not None:
            with suppress(threading.BrokenBarrierError):
                self._meet.wait(DEADLINE)

    def names(self) -> list[str]:
        if self._stopping == (self._meet is None):
            return []
        self._stopping = False
        with self._listing:
            self._together()
            with self._lock:  # FLAW: the other way round
                self._taken.set()
                return ["vm"]

    def stop(self, pid: int) -> bool:
        self._stopping = True
        if self._meet is None:
            assert self._taken.wait(DEADLINE)
        with self._lock:
            self._together()
            with self._listing:
                pass
        return super().stop(pid)


def test_deadlock_is_found_and_broken_up(gracekill: Judge) -> None:
    manager = TakesTheLocksInACircle(meet=True)
    locks = manager._lock, manager._listing
    report = judge(
        gracekill,
        manager,
        locks=[(manager, "_lock"), (manager, "_listing")],
        contend=[manager.names],
        force=None,
    )
    deadlock = report.verdicts["deadlock"]
    assert (deadlock.status, deadlock.word) == ("broken", "DEADLOCK")
    text = "\n".join((deadlock.evidence, *deadlock.detail))
    assert "TakesTheLocksInACircle._lock" in text
    assert "TakesTheLocksInACircle._listing" in text
    assert f":{line_of(TakesTheLocksInACircle.names, 'FLAW')} in" in text
    assert "names" in text
    assert report.not_judged["locks"] == "a deadlock was broken up, which lost locks"
    # the run goes on, with the user's own locks, which are free
    assert (manager._lock, manager._listing) == locks
    assert not any(lock.locked() for lock in locks)
    assert callers_threads() == []


def test_lock_order_without_a_hang(gracekill: Judge) -> None:
    manager = TakesTheLocksInACircle(meet=False)
    report = judge(
        gracekill,
        manager,
        locks=[(manager, "_lock"), (manager, "_listing")],
        contend=[manager.names],
    )
    assert words(report) == {"deadlock": "LOCK ORDER"}
    assert "TakesTheLocksInACircle._lock" in report.verdicts["deadlock"].evidence


def test_nobody_takes_the_lock(gracekill: Judge) -> None:
    manager: Any = Manager()
    manager.other = threading.Lock()
    report = judge(gracekill, manager, locks=[(manager, "other")])
    assert words(report) == {"deadlock": "unknown", "locks": "unknown"}
    assert report.verdicts["locks"].evidence == "nobody took the traced lock: nothing was seen"


class Replaces(Manager):
    def stop(self, pid: int) -> bool:
        with self._lock:
            pass
        self._lock = threading.Lock()
        return super().stop(pid)


def test_what_the_routine_has_put_in_its_place_stays(gracekill: Judge) -> None:
    manager = Replaces()
    old = manager._lock
    judge(gracekill, manager, contend=()).check()
    assert manager._lock is not old
    assert isinstance(manager._lock, type(threading.Lock()))


def test_restored_after_a_routine_that_raises(gracekill: Judge) -> None:
    manager = Manager()
    lock = manager._lock

    def stop(pid: int) -> None:
        with manager._lock:
            raise ValueError(pid)

    report = gracekill(stop, locks=[(manager, "_lock")], contend=[manager.status], flush_time=0.1)
    assert report.verdicts["outcome"].status == "ok"  # a truthful failure
    assert isinstance(report.error, ValueError)
    assert manager._lock is lock
    assert not lock.locked()


def test_restored_after_an_interrupt(gracekill: Judge) -> None:
    manager = Manager()
    lock = manager._lock

    called = threading.Event()

    def stop(pid: int) -> None:
        if threading.current_thread() is threading.main_thread():
            assert called.wait(DEADLINE)
            with manager._lock:
                raise KeyboardInterrupt
        called.set()
        while True:  # whatever becomes of the VM
            time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        gracekill(
            stop, locks=[(manager, "_lock")], contend=[manager.status], callers=2, flush_time=0.1
        )
    assert manager._lock is lock
    assert not lock.locked()
    assert callers_threads() == []


def test_restored_after_a_misuse(gracekill: Judge) -> None:
    manager = Manager()
    lock = manager._lock
    with manager._lock, pytest.raises(UsageError, match=r"Manager\._lock is held when the trial"):
        judge(gracekill, manager)
    assert manager._lock is lock
    assert callers_threads() == []
    # and it can be judged again
    judge(gracekill, manager).check()


def test_restored_after_a_cut(gracekill: Judge) -> None:
    manager = Manager()
    lock = manager._lock

    def stop(pid: int) -> None:
        with manager._lock:
            while True:
                time.sleep(0.01)

    report = gracekill(
        stop,
        locks=[(manager, "_lock")],
        contend=[manager.status],
        budget=1.4,
        flush_time=0.1,
        callers=2,
    )
    assert report.verdicts["promptness"].word == "HUNG"
    assert [call.success for call in report.calls] == [None, None]
    assert report.verdicts["locks"].word == "HELD OVER WAIT"
    assert manager._lock is lock
    assert not lock.locked()
    assert callers_threads() == []


# -- contenders


class WaitsForTheOther(Manager):
    """It returns when one that works beside it has seen the end."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = threading.Event()

    def looks(self) -> None:
        if self.status() == "dead":
            self.seen.set()
            pytest.fail("it is dead")

    def migrate(self) -> None:
        if self.status() == "dead":
            self.seen.set()
            raise LookupError("no such VM")

    def stop(self, pid: int) -> bool:
        done = super().stop(pid)
        assert self.seen.wait(DEADLINE)
        return done


def test_contenders_are_judged_by_name(gracekill: Judge) -> None:
    manager = WaitsForTheOther()
    report = judge(gracekill, manager, contend=[manager.status, manager.migrate], slack=DEADLINE)
    assert words(report) == {"progress": "STALLED"}
    assert report.verdicts["progress"].evidence.startswith(
        "WaitsForTheOther.migrate raised LookupError: no such VM at t+"
    )


def test_a_contender_that_uses_pytest_itself(gracekill: Judge) -> None:
    manager = WaitsForTheOther()
    report = judge(gracekill, manager, contend=[manager.looks], slack=DEADLINE)
    assert words(report) == {"progress": "STALLED"}
    assert "WaitsForTheOther.looks raised Failed: it is dead" in (
        report.verdicts["progress"].evidence
    )


def test_two_of_one_name_are_told_apart(gracekill: Judge) -> None:
    one, two = HoldsOverTheWait(), Manager()
    report = judge(gracekill, one, locks=(), contend=[two.status, one.status], flush_time=1.3)
    assert report.verdicts["progress"].evidence.startswith("Manager.status-2 took ")


def test_contenders_that_are_slow_by_themselves(gracekill: Judge) -> None:
    manager = Manager()

    def backup() -> None:
        # longer than the whole call, and under way when it is made
        with manager._changed:
            manager._changed.wait(0.01)
        time.sleep(1.5)

    report = judge(gracekill, manager, contend=[backup, manager.status], flush_time=0.4)
    report.check()


def test_a_slow_contender_keeps_its_lock(gracekill: Judge) -> None:
    """It holds a lock of its own when the trial ends: nobody opens it behind its back."""
    manager: Any = Manager()
    manager.archive = threading.Lock()

    def backup() -> None:
        with manager.archive:
            time.sleep(2.5)

    judge(
        gracekill,
        manager,
        locks=[(manager, "archive"), (manager, "_lock")],
        contend=[backup],
        flush_time=0.2,
    ).check()
    assert not manager.archive.locked()
    assert callers_threads() == []


def test_a_lock_that_a_contender_left_behind_is_let_go(gracekill: Judge) -> None:
    manager: Any = Manager()
    manager.archive = archive = threading.Lock()
    calls: list[int] = []

    def backup() -> None:
        manager.archive.acquire()
        calls.append(1)
        if len(calls) > 30:
            raise OSError("no space left")
        manager.archive.release()

    def stop(pid: int) -> bool:
        while len(calls) <= 30:
            time.sleep(0.001)
        return bool(manager.stop(pid))

    locks = [(manager, "archive")]
    report = gracekill(stop, locks=locks, contend=[backup], flush_time=0.2, survive=0.2)
    assert words(report) == {"progress": "STALLED"}
    assert manager.archive is archive
    assert not archive.locked()


# -- several callers


class SecondRaises(Manager):
    def stop(self, pid: int) -> bool:
        with self._lock:
            second, self._asked = self._asked, True
        if second:
            while self.status() != "dead":
                time.sleep(0.005)
            # longer ago than "the last milliseconds", which nobody can know
            time.sleep(0.05)
            raise RuntimeError("it is being stopped already")  # FLAW
        self._asked = False
        return super().stop(pid)


class SecondLies(SecondRaises):
    def stop(self, pid: int) -> bool:
        try:
            return super().stop(pid)
        except RuntimeError:
            return False  # FLAW


class SecondIsEarly(Manager):
    def stop(self, pid: int) -> bool:
        if self._asked:
            return True  # FLAW: it has been asked, which is not the end
        return super().stop(pid)


class SecondHangs(Manager):
    how = "sleep"

    def stop(self, pid: int) -> bool:
        if threading.current_thread().name != "MainThread":
            if self.how == "event":
                threading.Event().wait()
            while True:
                time.sleep(0.01)
        return super().stop(pid)


@pytest.mark.parametrize(
    ("manager", "verdict", "word"),
    [
        (SecondRaises, "outcome", "RAISED"),
        (SecondLies, "outcome", "LIED"),
        (SecondIsEarly, "outcome", "EARLY"),
    ],
)
def test_every_caller_gets_a_true_answer(
    gracekill: Judge, manager: type[Manager], verdict: str, word: str
) -> None:
    made = manager()
    report = judge(gracekill, made, callers=2, contend=(), linger=0.1)
    assert words(report) == {verdict: word}
    # by whichever of the two was the second
    broken = [call for call in report.calls if call.result is not True or call.elapsed < 0.3]
    assert len(broken) == 1
    named = report.verdicts[verdict].evidence.startswith("caller-2: ")
    assert named == (broken == [report.calls[1]])


@pytest.mark.parametrize("how", ["sleep", "event"])
def test_a_caller_that_hangs_is_cut_off(gracekill: Judge, how: str) -> None:
    manager = SecondHangs()
    manager.how = how
    report = judge(
        gracekill, manager, callers=3, contend=[manager.status], budget=2.0, flush_time=0.2
    )
    assert words(report) == {"promptness": "HUNG"}
    promptness = report.verdicts["promptness"]
    assert promptness.evidence.startswith("caller-2: cut off after its budget of 2.0 s in ")
    assert any("test_own_manager.py" in line and "stop" in line for line in promptness.detail)
    assert [call.success for call in report.calls] == [True, None, None]
    assert report.result is True
    assert callers_threads() == []


def test_a_repeated_sigterm_counts_where_it_aborts_the_flush(gracekill: Judge) -> None:
    class AsksEachTime(Manager):
        def stop(self, pid: int) -> bool:
            self._asked = False
            return super().stop(pid)

    report = judge(gracekill, AsksEachTime(), callers=2)
    report.check()
    report = judge(gracekill, AsksEachTime(), callers=2, on_second_term="abort")
    # both may come before the VM has taken note of one, so that the flush goes on
    assert set(words(report)) - {"data"} == {"escalation"}
    assert report.verdicts["escalation"].word == "REPEATED"
    judge(gracekill, Manager(), callers=2, on_second_term="abort").check()


# -- what the return value means


def test_succeeded_decides_for_each_caller(gracekill: Judge) -> None:
    manager = Manager()
    asked: list[object] = []

    def stop(pid: int) -> int:
        return 0 if manager.stop(pid) else 3

    def succeeded(status: object) -> bool:
        asked.append(status)
        return status == 0

    gracekill(stop, succeeded=succeeded, callers=3, flush_time=0.2).check()
    assert asked == [0, 0, 0]

    other = Manager()

    def late(pid: int) -> int:
        assert other.stop(pid)
        time.sleep(0.05)  # longer than "the last milliseconds", which nobody can know
        return 0

    def opposite(status: object) -> bool:
        return status != 0

    report = gracekill(late, succeeded=opposite, callers=2, flush_time=0.2)
    assert words(report) == {"outcome": "LIED"}


@pytest.mark.parametrize(
    ("succeeded", "text"),
    [
        (lambda result: result.ok, r"raised AttributeError: .*, asked about the result True; True"),
        (lambda _: None, r"returned None, asked about the result True; True \(it reports"),
        (lambda _: 1, "returned 1, asked about the result True"),
    ],
)
def test_succeeded_that_cannot_say(gracekill: Judge, succeeded: Any, text: str) -> None:
    manager = Manager()
    lock = manager._lock
    with pytest.raises(UsageError, match=text):
        judge(gracekill, manager, succeeded=succeeded, callers=2)
    assert manager._lock is lock
    assert callers_threads() == []
