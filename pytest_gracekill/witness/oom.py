"""How many processes of our own cgroup the kernel has killed for their memory.

Version 2 counts in ``memory.events``, with the cgroups below; version 1 in ``memory.oom_control``.
Not seen: where neither can be read, and processes that were started in another cgroup.
"""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_CGROUPS = Path("/proc/self/cgroup")


def counter(cgroups: Path = _CGROUPS, root: Path = _ROOT) -> Path | None:
    """The file that has the count; None where there is none that we can read."""
    try:
        lines = cgroups.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        below = path.lstrip("/")
        if "memory" in controllers.split(","):
            places = [root / "memory" / below, root / "memory"]
            name = "memory.oom_control"
        elif number == "0" and not controllers:
            places, name = [root / below, root / "unified" / below, root], "memory.events"
        else:
            continue
        for place in places:
            if kills(place / name) is not None:
                return place / name
    return None


def kills(file: Path | None) -> int | None:
    """The count that stands in a file; None where it has none."""
    if file is None:
        return None
    try:
        lines = file.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(" ")
        if name == "oom_kill" and value.strip().isdecimal():
            return int(value)
    return None


class OomKills:
    """Counts from its construction on."""

    def __init__(self) -> None:
        self._file = counter()
        self._before = kills(self._file)

    def __repr__(self) -> str:
        return f"<OomKills: {self.since()} in {self._file}>"

    def since(self) -> int:
        """How many there were; 0 where nobody counts."""
        now = kills(self._file)
        return 0 if now is None or self._before is None else max(now - self._before, 0)
