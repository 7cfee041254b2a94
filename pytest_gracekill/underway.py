"""What is going on at the moment, in a few words, for whoever waits for it.

Written by what is going on, read from another thread: nothing here is locked, and what is told may
be a moment old.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_gracekill import clock
from pytest_gracekill.counted import counted

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_gracekill.child.handle import FakeQemu
    from pytest_gracekill.explore.search import Coverage


class Flushed:
    """How many blocks a VM has flushed, by what its journal has got since the last look."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._read = 0
        self.asked = False
        self.begun = False
        self.blocks = 0
        #: How many blocks this flush writes; None where that is not known.
        self.dirty: int | None = None

    def look(self) -> None:
        """Read on."""
        try:
            with self._journal.open("rb") as file:
                file.seek(self._read)
                data = file.read()
        except OSError:
            return
        # a line that is still being written comes with the next look
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            if b'"flush_begin"' in line:
                self.begun, self.blocks = True, 0
                self.dirty = _dirty(line)
            elif b'"block"' in line and self.begun:
                self.blocks += 1


def _dirty(line: bytes) -> int | None:
    try:
        blocks = json.loads(line).get("blocks")
    except (ValueError, AttributeError):
        return None  # damaged by somebody else
    return blocks if isinstance(blocks, int) else None


@dataclass(slots=True)
class TrialUnderway:
    """A trial: its phase, how far the flush is, how long the phase may last.

    ``until``: when it is cut off, in CLOCK_MONOTONIC seconds.
    """

    phase: str = "the VM starts"
    until: float | None = None
    _vm: FakeQemu | None = field(default=None, init=False)
    _flushed: Flushed | None = field(default=None, init=False)

    def begins(self, phase: str, *, seconds: float | None = None) -> None:
        """The next phase has begun; ``seconds`` are what it has at most."""
        self.phase = phase
        self.until = None if seconds is None else clock.monotonic() + seconds

    def has(self, vm: FakeQemu | None) -> None:
        """The VM is there."""
        if vm is not None and vm is not self._vm:
            self._vm, self._flushed = vm, Flushed(vm.journal.path)

    def __str__(self) -> str:
        told = [self.phase]
        vm, flushed = self._vm, self._flushed
        if vm is not None and flushed is not None:
            flushed.look()
            if flushed.begun:
                dirty = vm.knobs.blocks if flushed.dirty is None else flushed.dirty
                told.append(f"flushed {min(flushed.blocks, dirty)} of {dirty} blocks")
        if self.until is not None:
            told.append(f"cut off in {max(self.until - clock.monotonic(), 0.0):.0f} s")
        return ", ".join(told)


@dataclass(slots=True)
class SearchUnderway:
    """An exploration: schedules, how many a second, what is covered, how long it may last."""

    began: float = field(default_factory=clock.monotonic)
    _told: tuple[str, bool, int, int, float] = field(default=("", False, -1, 0, 0.0), init=False)

    def note(self, covered: Coverage, schedules: int, left: float) -> None:
        """How far it is now: called before each schedule."""
        self._told = covered.clock, covered.complete, covered.bound, schedules, left

    def __str__(self) -> str:
        mode, _, bound, schedules, left = self._told
        if not mode:
            return "explores"
        rate = schedules / max(clock.monotonic() - self.began, 1e-3)
        told = f"explores, clock {mode}, {schedules} schedules, {rate:.0f}/s"
        told += f", {max(left, 0.0):.0f} s left"
        # last: a narrow terminal cuts it off
        if bound >= 0:
            told += f", every one with {counted(bound, 'preemption')} or less"
        return told


@dataclass(slots=True)
class CasesUnderway:
    """The suite: how many of its cases are done, and which one is not."""

    of: int = 0
    done: int = 0
    case: str = ""
    began: float | None = None

    def begins(self, case: str, of: int) -> None:
        """A case begins."""
        self.case, self.of = case, of
        if self.began is None:
            self.began = clock.monotonic()

    def __str__(self) -> str:
        return f"{self.done} of {self.of} cases done, {self.case}"
