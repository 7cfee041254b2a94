"""Who held a lock, when: what a wait points at."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_gracekill.render.picture.gathered import Held


class Owners:
    """The holds of every lock, by time."""

    def __init__(self, holds: Mapping[str, Sequence[Held]]) -> None:
        self._holds = {
            lock: sorted(rows, key=lambda hold: hold.since) for lock, rows in holds.items()
        }
        self._since = {lock: [hold.since for hold in rows] for lock, rows in self._holds.items()}

    def longest(self, lock: str, since: float, until: float, *, but: str) -> Held | None:
        """Whose hold took most of a time, by any thread but one; None where nobody's did."""
        rows = self._holds.get(lock, [])
        # a mutex has one holder at a time: only the last one that began before can reach in
        first = max(bisect_left(self._since.get(lock, []), since) - 1, 0)
        best: tuple[float, Held] | None = None
        for hold in rows[first:]:
            if hold.since >= until:
                break
            overlap = min(until if hold.until is None else hold.until, until)
            overlap -= max(hold.since, since)
            if hold.actor != but and overlap > 0 and (best is None or overlap > best[0]):
                best = overlap, hold
        return None if best is None else best[1]
