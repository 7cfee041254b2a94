"""``survives_kill``: a process that stays after SIGKILL, and what a routine says of it."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill import KillFlags, KillPolicy
from pytest_gracekill.child import launch
from pytest_gracekill.child import mark as marks
from pytest_gracekill.child.handle import spawn
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gracekill.child.handle import FakeQemu
    from pytest_gracekill.fixtures import Judge, StartFake


def ended(fake: FakeQemu, seconds: float) -> bool:
    return bool(select.select([fake.pidfd], [], [], seconds)[0])


def await_held(fake: FakeQemu) -> int:
    deadline = time.monotonic() + 20
    while (line := fake.journal.last("held")) is None:
        assert time.monotonic() < deadline, "the tracer did not see the SIGKILL"
        time.sleep(0.002)
    return line.at_ns


@pytest.mark.parametrize("topology", ["child", "reaped", "daemon", "wrapped"])
def test_it_stays_after_sigkill_and_then_goes(fake_qemu: StartFake, topology: str) -> None:
    fake = fake_qemu(survives_kill=0.6, topology=topology)
    os.kill(fake.pid, signal.SIGKILL)
    held = await_held(fake)
    assert not ended(fake, 0)
    assert marks.state(fake.pid) == "t"
    assert fake.disk.locked()
    os.kill(fake.pid, signal.SIGKILL)  # changes nothing
    assert not ended(fake, 0.1)
    seen = fake.wait(20)
    assert (seen.signal, seen.code) == (signal.SIGKILL, None)
    assert seen.at * 1e9 - held >= 0.6e9
    assert not fake.disk.locked()


def test_an_exit_of_its_own_is_not_held_up(fake_qemu: StartFake) -> None:
    fake = fake_qemu(survives_kill=1000.0, flush_time=0.1)
    os.kill(fake.pid, signal.SIGTERM)
    assert fake.wait(20).code == 0
    assert fake.disk.audit().ok
    assert fake.journal.last("held") is None


def test_it_can_be_stopped_and_go_on(fake_qemu: StartFake) -> None:
    fake = fake_qemu(survives_kill=1000.0, flush_time=0.1)
    os.kill(fake.pid, signal.SIGSTOP)
    deadline = time.monotonic() + 20
    while marks.state(fake.pid) not in ("T", "t"):
        assert time.monotonic() < deadline
        time.sleep(0.002)
    os.kill(fake.pid, signal.SIGTERM)
    assert not ended(fake, 0.3), "it is stopped"
    os.kill(fake.pid, signal.SIGCONT)
    assert fake.wait(20).code == 0


def test_whoever_closes_it_does_not_wait(tmp_path: Path) -> None:
    fake = spawn(Knobs(survives_kill=1000.0), tmp_path / "fake")
    os.kill(fake.pid, signal.SIGKILL)
    await_held(fake)
    assert not ended(fake, 0)
    fake.close()
    assert not fake.alive


POLICY = KillPolicy(grace=0.2, reap=0.4)


def test_a_routine_that_waits_for_the_end_says_the_truth(gracekill: Judge) -> None:
    longer = gracekill(
        on_term="ignore", survives_kill=1.5, policy=POLICY, flags=KillFlags.FORCE, survive=0.2
    )
    longer.check("outcome", "promptness", "escalation", "locks", "progress")
    assert longer.calls[0].success is False
    shorter = gracekill(
        on_term="ignore", survives_kill=0.2, policy=POLICY, flags=KillFlags.FORCE, survive=0.2
    )
    shorter.check("outcome", "promptness", "escalation", "locks", "progress")
    assert shorter.calls[0].success is True


def test_a_routine_that_takes_sigkill_for_the_end_lies(gracekill: Judge) -> None:
    def destroy(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)

    report = gracekill(destroy, survives_kill=1.0, survive=0.0)
    assert report.verdicts["outcome"].word in ("EARLY", "LEAKED"), report


def test_where_ptrace_is_denied_it_is_skipped_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, gracekill: Judge, fake_qemu: StartFake, tmp_path: Path
) -> None:
    monkeypatch.setattr(launch, "_ptrace_refused", lambda: 1)
    for start in (gracekill, fake_qemu):
        with pytest.raises(pytest.skip.Exception, match="Operation not permitted"):
            start(survives_kill=1.0)
    with pytest.raises(UnsupportedError, match="survives_kill=1 needs ptrace"):
        spawn(Knobs(survives_kill=1.0), tmp_path / "fake")


def test_without_a_main_thread_it_cannot_be_had() -> None:
    with pytest.raises(UsageError, match=r"survives_kill=1.0 with topology='leaderless'"):
        Knobs(survives_kill=1.0, topology="leaderless")
