"""A deadlock of the user's own code is broken up: it is named, the run goes on, pytest ends.

Each in a pytest of its own: the test that runs into it fails at once with both places, the next
test runs, the JUnit file is written, and the process exits.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import RunPytest

MANAGER = """\
import os, signal, threading, time

class Manager:
    def __init__(self, make=threading.Lock, meeting=2):
        self.a, self.b, self.c = make(), make(), make()
        self.changed = threading.Condition(self.c)
        self.stopping = threading.Event()
        self.meet = threading.Barrier(meeting)

    def stop(self, pid):
        os.kill(pid, signal.SIGTERM)
        self.stopping.set()
        self.before_the_end(pid)
        while os.path.exists(f"/proc/{pid}"):
            time.sleep(0.005)
        return True

    def before_the_end(self, pid):
        pass

    def once_stopping(self, work):
        if self.stopping.is_set() and not self.meet.broken:
            work()

    def together(self):
        # once: whoever goes on later goes alone
        try:
            self.meet.wait(20)
        except threading.BrokenBarrierError:
            pass
        self.meet.abort()

def judge(gracekill, manager, contend=(), names="abc", **knobs):
    report = gracekill(
        manager.stop,
        locks=[(manager, name) for name in names],
        contend=contend,
        **{"flush_time": 0.4, **knobs},
    )
    vain = [w for w in report.history.waits if not w.acquired and w.until_ns]
    # ten times the promise: a hang is what must not pass
    assert all(w.until_ns - w.since_ns < 2e9 for w in vain), vain
    report.check()
"""

NEXT = """

def test_next(gracekill):
    manager = Manager()
    def use():
        with manager.a, manager.b:
            pass
    judge(gracekill, manager, [use], names="ab")
"""

CROSSED = """
class Crossed(Manager):
    def take(self, first, second):
        with first:  # HELD
            self.together()
            with second:  # WANTED
                pass
    def rename(self):
        self.once_stopping(lambda: self.take(self.a, self.b))
    def migrate(self):
        self.once_stopping(lambda: self.take(self.b, self.a))

def test_deadlock(gracekill):
    manager = Crossed({make})
    judge(gracekill, manager, [manager.rename, manager.migrate], names="ab")
"""

THREE = """
class Three(Manager):
    def take(self, first, second):
        with first:  # HELD
            self.together()
            with second:  # WANTED
                pass
    def one(self):
        self.once_stopping(lambda: self.take(self.a, self.b))
    def two(self):
        self.once_stopping(lambda: self.take(self.b, self.c))
    def three(self):
        self.once_stopping(lambda: self.take(self.c, self.a))

def test_deadlock(gracekill):
    manager = Three(meeting=3)
    judge(gracekill, manager, [manager.one, manager.two, manager.three])
"""

SELF = """
class Again(Manager):
    def refresh(self):
        self.once_stopping(self.again)
    def again(self):
        with self.a:  # HELD
            self.a.acquire()  # WANTED

def test_deadlock(gracekill):
    manager = Again()
    judge(gracekill, manager, [manager.refresh], names="a")
"""

CONDITION = """
class Waits(Manager):
    def before_the_end(self, pid):
        with self.changed:
            notifier = threading.Thread(target=self.notify, name="notifier")
            notifier.start()
            self.changed.wait()  # WANTED

    def notify(self):
        with self.changed:
            pass  # an error path without the notification

def test_deadlock(gracekill):
    judge(gracekill, Waits(), names=["changed"])
"""

CONDITION_AND_CONTENDERS = """
class Waits(Manager):
    def before_the_end(self, pid):
        with self.a, self.changed:
            self.changed.wait()  # WANTED

    def status(self):
        with self.a:
            pass

def test_deadlock(gracekill):
    manager = Waits()
    judge(gracekill, manager, [manager.status], names=["changed", "a"])
"""

LEFT_BEHIND = """
class LeftBehind(Manager):
    def before_the_end(self, pid):
        worker = threading.Thread(target=self.work, name="worker")
        worker.start()
        worker.join()
        with self.a:  # WANTED
            pass

    def work(self):
        self.a.acquire()  # HELD
        # an error path without the release

    def status(self):
        with self.a:  # WANTED
            pass

def test_deadlock(gracekill):
    manager = LeftBehind({make})
    judge(gracekill, manager, [manager.status], names="a")
"""

RAISED = """
class Raises(Manager):
    def before_the_end(self, pid):
        time.sleep(0.05)
        with self.a:  # WANTED
            pass

    def migrate(self):
        self.once_stopping(self.fail)

    def fail(self):
        self.a.acquire()  # HELD
        raise LookupError("no such host")

def test_deadlock(gracekill):
    manager = Raises({make})
    judge(gracekill, manager, [manager.migrate], names="a")
"""


def lines_of(source: str, mark: str) -> list[int]:
    return [n for n, line in enumerate(source.splitlines(), start=1) if f"# {mark}" in line]


def unfolded(text: str) -> str:
    """What pytest printed of a failure, without the lines that it was folded into."""
    return re.sub(r"\n(?:E +)?\s*", " ", text)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (
            CROSSED.replace("{make}", "threading.Lock"),
            ["migrate holds Crossed.b and waits for Crossed.a", "rename holds Crossed.a and"],
        ),
        (
            CROSSED.replace("{make}", "threading.RLock"),
            ["migrate holds Crossed.b and waits for Crossed.a", "rename holds Crossed.a and"],
        ),
        (
            THREE,
            ["one holds Three.a and waits for Three.b", "three holds Three.c and waits for"],
        ),
        (SELF, ["refresh holds Again.a and waits for Again.a", "take a lock again"]),
        (
            CONDITION,
            [
                "the routine waits on the condition Waits.changed, which nobody can notify",
                "notifier has ended",
                "notify on every path",
            ],
        ),
        (
            CONDITION_AND_CONTENDERS,
            [
                "the routine waits on the condition Waits.changed, which nobody can notify",
                "status waits for Waits.a",
            ],
        ),
        (
            LEFT_BEHIND.replace("{make}", "threading.Lock"),
            ["waits for LeftBehind.a, which worker took and never released"],
        ),
        (
            LEFT_BEHIND.replace("{make}", "threading.RLock"),
            ["waits for LeftBehind.a, which worker took and never released"],
        ),
        (
            RAISED.replace("{make}", "threading.Lock"),
            [
                "the routine waits for Raises.a, which ",
                "migrate took and never released",
                "Raises.migrate raised LookupError: no such host",
            ],
        ),
    ],
    ids=[
        "two contenders",
        "two contenders, RLock",
        "three",
        "itself",
        "condition",
        "condition, contenders",
        "ended thread",
        "ended thread, RLock",
        "contender that raised",
    ],
)
def test_broken_up(
    run_pytest: RunPytest, pytester: pytest.Pytester, source: str, says: list[str]
) -> None:
    source = MANAGER + source + NEXT
    ran = run_pytest(source, "--junitxml=junit.xml", "--timeout=30", "-pno:randomly")
    ran.assert_outcomes(failed=1, passed=1)
    text = ran.stdout.str()
    assert "Timeout" not in text
    flat = unfolded(text)
    for what in says:
        assert what in flat, text
    assert re.search(r"AssertionError: gracekill: .*DEADLOCK", text)
    for line in lines_of(source, "HELD"):
        assert f"test_broken_up.py:{line} in " in text, (line, text)
    # whoever comes first to what was left behind tells of it
    wanted = lines_of(source, "WANTED")
    assert any(f"test_broken_up.py:{line} in " in text for line in wanted), (wanted, text)
    cases = {
        case.attrib["name"]: [child.tag for child in case]
        for case in ET.parse(pytester.path / "junit.xml").iter("testcase")
    }
    assert "failure" in cases["test_deadlock"]
    assert "failure" not in cases["test_next"]


LEGAL = """
class Legal(Manager):
    def __init__(self):
        super().__init__()
        self.baton = threading.Lock()
        self.handed = threading.Semaphore(0)

    def timed(self):
        if self.a.acquire(timeout=0.001):
            self.a.release()
        with self.changed:
            self.changed.wait(0.001)

    def tries(self):
        with self.b:
            if self.a.acquire(blocking=False):
                self.a.release()

    def hands_over(self):
        with self.a:
            self.baton.acquire()
            thread = threading.Thread(target=self.baton.release)
            thread.start()
            self.baton.acquire()  # let go by the other thread
            self.baton.release()
            thread.join()

    def waits(self):
        def notify():
            time.sleep(0.1)
            with self.changed:
                self.changed.notify()
        with self.changed:
            threading.Thread(target=notify).start()
            self.changed.wait()

def test_legal(gracekill):
    manager = Legal()
    names = ["a", "b", "changed", "baton"]
    contend = [manager.timed, manager.tries, manager.hands_over, manager.waits]
    judge(gracekill, manager, contend, names)
"""


def test_legal_patterns_stay_silent(run_pytest: RunPytest) -> None:
    ran = run_pytest(MANAGER + LEGAL + NEXT, "--timeout=60")
    ran.assert_outcomes(passed=2)


SESSION = """
class Ordered(Manager):
    def stop(self, pid):
        self.work()
        return super().stop(pid)

def test_one_way(gracekill):
    manager = Ordered()
    def work():
        with manager.a, manager.b:  # ONE
            pass
    manager.work = work
    judge(gracekill, manager, names="ab")

def test_other_way(gracekill):
    manager = Ordered()
    def work():
        with manager.b, manager.a:  # TWO
            pass
    manager.work = work
    judge(gracekill, manager, names="ab")
"""


@pytest.mark.parametrize("scope", ["trial", "session"])
def test_a_cycle_that_needs_two_trials(run_pytest: RunPytest, scope: str) -> None:
    source = MANAGER + SESSION
    ran = run_pytest(source, f"--gracekill-lock-order={scope}")
    if scope == "trial":
        ran.assert_outcomes(passed=2)
        return
    ran.assert_outcomes(passed=1, failed=1)
    text = ran.stdout.str()
    assert "LOCK ORDER" in text
    assert "Ordered.a -> Ordered.b -> " in text
    name = "test_a_cycle_that_needs_two_trials.py"
    for test, mark in (("test_one_way", "ONE"), ("test_other_way", "TWO")):
        assert f"in {name}::{test}, " in text
        (line,) = lines_of(source, mark)
        assert f"{name}:{line} in {test}.work" in text or f"{name}:{line} in work" in text


def test_a_scope_that_there_is_not(run_pytest: RunPytest) -> None:
    ran = run_pytest("def test(): pass", "--gracekill-lock-order=always")
    assert ran.ret == pytest.ExitCode.USAGE_ERROR
    ran.stderr.fnmatch_lines(["*lock_order='always': 'trial' or 'session' is needed*"])


STUCK = """
class Stuck(Manager):
    def before_the_end(self, pid):
        with self.a:  # HELD
            # it does not answer to the signal that would cut it off
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGURG])
            never = threading.Lock()
            never.acquire()
            try:
                never.acquire()
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGURG])

    def status(self):
        with self.a:  # WANTED
            pass

def test_stuck(gracekill):
    import pytest_timeout
    manager = Stuck()
    judge(gracekill, manager, [manager.status], names="ab")
"""


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_pytest_timeout_prints_the_table_of_locks(run_pytest: RunPytest, method: str) -> None:
    source = MANAGER + STUCK + NEXT
    ran = run_pytest(source, "--timeout=4", f"--timeout-method={method}")
    text = ran.stdout.str() + ran.stderr.str()
    name = "test_pytest_timeout_prints_the_table_of_locks.py"
    (held,), (wanted,) = lines_of(source, "HELD"), lines_of(source, "WANTED")
    assert "gracekill: the traced locks of the trial that runs" in text
    assert re.search(
        rf"Stuck\.a: held by MainThread since t\+\d\.\d{{3}}\n  taken at\n    {name}:{held} in",
        text,
    )
    assert re.search(
        r"  waited for by gracekill:Stuck\.status since t\+\d\.\d{3}\n  waiting at\n"
        rf"    {name}:{wanted} in",
        text,
    )
    assert "1 of 2 locks are free" in text
    assert text.index("traced locks of the trial") < text.index("Stack of")
    if method == "signal":
        # the run goes on, and with it what was replaced
        ran.assert_outcomes(failed=1, passed=1)


HANGS = """
class Hangs(Manager):
    def before_the_end(self, pid):
        with self.a:
            threading.Event().wait()

def test_hangs(gracekill):
    judge(gracekill, Hangs(), names="a")

def test_nothing_is_left_replaced(gracekill):
    import pytest_timeout
    assert pytest_timeout.dump_stacks.__module__ == "pytest_timeout"
"""


@pytest.mark.parametrize("method", ["signal", "thread"])
def test_our_verdict_comes_before_pytest_timeout(run_pytest: RunPytest, method: str) -> None:
    ran = run_pytest(MANAGER + HANGS, "--timeout=6", f"--timeout-method={method}")
    ran.assert_outcomes(failed=1, passed=1)
    text = ran.stdout.str()
    assert "HUNG" in text
    assert "Timeout" not in text
