"""The progress line's own doing: what it writes, that it leaves nothing, whom it gives way to."""

from __future__ import annotations

import fcntl
import io
import os
import struct
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

if sys.platform != "linux":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

import pty
import termios

from pytest_gracekill import progress_line
from pytest_gracekill.explore.search import Coverage
from pytest_gracekill.progress_line import ProgressLine, on_terminal
from pytest_gracekill.underway import CasesUnderway, Flushed, SearchUnderway, TrialUnderway
from pytest_gracekill.witness import dead_end
from pytest_gracekill.witness.sites import stacks_beside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEADLINE = 10.0


class Terminal:
    """Both ends of a pseudo-terminal."""

    def __init__(self, columns: int) -> None:
        self.ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.written = ""

    def until(self, text: str) -> str:
        """Read until a text has come."""
        deadline = time.monotonic() + DEADLINE
        while text not in self.written:
            assert time.monotonic() < deadline, (text, self.written)
            self.written += os.read(self.ours, 65536).decode()
        return self.written

    def rest(self) -> str:
        """What has come up to here."""
        os.write(self.theirs, b"\0")
        return self.until("\0").removesuffix("\0")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setattr(progress_line, "AFTER", 0.05)
    monkeypatch.setattr(progress_line, "EVERY", 0.01)
    terminal = Terminal(60)
    yield terminal
    os.close(terminal.ours)
    os.close(terminal.theirs)


def test_what_takes_long_is_told_and_taken_away(terminal: Terminal) -> None:
    line = ProgressLine(terminal.theirs)
    with line.during(lambda: "three of four"):
        terminal.until("gracekill: three of four\x1b8")
    assert terminal.rest().endswith("\x1b8\x1b[J")


def test_what_is_over_soon_is_not_told(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_line, "AFTER", DEADLINE)
    line = ProgressLine(terminal.theirs)
    asked = threading.Event()

    def tell() -> str:
        asked.set()
        return "nothing"

    with line.during(tell):
        # twenty times as long as from one look to the next
        assert not asked.wait(0.2)
    assert terminal.rest() == ""
    # and what has begun long ago is, although its part has not
    with line.during(lambda: "a case", since=time.monotonic() - DEADLINE):
        terminal.until("a case")


def test_one_within_another_is_told_with_it(terminal: Terminal) -> None:
    line = ProgressLine(terminal.theirs)
    with line.during(lambda: "outer"):
        with line.during(lambda: "inner"):
            terminal.until("gracekill: outer; inner\x1b8")
        terminal.written = ""
        terminal.until("gracekill: outer\x1b8")
    names = [thread.name for thread in threading.enumerate()]
    assert "gracekill:terminal-1" not in names


def test_it_has_one_line_and_no_sign_that_moves_the_cursor(terminal: Terminal) -> None:
    line = ProgressLine(terminal.theirs)
    with line.during(lambda: "x\x1b[2J\n\u4e2d" + "y" * 200):
        told = terminal.until("y\x1b8")
    shown = told.rpartition("\x1b[2K")[2].partition("\x1b8")[0]
    assert shown == ("gracekill: x?[2J??" + "y" * 200)[:59]


def test_a_terminal_that_does_not_know_its_size_has_80_columns(terminal: Terminal) -> None:
    fcntl.ioctl(terminal.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 0, 0, 0, 0))
    with ProgressLine(terminal.theirs).during(lambda: "y" * 200):
        told = terminal.until("y\x1b8")
    shown = told.rpartition("\x1b[2K")[2].partition("\x1b8")[0]
    assert shown == ("gracekill: " + "y" * 200)[:79]


def test_what_is_printed_meanwhile_has_its_place(terminal: Terminal) -> None:
    with os.fdopen(os.dup(terminal.theirs), "w", buffering=1) as stream:
        write = stream.write
        line = ProgressLine(terminal.theirs, (stream,))
        with line.during(lambda: "told"):
            terminal.until("told\x1b8")
            terminal.written = ""
            print("printed", file=stream, flush=True)
            terminal.until("printed")
            terminal.until("told\x1b8")
        # taken away first, and nothing of it has come between
        before, _, _ = terminal.written.partition("printed")
        assert before.endswith("\x1b[J")
        assert stream.write == write


def test_a_line_that_is_just_being_written_is_taken_away_too(terminal: Terminal) -> None:
    shown = threading.Event()

    class Slow(ProgressLine):
        def _write(self, text: str) -> None:
            super()._write(text)
            if "told" in text:
                shown.set()
                time.sleep(0.1)

    with os.fdopen(os.dup(terminal.theirs), "w", buffering=1) as stream:
        with Slow(terminal.theirs, (stream,)).during(lambda: "told"):
            assert shown.wait(DEADLINE)
            print("printed", file=stream, flush=True)
            terminal.until("printed")
        assert "told\x1b8\x1b[Jprinted" in terminal.written


def test_no_line_comes_while_something_is_printed(terminal: Terminal) -> None:
    looked = threading.Semaphore(0)

    def tell() -> str:
        looked.release()
        return "told"

    class Slow(io.StringIO):
        told_meanwhile = False

        def write(self, text: str) -> int:
            while looked.acquire(blocking=False):
                pass
            # one look may be on its way; with a second one, the first was shown
            self.told_meanwhile = all(looked.acquire(timeout=0.2) for _ in range(2))
            return super().write(text)

    stream = Slow()
    with ProgressLine(terminal.theirs, (stream,)).during(tell):
        terminal.until("told\x1b8")
        stream.write("printed")
    assert stream.getvalue() == "printed"
    assert not stream.told_meanwhile


def test_a_debugger_has_the_terminal_to_itself(terminal: Terminal) -> None:
    looked = threading.Semaphore(0)

    def tell() -> str:
        looked.release()
        return "told"

    line = ProgressLine(terminal.theirs)
    with line.during(tell):
        terminal.until("told\x1b8")
        line.pause()
        terminal.rest()
        terminal.written = ""
        for _ in range(100):
            assert looked.acquire(timeout=DEADLINE)
            if not looked.acquire(blocking=False):
                break
        assert looked.acquire(timeout=DEADLINE)
        assert terminal.rest() == ""
        line.resume()
        terminal.until("told\x1b8")


def test_a_terminal_that_goes_away_hurts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_line, "AFTER", 0.0)
    monkeypatch.setattr(progress_line, "EVERY", 0.01)
    terminal = Terminal(60)
    os.close(terminal.ours)
    looked = threading.Semaphore(0)

    def tell() -> str:
        looked.release()
        return "told"

    with ProgressLine(terminal.theirs).during(tell):
        for _ in range(3):
            assert looked.acquire(timeout=DEADLINE)
    os.close(terminal.theirs)


@pytest.mark.parametrize(
    ("environment", "there"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "dumb"}, False),
        ({}, False),
        ({"TERM": "xterm", "CI": "true"}, False),
    ],
    ids=["terminal", "dumb", "none", "CI"],
)
def test_a_line_is_for_a_terminal_that_somebody_looks_at(
    terminal: Terminal, environment: dict[str, str], *, there: bool
) -> None:
    with os.fdopen(os.dup(terminal.theirs), "w") as stream:
        line = on_terminal(environment, captured=True, out=stream)
    assert (line is not None) is there
    if line is not None:
        # it has a descriptor of its own, which nobody captures
        with line.during(lambda: "told"):
            terminal.until("told")
        line.close()


def test_the_flush_is_read_from_the_journal_as_it_grows(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    flushed = Flushed(journal)
    flushed.look()
    assert not flushed.begun
    with journal.open("ab", buffering=0) as file:
        file.write(b'{"event":"block","index":1}\n{"event":"flush_begin"}\n{"event":"blo')
        flushed.look()
        assert (flushed.begun, flushed.blocks) == (True, 0)
        file.write(b'ck","index":0}\n{"event":"block","index":1}\n')
        flushed.look()
    assert flushed.blocks == 2


def test_phases_are_told_with_the_time_that_they_have() -> None:
    trial = TrialUnderway()
    assert str(trial) == "the VM starts"
    trial.begins("the routine runs", seconds=100.4)
    assert str(trial) == "the routine runs, cut off in 100 s"
    trial.begins("the routine has returned")
    assert str(trial) == "the routine has returned"


def test_an_exploration_is_told_with_its_bound() -> None:
    search = SearchUnderway(began=time.monotonic() - 10)
    assert str(search) == "explores"
    search.note(Coverage(clock="jump", bound=-1), 1000, 4.4)
    assert str(search) == "explores, clock jump, 1000 schedules, 100/s, 4 s left"
    search.note(Coverage(clock="jump", bound=1), 1000, -1.0)
    assert str(search).endswith("100/s, 0 s left, every one with 1 preemption or less")


def test_the_suite_is_told_by_its_cases() -> None:
    suite = CasesUnderway()
    suite.begins("flush", 37)
    began = suite.began
    suite.done += 1
    suite.begins("torn", 37)
    assert str(suite) == "1 of 37 cases done, torn"
    assert suite.began == began


def test_its_thread_is_none_that_could_end_anybodys_wait(terminal: Terminal) -> None:
    """A lost wake-up is found on a terminal, too, and the thread is not told of when it hangs."""
    line = ProgressLine(terminal.theirs)
    with line.during(lambda: "told"):
        terminal.until("told\x1b8")
        (ident,) = (t.ident for t in threading.enumerate() if t.name == "gracekill:terminal-1")
        assert ident is not None
        assert dead_end._only_watches(ident, sys._current_frames()[ident])
        assert "gracekill:terminal-1" not in dict(stacks_beside(()))
