"""A kill routine that somebody else ships: what it does by its own source, and what that costs.

Its signals and waits are data, so that the blocks which a flush time costs can be computed. What
is computed, what is measured here, and what the survey measured elsewhere are three sources that
have to agree.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from math import floor, inf, isinf
from platform import python_version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_gracekill import External

#: Blocks of every fake of the survey.
BLOCKS = 20

#: Debian keeps commands here that a user's PATH may not have.
PATHS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A signal (or ``"quit"`` by QMP; empty for none), and the seconds of waiting after it."""

    send: str = ""
    wait: float = 0.0

    def __str__(self) -> str:
        waits = "" if not self.wait else "unbounded" if isinf(self.wait) else f"{self.wait:g} s"
        return ", ".join(part for part in (self.send, waits) if part)


def term(wait: float) -> Step:
    """SIGTERM, and how long it waits then."""
    return Step(send="SIGTERM", wait=wait)


KILL = Step(send="SIGKILL")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """One routine of the table.

    ``key`` is its name in data and test ids, ``call`` how its documentation writes it; ``source``
    is where the routine stands. ``package`` (of PyPI) or ``command`` is what has to be installed;
    neither: it is Python's own. ``steps`` is what it does. ``force`` is what its users are
    promised, ``knobs`` what its VM needs, ``remark`` a fact that the figures do not show. ``timed``
    makes the same routine with another grace, by its own parameter, where it has one.
    """

    key: str
    call: str
    routine: Callable[..., object] | External
    steps: tuple[Step, ...]
    source: str
    package: str = ""
    command: str = ""
    force: bool | None = None
    remark: str = ""
    knobs: Mapping[str, object] = field(default_factory=dict)
    timed: Callable[[float], Callable[..., object] | External] | None = None

    def __str__(self) -> str:
        return f"{self.key}: {self.sequence}"

    @property
    def sequence(self) -> str:
        """Signals and waits as people write them."""
        return ", ".join(map(str, self.steps)) or "no signal"

    @property
    def missing(self) -> str:
        """Why it can't be run here; empty when it can."""
        if self.command and shutil.which(self.command, path=PATHS) is None:
            return f"there is no command {self.command} on this machine"
        if self.package and not _version(self.package):
            return f"{self.package} is not installed: pip install '.[test]' brings it"
        return ""

    @property
    def version(self) -> str:
        """Of what is measured, as people write it."""
        if self.package:
            return _version(self.package)
        return _version_of(self.command) if self.command else f"Python {python_version()}"

    def grace(self) -> float | None:
        """Seconds from the first request to SIGKILL; None without a SIGKILL."""
        total = 0.0
        asked = False
        for step in self.steps:
            if step.send == "SIGKILL":
                return total
            asked = asked or bool(step.send)
            total += step.wait if asked else 0.0
        return None

    def costs(self, flush_time: float, blocks: int = BLOCKS) -> int | None:
        """The blocks that such a flush loses by these steps; None when the VM is left running."""
        grace = self.grace()
        if grace is None:
            return 0 if any(step.send for step in self.steps) else None
        return blocks - min(blocks, floor(blocks * grace / flush_time))

    def within(self, grace: float) -> Shipped:
        """The same, told to wait for so many seconds before SIGKILL."""
        assert self.timed is not None
        *before, waits, kill = self.steps
        steps = (*before, replace(waits, wait=grace), kill)
        return replace(self, routine=self.timed(grace), steps=steps)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _version_of(command: str) -> str:
    said = subprocess.run(
        [command, "--version"], env={"PATH": PATHS}, capture_output=True, text=True, check=True
    )
    found = re.search(r"\d+(\.\d+)+", said.stdout)
    return "" if found is None else found[0]


UNBOUNDED = inf
