"""The simulated VM: the fake's behaviour at a stop, as a function of virtual time.

What it does by itself is known as soon as a signal has come: nothing is run, and no time is spent.
Only what has to do with time and signals is simulated; `UNSUPPORTED` says which knobs are not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.child.behaviour import Crash, Stall
from pytest_gracekill.child.disk import Audit
from pytest_gracekill.child.ending import Exit
from pytest_gracekill.child.journal import Entry
from pytest_gracekill.child.knobs import Knobs
from pytest_gracekill.errors import UsageError
from pytest_gracekill.explore.run import as_ns
from pytest_gracekill.verdicts.requests import SIGKILL, STOP_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gracekill.explore.run import Run

#: Above every pid that Linux gives: nobody else is ever meant by it.
FIRST_PID = 5_000_001

#: Knobs that say nothing of time and signals, or need a real process.
UNSUPPORTED = ("torn", "guest", "inherit", "helpers", "helper", "qmp", "disk_lock")
TOPOLOGIES = ("child", "reaped", "zombie")

_SIGSTOP, _SIGTSTP, _SIGCONT, _SIGCHLD = 19, 20, 18, 17


def check(knobs: Knobs, sources: dict[str, str]) -> None:
    """See whether a VM of these knobs can be simulated.

    :raises UsageError: it names the knob, and what can be had.
    """
    default = Knobs()
    for name in UNSUPPORTED:
        value = getattr(knobs, name)
        if value != getattr(default, name):
            raise UsageError(
                f"{name}={value!r}: an exploration simulates time and signals of the VM only; use"
                " gracekill() for that",
                source=sources.get(name, "the call"),
            )
    if knobs.topology not in TOPOLOGIES:
        raise UsageError(
            f"topology={knobs.topology!r}: an exploration has {', '.join(TOPOLOGIES)}",
            source=sources.get("topology", "the call"),
        )
    if knobs.on_term not in ("flush", "ignore", "default", "exit", "refuse") and not isinstance(
        knobs.on_term, Crash
    ):
        raise UsageError(
            f"on_term={knobs.on_term}: a VM that stops itself is not simulated; use gracekill()",
            source=sources.get("on_term", "the call"),
        )


class SimulatedVm:
    """One VM of one schedule.

    :ivar ended_at: when it exits as far as is known now, in virtual nanoseconds; None: never.
    :ivar begun: when it began to flush.
    :ivar gone_at: when its pid is free, by what is known now.
    """

    __slots__ = (
        "_ready_at",
        "_run",
        "begun",
        "code",
        "ended_at",
        "gone_at",
        "killed_by",
        "knobs",
        "log",
        "mask",
        "name",
        "pid",
        "taken",
    )

    def __init__(self, run: Run, knobs: Knobs, name: str) -> None:
        self._run = run
        self.knobs = knobs
        self.name = name
        self.pid = FIRST_PID + len(run.vms)
        self.mask = run.new_bit()
        self.ended_at: int | None = None
        self.gone_at: int | None = None
        self.code: int | None = None
        self.killed_by: int | None = None
        #: The signals that it has taken note of: when, which.
        self.taken: list[tuple[int, int]] = []
        #: What came to whoever has its pid after it.
        self.log: list[tuple[int, str, dict[str, object]]] = []
        self.begun: int | None = None
        self._ready_at = run.now + as_ns(knobs.ready_after)
        run.vms[self.pid] = self
        run.timers.append(self)

    def __str__(self) -> str:
        return self.name

    # -- its state

    def ended(self) -> bool:
        """Whether it has exited, reaped or not."""
        return self.ended_at is not None and self.ended_at <= self._run.now

    def gone(self) -> bool:
        """Whether nothing has its pid any more, or somebody else has."""
        return self.gone_at is not None and self.gone_at <= self._run.now

    def due(self, now: int) -> int | None:
        """When something can be seen of it next."""
        due = None
        for at in (self._ready_at, self.ended_at, self.gone_at):
            if at is not None and at > now and (due is None or at < due):
                due = at
        return due

    def reap(self) -> None:
        """Its parent has asked for its status."""
        self.gone_at = self._run.now

    @property
    def status(self) -> int:
        """The status as ``Popen.returncode`` has it."""
        return -self.killed_by if self.killed_by is not None else self.code or 0

    # -- signals

    def signal(self, signum: int) -> None:
        """Take a signal now; it must not be gone."""
        now = self._run.now
        if self.ended() or signum in (0, _SIGCHLD, _SIGCONT):
            return
        if signum in (_SIGSTOP, _SIGTSTP):
            raise UsageError(f"signal {signum} to the VM: a stopped VM is not simulated")
        if signum not in STOP_SIGNALS:
            later = as_ns(self.knobs.survives_kill) if signum == SIGKILL else 0
            self._end(now + later, killed_by=signum)
            return
        if now < self._ready_at or self.knobs.on_term == "default":
            self._end(now, killed_by=signum)
            return
        self.taken.append((now, signum))
        if self.killed_by is None:
            self._react(now)

    def _react(self, now: int) -> None:
        on_term = self.knobs.on_term
        if on_term in ("ignore", "refuse"):
            return
        if on_term == "exit":
            self._end(now, code=self.knobs.exit_status)
            return
        if self.begun is not None:
            if self.knobs.on_second_term == "abort":
                self._end(now, code=1)
                return
            if self.knobs.on_second_term == "ignore":
                return
        self.begun = now
        if isinstance(on_term, Crash):
            self._end(
                self._durable(min(on_term.at, self.knobs.blocks - 1), before=True),
                code=on_term.exit,
                killed_by=None if on_term.signal is None else int(on_term.signal),
            )
        elif self.knobs.flush_profile != "never":
            total = as_ns(self.knobs.flush_total) + as_ns(self.knobs.linger)
            self._end(now + total, code=self.knobs.exit_status)

    def _end(self, at: int, *, code: int | None = None, killed_by: int | None = None) -> None:
        self.ended_at, self.code, self.killed_by = at, code, killed_by
        topology = self.knobs.topology
        if topology == "reaped":
            self.gone_at = at
        elif topology == "zombie":
            self.gone_at = at + as_ns(self.knobs.reaper_delay)

    # -- what is on its disk

    def _durable(self, block: int, *, before: bool = False) -> int:
        """When a block is on disk (``before``: when it is its turn)."""
        assert self.begun is not None
        knobs = self.knobs
        share = (block + (0 if before else 1)) / knobs.blocks
        if knobs.flush_profile == "slowing":
            share *= share
        at = self.begun + as_ns(knobs.flush_time * share)
        stall = knobs.flush_profile
        if isinstance(stall, Stall) and block >= min(stall.at, knobs.blocks - 1):
            at += as_ns(stall.seconds)
        return at

    def durable(self) -> list[tuple[int, int]]:
        """The blocks that are on disk now, and since when."""
        if self.begun is None or self.knobs.flush_profile == "never":
            return []
        last = self._run.now if self.ended_at is None else min(self.ended_at, self._run.now)
        if self.killed_by is not None and self.ended_at is not None:
            # what survives a SIGKILL for a while does not flush meanwhile
            last = min(last, self.ended_at - as_ns(self.knobs.survives_kill))
        found = []
        for block in range(self.knobs.blocks):
            at = self._durable(block)
            if at > last:
                break
            found.append((block, at))
        return found

    def audit(self) -> Audit:
        """What became of the acknowledged writes."""
        blocks = list(range(self.knobs.blocks))
        on_disk = {block for block, _ in self.durable()}
        return Audit(acknowledged=blocks, lost=[b for b in blocks if b not in on_disk])

    # -- its own word

    def exit(self) -> Exit | None:
        """How it ended; None when it has not."""
        if self.ended_at is None or not self.ended():
            return None
        return Exit(code=self.code, signal=self.killed_by, at=self.ended_at / 1e9)

    def journal(self, began: int) -> tuple[Entry, ...]:
        """What the fake would have written."""
        return tuple(sorted(self._entries(began), key=lambda entry: entry.at_ns))

    def _entries(self, began: int) -> Iterator[Entry]:
        knobs = self.knobs

        def entry(at_ns: int, event: str, **fields: object) -> Entry:
            return Entry(at_ns=at_ns, event=event, fields=fields)

        yield entry(
            began,
            "start",
            pid=self.pid,
            topology=knobs.topology,
            blocks=knobs.blocks,
            block_size=knobs.block_size,
            seed=knobs.seed,
        )
        yield entry(began, "role", pid=self.pid, role="vm")
        yield entry(began, "ack", first=0, last=knobs.blocks - 1, generation=1)
        if knobs.on_term != "default":
            yield entry(self._ready_at, "handlers")
        for at_ns, signum in self.taken:
            yield entry(at_ns, "signal", signal=signum, pid=0)
        if self.begun is not None:
            yield entry(self.begun, "flush_begin", blocks=knobs.blocks)
        on_disk = self.durable()
        for block, at_ns in on_disk:
            yield entry(at_ns, "block", index=block, generation=1)
        if len(on_disk) == knobs.blocks:
            yield entry(on_disk[-1][1], "flush_end")
        if self.ended_at is not None and self.ended() and self.killed_by is None:
            crashed = isinstance(knobs.on_term, Crash)
            yield entry(self.ended_at, "crash" if crashed else "exit", code=self.code)
        if knobs.reuse_pid and self.gone_at is not None and self.gone():
            yield entry(self.gone_at, "reused")
        for at_ns, event, fields in self.log:
            yield entry(at_ns, event, **fields)
