"""The seed's story, judged: 1.6 s of grace, the lock dropped, and what still stalls."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill import LIBVIRT_0_9_10, LIBVIRT_0_9_11, KillFlags, KillPolicy, KillResult

if TYPE_CHECKING:
    from pytest_gracekill import Domain, Driver
    from pytest_gracekill.fixtures import Judge, StartFake
    from pytest_gracekill.report import Report


def durable(report: Report) -> set[int]:
    """The blocks that the fake's own journal says are on the disk."""
    return {
        int(str(event.fields["index"]))
        for event in report.history.events()
        if event.kind == "block"
    }


def test_before_the_seed(gracekill: Judge) -> None:
    report = gracekill(flush_time=2.4, blocks=64, policy=LIBVIRT_0_9_10, flags=KillFlags.FORCE)
    # the audit read the disk file, the journal is the fake's: they agree block by block
    assert set(report.disk.lost) == set(range(64)) - durable(report)
    # the last blocks and no others
    assert report.disk.lost == list(range(min(report.disk.lost), 64))
    # a third of the flush was still to come
    assert 14 <= len(report.disk.lost) <= 40
    assert report.disk.torn == report.disk.stale == report.disk.phantom == []
    words = {name: verdict.word for name, verdict in report.verdicts.items()}
    assert words == {
        "data": "DATA LOST",
        "escalation": "KILLED EARLY",
        "outcome": "ok",
        "promptness": "ok",
        "deadlock": "ok",
        "locks": "HELD OVER WAIT",
        "progress": "STALLED",
        "identity": "ok",
        "leftovers": "ok",
    }
    assert "the flush needed 2.40 s, the grace was 1.6" in report.verdicts["escalation"].evidence
    assert report.headline().endswith("KILLED EARLY, HELD OVER WAIT, STALLED")
    with pytest.raises(
        AssertionError, match=r"^gracekill: DATA LOST \(\d+ of 64 blocks: \d+-63\), K"
    ):
        report.check()
    report.check("outcome", "promptness", "deadlock", "leftovers")


def test_both_locks_dropped(gracekill: Judge) -> None:
    report = gracekill(
        flush_time=2.4, flags=KillFlags.FORCE, contenders=("other", "same", "list", "define") * 2
    )
    report.check()
    assert set(report.verdicts) == {
        "data", "escalation", "outcome", "promptness", "deadlock", "locks", "progress", "identity",
        "leftovers",
    }  # fmt: skip
    assert not report.not_judged


def test_graceful_and_longer_than_the_patience(gracekill: Judge) -> None:
    report = gracekill(flush_time=1.2, policy=KillPolicy(grace=0.3, reap=0.2), flags=0)
    report.check()
    assert isinstance(report.result, KillResult)
    assert not report.result.ok
    assert report.result.dead is False
    assert not report.sigkill_sent
    assert report.disk.lost == []
    assert set(report.disk.acknowledged) == durable(report) == set(range(64))


def test_the_seed_with_others(gracekill: Judge) -> None:
    gracekill(
        flush_time=0.8, policy=LIBVIRT_0_9_11, flags=KillFlags.FORCE, contenders=("other",) * 4
    ).check()


def test_the_seed_with_one_that_looks_up_the_same(gracekill: Judge) -> None:
    report = gracekill(
        flush_time=0.8,
        policy=LIBVIRT_0_9_11,
        flags=KillFlags.FORCE,
        contenders=("other", "other", "same"),
    )
    broken = {name for name, verdict in report.verdicts.items() if verdict.status != "ok"}
    assert broken == {"locks", "progress"}
    assert "domain vm held for" in report.verdicts["locks"].evidence
    assert "wanted meanwhile by same-1" in report.verdicts["locks"].evidence
    assert "3 of 3 contenders stood still" in report.verdicts["progress"].evidence
    # who waits for which lock, held by whom, since when, taken where
    _, first, second = report.verdicts["progress"].detail
    assert first.strip().startswith("other-")
    assert "waited for driver from t+" in first
    assert "held by same-1 since t+" in first
    assert "taken at" in first
    assert second.strip().startswith("same-1 waited for domain vm from t+")
    assert "held by the routine since the call" in second


def test_the_seed_with_the_look_up_of_later(gracekill: Judge) -> None:
    report = gracekill(
        flush_time=0.8,
        policy=LIBVIRT_0_9_11,
        flags=KillFlags.FORCE,
        contenders=("other", "other", "same"),
        lookup="referenced",
    )
    # the one that wants the dying domain waits for it, the others go on
    assert "1 of 3 contenders stood still; same-1 for" in report.verdicts["progress"].evidence


def test_torn_blocks_are_told_apart(gracekill: Judge) -> None:
    # block 0 is half written at 1 s and whole at 2 s: SIGKILL falls between the two
    report = gracekill(
        flush_time=4.0, blocks=2, torn=True, policy=KillPolicy(grace=1.5), flags=KillFlags.FORCE
    )
    assert report.disk.torn == [0]
    assert report.disk.lost == [1]
    assert report.verdicts["data"].word == "DATA LOST"
    assert report.verdicts["data"].also == ("TORN (blocks 0)",)


def test_a_rewritten_block_is_stale(gracekill: Judge, fake_qemu: StartFake) -> None:
    fake = fake_qemu(blocks=4, guest="flushing", topology="reaped")

    def freeze_with_unflushed_writes() -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            os.kill(fake.pid, signal.SIGSTOP)
            kinds = [entry.event for entry in fake.journal.entries()]
            if "guest_flush" in kinds and kinds[-1] == "ack":
                return
            os.kill(fake.pid, signal.SIGCONT)
        pytest.fail("no write after a guest's flush within 30 s")

    def kill(pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        fake.wait(10)

    freeze_with_unflushed_writes()
    report = gracekill(kill, vm=fake, survive=1.0)
    assert report.verdicts["data"].word == "STALE"
    # what the guest had flushed before is there, in its old generation
    assert report.disk.stale
    assert report.disk.lost == report.disk.torn == report.disk.phantom == []
    assert report.verdicts["escalation"].word == "NEVER ASKED"


def test_a_lock_handed_from_one_thread_to_another_raises_no_alarm(gracekill: Judge) -> None:
    def hands_over(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
        assert domain.pid is not None
        pidfd = os.pidfd_open(domain.pid)
        threading.Thread(target=driver.lock.release).start()
        driver.lock.acquire()  # taken again by its owner, let go by the other thread
        domain.lock.release()
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
            return bool(select.select([pidfd], [], [], 20)[0])
        finally:
            os.close(pidfd)
            domain.lock.acquire()

    report = gracekill(hands_over, flush_time=0.05, flags=KillFlags.FORCE, contenders=0)
    report.check()


def test_work_of_the_users_own_that_waits_for_the_routine(gracekill: Judge) -> None:
    lock = threading.Lock()

    def status() -> None:
        with lock:
            pass

    def stop(pid: int) -> None:
        pidfd = os.pidfd_open(pid)
        with lock:
            os.kill(pid, signal.SIGTERM)
            select.select([pidfd], [], [], 20)
        os.close(pidfd)

    report = gracekill(stop, flush_time=0.8, contend=[status], stall_limit=0.4)
    assert report.verdicts["progress"].word == "STALLED"
    assert report.verdicts["progress"].evidence.startswith("status took 0.")
    report.check("data", "outcome")
    gracekill(stop, flush_time=0.2, contend=[status], stall_limit=1.5).check()


def test_work_of_the_users_own_that_raises(gracekill: Judge) -> None:
    def broken() -> None:
        raise RuntimeError("domain is locked")

    report = gracekill(flush_time=0.1, contend=[broken], flags=KillFlags.FORCE)
    assert report.verdicts["progress"].word == "STALLED"
    assert "broken raised RuntimeError: domain is locked" in report.verdicts["progress"].evidence


def test_vm_of_the_users_own(gracekill: Judge, fake_qemu: StartFake) -> None:
    fake = fake_qemu(flush_time=0.1, topology="reaped")
    report = gracekill(vm=fake, flags=KillFlags.FORCE)
    report.check()
    assert fake.exit is not None
    assert fake.exit.code == 0
    assert fake.disk.audit().lost == []


def test_what_cannot_apply_is_not_judged(gracekill: Judge) -> None:
    def terminate(pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.01)

    report = gracekill(terminate, flush_time=0.1)
    report.check()
    assert set(report.not_judged) == {"deadlock", "locks", "progress", "identity"}
    text = " ".join(str(report).split())
    assert "not judged: deadlock, locks (no locks were handed in)" in text
    with pytest.raises(AssertionError, match="NOT JUDGED locks"):
        report.check("locks")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["flushed", "killed"])
def test_the_pid_file_of_a_daemon(gracekill: Judge, number: int) -> None:
    def stop(pid: int) -> None:
        pidfd = os.pidfd_open(pid)
        os.kill(pid, number)
        select.select([pidfd], [], [], 20)
        os.close(pidfd)

    report = gracekill(stop, topology="daemon", flush_time=0.05)
    # QEMU takes it away when it exits by itself, and whoever kills it has to do that
    left = report.verdicts["leftovers"]
    assert left.word == ("ok" if number == signal.SIGTERM else "LOCKED"), report
    assert number == signal.SIGTERM or left.evidence == "the pid file is there"
