"""What the soak runs on: cores that are kept busy, and pytests of their own, two at a time.

`SOAK_SCALE=0.05 pytest tests/soak` takes a twentieth of every count, for a quick look, which
promises nothing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
BURNERS = 2
PYTEST_WITHIN = 1800.0

# a burner ends when nobody holds the other end of its standard input any more: whatever ends the
# soak, SIGKILL included, closes it
BURNER = """
import select, time
up = False
while not select.select([0], [], [], 0)[0]:
    busy_until = time.monotonic() + 0.05
    while time.monotonic() < busy_until:
        pass
    if not up:
        up = print(flush=True) is None
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one pytest said: how many of its tests there were, passed, and why others did not."""

    returncode: int
    tests: int
    failures: tuple[str, ...]
    output: str

    def __str__(self) -> str:
        return f"exit {self.returncode}, {self.tests} tests, {len(self.failures)} not passed"


class RunPytests(Protocol):
    """Run one pytest per list of arguments, all at the same time, each within a deadline."""

    def __call__(self, *runs: list[str]) -> list[Outcome]: ...


class Summarise(Protocol):
    def __call__(self, line: str) -> None: ...


def pytest_make_parametrize_id(val: object) -> str | None:
    return val.stem if isinstance(val, Path) else None


def start_burners(number: int = BURNERS) -> list[subprocess.Popen[bytes]]:
    """Start processes that do nothing but work; return when each of them is at it."""
    burners = [
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", BURNER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(number)
    ]
    for burner in burners:
        assert burner.stdout is not None
        assert burner.stdout.readline() == b"\n"
    return burners


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="session", autouse=True)
def busy_cores(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep two cores busy for as long as the soak runs, and say how busy."""
    started = time.monotonic()
    burners = start_burners()
    try:
        yield
        assert all(burner.poll() is None for burner in burners), "a burner has ended: idle cores"
        burnt = sum(_cpu_seconds(burner.pid) for burner in burners)
        elapsed = time.monotonic() - started
        _say(request.config, f"burners: {burnt / elapsed:.2f} cores of {os.cpu_count()} kept busy")
    finally:
        for burner in burners:
            burner.kill()
            burner.communicate()


@pytest.fixture
def summarise(request: pytest.FixtureRequest) -> Summarise:
    """Print one line, now, whatever is captured."""
    return lambda line: _say(request.config, line)


def _say(config: pytest.Config, line: str) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    if reporter is None or capture is None:  # a worker of xdist has no terminal
        return
    with capture.global_and_fixture_disabled():
        reporter.ensure_newline()
        reporter.write_line(f"soak: {line}")


@pytest.fixture
def run_pytests(tmp_path: Path) -> Iterator[RunPytests]:
    """Run pytests in processes of their own, at the root of the project."""
    running: list[subprocess.Popen[bytes]] = []

    def run(*runs: list[str]) -> list[Outcome]:
        number = len(running)
        started = []
        for at, arguments in enumerate(runs, number):
            folder = tmp_path / f"run-{at}"
            folder.mkdir()
            (folder / "tmp").mkdir()
            command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
            command += ["-c", str(ROOT / "pyproject.toml")]  # also for modules that are not in it
            command += [f"--basetemp={folder / 'base'}", f"--junit-xml={folder / 'junit.xml'}"]
            with (folder / "output").open("wb") as output:
                running.append(
                    subprocess.Popen(
                        [*command, *arguments],
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        cwd=ROOT,
                        # whatever does not ask pytest for a folder shows here
                        env={**os.environ, "TMPDIR": str(folder / "tmp")},
                    )
                )
            started.append((running[-1], folder))
        deadline = time.monotonic() + PYTEST_WITHIN
        return [_outcome(process, folder, deadline) for process, folder in started]

    yield run
    for process in running:
        process.kill()
        process.wait()


def _outcome(process: subprocess.Popen[bytes], folder: Path, deadline: float) -> Outcome:
    process.wait(max(deadline - time.monotonic(), 0.0))
    output = (folder / "output").read_text(encoding="utf-8", errors="replace")
    assert (folder / "junit.xml").exists(), f"no JUnit file was written:\n{output}"
    cases = list(ET.parse(folder / "junit.xml").getroot().iter("testcase"))
    bad = [
        f"{case.get('name')}: {child.tag}: {child.get('message')}"
        for case in cases
        for child in case
        if child.tag in ("failure", "error")
    ]
    return Outcome(
        returncode=process.returncode, tests=len(cases), failures=tuple(bad), output=output
    )
