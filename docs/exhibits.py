"""The exhibits of the gallery: for each word a routine that gets it, and how to mend that.

The words are those of ``tables.WORDS``; the routines are those of tests/flaws, where there is one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from docs.blocks import ROOT
from pytest_gracekill import LIBVIRT_0_9_10, LIBVIRT_0_9_11, KillPolicy

_FLAWS = Path("tests/flaws")
_SPECIMENS = Path("docs/specimens")
#: Where pages and pictures are.
FOLDER = ROOT / "docs" / "gallery"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhibit:
    """A wrong routine, in a file of its own; what to do about it; and a right one, if there is."""

    wrong: Path
    mend: str
    right: Path | None = None
    #: Verdicts that it breaks, too, whatever the machine does.
    beside: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.wrong.stem


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A picture of the seed's story: the policy, and what it shows."""

    policy: KillPolicy
    shows: str
    expected: frozenset[str]

    def __str__(self) -> str:
        return self.shows


def slug(word: str) -> str:
    """The name of a word's files, without what they end with."""
    return word.lower().replace(" ", "-")


def _flaw(name: str, mend: str, right: str | None = None, beside: str = "") -> Exhibit:
    return Exhibit(
        beside=frozenset(beside.split()),
        wrong=_FLAWS / f"flaw_{name}.py",
        mend=mend,
        right=None if right is None else _FLAWS / f"right_{right}.py",
    )


EXHIBITS = {
    "DATA LOST": _flaw(
        "grace_too_short",
        "Give the flush the time that it needs, and some more: `popen.wait(10)`. A VM that flushes"
        " faster costs nothing, since the wait ends with the VM. How long a flush may take is a"
        " promise to your users: say it, and test it with `survive=`.",
        "popen_wait",
    ),
    "TORN": _flaw(
        "torn_write",
        "SIGKILL can come between the two halves of a write, and no journal of the guest helps"
        " where the half that is there overwrites what was good. Wait until the VM has ended; send"
        " SIGKILL only after a grace that its slowest flush fits into.",
        "pid_poll",
    ),
    "STALE": Exhibit(
        wrong=_SPECIMENS / "stale.py",
        mend="Ask first: SIGTERM (or QMP's `quit`), then wait on the pidfd, and SIGKILL only when"
        " the grace is over. A guest that flushes by itself now and then is not safe from SIGKILL"
        " either: what it has rewritten since is on the disk as it was before.",
        right=_FLAWS / "right_asyncio_pidfd.py",
    ),
    "PHANTOM": Exhibit(
        wrong=_SPECIMENS / "phantom.py",
        mend="Nobody but the VM writes to its image while it is the VM's, and what has to be done"
        " to it afterwards is done by a program that knows the format, such as `qemu-img`. Here"
        " the place is `_HEADER + number * _BLOCK`.",
    ),
    "KILLED EARLY": _flaw(
        "shared_timer",
        "The second VM gets what the first one has left of the time. Each has a grace of its own,"
        " counted from its own SIGTERM: `deadline = time.monotonic() + 10` for each, noted where it"
        " is asked to stop.",
        "popen_wait",
    ),
    "NEVER ASKED": _flaw(
        "dead_pid",
        "Send the request to the VM itself: keep the `Popen`, or the pid that the start of the VM"
        " returned, and read what the kernel answers. `ProcessLookupError` from the first signal"
        " means that this process has ended, and it says nothing of the VM where it is another"
        " process. A longer grace does not help a VM that never got a request.",
        "popen_wait",
        beside="data",
    ),
    "UNHEARD": _flaw(
        "signal_to_stopped",
        "The request has reached the VM and has no effect, so a longer grace does not help. The"
        " evidence gives the reason, and the remedy depends on it. A stopped process gets SIGCONT"
        " after the SIGTERM: it resumes with the signal pending, and handles it first. A blocked or"
        " ignored signal was inherited from the process that started the VM: reset it there"
        " (`restore_signals` of `subprocess` resets no SIGTERM). A paused guest does not see the"
        " power button: send QMP `cont` before it, or QMP `quit` in its place.",
        "signal_to_resumed",
    ),
    "NEVER KILLED": _flaw(
        "escalation_missing",
        "A VM that ignores SIGTERM goes on for ever, unless SIGKILL follows where it was promised:"
        " after the loop call `process.kill()`, wait again, and return what has come of that.",
        "pid_poll",
    ),
    "KILLED ANYWAY": _flaw(
        "sigkill_despite_graceful",
        "A graceful stop that was not successful is a failure, to be reported as one. Whether"
        " data may be lost to get rid of the VM is for the caller to say, with `FORCE`, in another"
        " call.",
        "truthful_failure",
        beside="data",
    ),
    "REPEATED": _flaw(
        "second_sigterm_aborts",
        "SIGTERM is sent once, before the loop; in the loop `os.kill(pid, 0)` asks whether the VM"
        " is still there, or better a pidfd. Many programs take a second SIGTERM for impatience,"
        " and drop what they were saving.",
        "pid_poll",
    ),
    "STRANGER": _flaw(
        "kill_zero",
        "To `kill`, 0 is the caller's whole process group, and -1 everybody. No pid is no pid:"
        " `if running is None: raise`, and never a number in its place. With a pidfd, opened when"
        " the VM was started, a wrong number cannot be hit at all.",
        "asyncio_pidfd",
    ),
    "LEAKED": _flaw(
        "timeout_returns_success",
        "Two ways lead out of the loop, and only one of them is success: return from within the"
        " loop where the VM is seen to be gone, and after the loop send SIGKILL, or report the"
        " failure. Who believes in the success starts the VM a second time, on the same disk.",
        "pid_poll",
    ),
    "LIED": _flaw(
        "wrong_exit_class",
        "Report what has happened, not what was allowed: the signal that ended the VM is in its"
        " exit status, and `process_kill` has it in its result. `return result` is all.",
        "driver_both_dropped",
    ),
    "RAISED": _flaw(
        "already_dead_is_error",
        "That there is no such process is what a stop waits for: `except ProcessLookupError:"
        " return`, around the look and around the first signal as well, since the VM may end by"
        " itself at any time.",
        "pid_poll",
    ),
    "GAVE UP": _flaw(
        "gave_up",
        "The test says by `survive=5.0` that a VM may take 5 seconds, and the routine reports a"
        " failure after 0.3. The VM then ends by itself in time: the caller has handled an error"
        " that there was not, and may have cleaned up under a VM that still wrote. Wait as long as"
        " you promise, and report a failure after that.",
        "gives_the_time",
    ),
    "RESTARTED": _flaw(
        "supervisor_not_told",
        "Something supervises the VM and takes its end for a crash. Stop the VM through its"
        " supervisor (`systemctl stop`, `supervisorctl stop`, the API of the manager), or disable"
        " the restart before the VM is stopped. The evidence names the process that started the VM"
        " again, and when.",
        "supervisor_told",
    ),
    "EARLY": _flaw(
        "no_verify_after_kill",
        "A signal is a request. Wait until the process is gone before you call it stopped: while it"
        " flushes, it still owns the disk, and whoever starts its successor, copies the image or"
        " removes it meanwhile does that to a disk that is being written to.",
        "pid_poll",
    ),
    "SLOW": _flaw(
        "sleeps_full_grace",
        "Wait for the event, not for the time: `popen.wait(1.5)` returns when the VM is gone, and"
        " takes the whole time only where the VM does. A grace that costs nothing can be long.",
        "popen_wait",
    ),
    "HUNG": _flaw(
        "sigterm_blocked",
        "Every wait has a limit, the first one and the one after SIGKILL: a VM may not get the"
        " signal, may ignore it, or may flush to a disk that is gone. And what the VM inherits is"
        " set at its start: `signal.pthread_sigmask` in the manager reaches all its children. Where"
        " a routine in Python stood, the report shows by its stack; of a command it shows the last"
        " lines that it printed, and its processes with what each of them waits for.",
        "popen_wait",
    ),
    "DEADLOCK": _flaw(
        "lock_order_retake",
        "Whoever wants the driver lock back lets the domain's go first, then takes both in the"
        " order in which everybody else does: driver, domain. A reference keeps the domain there"
        " meanwhile, and what was known of it has to be looked at again.",
        "driver_own_way",
    ),
    "LOCK ORDER": _flaw(
        "lock_order_own_code",
        "Nothing hung this time, since the two threads did not meet. Decide on one order for the"
        " two locks, write it down where they are defined, and keep to it everywhere: here"
        " `with _images.lock, _networks.lock:` in both.",
    ),
    "LOCK LOST": _flaw(
        "lock_not_restored_gone",
        "What was let go is taken back on every path, so it belongs into a `finally`: after an"
        " early return the caller releases a lock that it does not hold, or works on shared state"
        " without it.",
        "driver_own_way",
    ),
    "HELD OVER WAIT": _flaw(
        "lock_held_over_wait",
        "Take a reference, note which run of the VM this is about, and let the locks go before the"
        " first sleep; take them again at the end, in their order, and look at the domain anew. A"
        " wait with a lock in hand is a wait for everybody who needs the lock.",
        "driver_both_dropped",
    ),
    "STALLED": _flaw(
        "domain_lock_held_over_wait",
        "To let the driver lock go is not enough where a look-up waits for the domain with the"
        ' driver lock in its hands. Let both go (`drop="both"`), or change the look-up: reference'
        " the domain under the driver lock, and lock it after that was let go.",
        "driver_both_dropped",
    ),
    "WRONG VM": _flaw(
        "restarted_meanwhile",
        "Somebody has started the domain again while the locks were let go, and what was known of"
        " it before is about another run. Note the run (id, pid, start time) before the first"
        " unlock, and compare: here `if domain.incarnation == run:`. The same goes for signals:"
        " send them to a pidfd that was opened before, not to the pid of now.",
        "driver_guarded",
    ),
    "FREED": _flaw(
        "unlock_without_ref",
        "A lock does not keep an object alive once it is let go. Take a reference before the first"
        " unlock (`domain.ref()`), and drop it as the last thing, when the locks are held again.",
        "driver_own_way",
    ),
    "TWICE": _flaw(
        "eof_vs_destroy",
        "The end of the VM is seen in two places, by who stops it and by the monitor's end of file,"
        " and one of them has to keep off: a flag that is set before the locks are let go, and a"
        " look at whether this very run was cleaned up already.",
        "driver_guarded",
    ),
    "ORPHANS": _flaw(
        "leftover_children",
        "The VM's helpers do not end with it. Stop them after it, when they have nothing to lose"
        " any more, and by their own handles: a process group of its own for each VM, or a cgroup,"
        " knows them all.",
        "psutil_helpers",
    ),
    "LOCKED": Exhibit(
        wrong=_SPECIMENS / "locked.py",
        mend="The word stands for three things, and the report says which is left and what follows"
        " from it. The *disk lock*: it is free when the last process that has the disk open is"
        " gone, which need not be the VM. Stop the helpers too, and look at the lock, before the"
        " success is reported: the next start fails otherwise, and finds no VM to blame. The *pid"
        " file* and the *QMP socket*: QEMU removes both when it exits by itself, and cannot when it"
        " is killed. Neither keeps the next QEMU from starting, which takes them over; but a stop"
        " that reads a stale pid file may hit another process, and a client of a stale socket is"
        " refused. Whoever sends SIGKILL removes them.",
        right=_FLAWS / "right_psutil_helpers.py",
    ),
}
"""Every word, in the order in which verdicts are told."""

SCENES = {
    "libvirt-0.9.10": Scene(
        policy=LIBVIRT_0_9_10,
        shows="LIBVIRT_0_9_10: SIGKILL at t+1.6 cuts a flush of 2.4 seconds, a third of the blocks"
        " are lost, and all four other threads stand still for the driver lock, which the routine"
        " holds",
        expected=frozenset({"data", "escalation", "locks", "progress"}),
    ),
    "libvirt-0.9.11": Scene(
        policy=LIBVIRT_0_9_11,
        shows="LIBVIRT_0_9_11: all 64 blocks reach the disk; same-1 waits for the domain, which"
        " the routine holds, and the three others wait for the driver lock, which same-1 holds",
        expected=frozenset({"locks", "progress"}),
    ),
    "both-dropped": Scene(
        policy=KillPolicy(),
        shows="KillPolicy(): all 64 blocks reach the disk, no lock is held over the wait, and all"
        " four other threads go on",
        expected=frozenset(),
    ),
}
"""The three pictures of the seed's story."""
