"""What a survey of such routines measured earlier, on other machines, with a fake of its own.

The same question: 20 acknowledged blocks, one flushed every twentieth of the flush time. A routine
that sends no signal leaves the VM running, and has no figures (None).
"""

from __future__ import annotations

#: Flush times in seconds.
FLUSH_TIMES = (0.1, 1.0, 2.0, 4.0, 8.0, 12.0)

NOTHING = (0, 0, 0, 0, 0, 0)
EVERYTHING = (20, 20, 20, 20, 20, 20)

#: Routine -> blocks lost of 20 at each flush time.
LOST: dict[str, tuple[int, ...] | None] = {
    "popen-kill": EVERYTHING,
    "popen-terminate": NOTHING,
    "popen-terminate-kill": (0, 0, 0, 0, 8, 12),
    "subprocess-run": EVERYTHING,
    "multiprocessing": (0, 0, 0, 5, 13, 15),
    "psutil": (0, 0, 0, 5, 13, 16),
    "mirakuru": NOTHING,
    "mirakuru-timeout": (0, 0, 0, 0, 0, 4),
    "xprocess": NOTHING,
    "tox": (0, 10, 15, 18, 19, 20),
    "nox": (0, 17, 19, 20, 20, 20),
    "labgrid-off": NOTHING,
    "labgrid-atexit": (0, 0, 10, 15, 18, 19),
    "trio": (0, 0, 0, 0, 8, 12),
    "start-stop-daemon": (0, 0, 0, 0, 8, 12),
    "timeout": (0, 1, 11, 16, 18, 19),
    "oslo": None,
}

#: How far two measurements of the same steps may lie apart.
TOLERANCE = 1

#: Routine -> why its figures here are not those of the survey.
EXPLAINED: dict[str, str] = {}
