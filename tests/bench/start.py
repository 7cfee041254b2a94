"""A fake (topology child, 64 blocks) from the call of spawn() to its return: folder, image, program
file and process, ready to take SIGTERM. Beside it a bare `python -I -S`, twice: started and
waited for to its end (`-c pass`), and started and listened to until it has written one byte,
which leaves out the end of the interpreter as readiness does. Both start by subprocess.Popen.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

from pytest_gracekill.child.handle import spawn
from pytest_gracekill.child.knobs import Knobs

from .figure import Figure, Promise, ratio

if TYPE_CHECKING:
    from pathlib import Path

BARE = [sys.executable, "-I", "-S", "-c"]
LIMIT = Promise(limit=1.5)


def measure(rounds: int, folder: Path) -> list[Figure]:
    """Fake, bare run and first sign of life in turn."""
    fakes, ends, signs = [], [], []
    _fake(folder / "warm-up")  # .pyc files are written, modules are loaded
    for number in range(rounds):
        fakes.append(_fake(folder / str(number)))
        ends.append(_to_its_end())
        signs.append(_to_its_first_byte())
    fake = _figure("the fake is ready", fakes)
    end, sign = _figure("bare, to its end", ends), _figure("bare, to its first byte", signs)
    return [
        fake,
        end,
        ratio("fake / bare to its end", fake, end, LIMIT),
        sign,
        ratio("fake / bare to first byte", fake, sign, LIMIT),
    ]


def _figure(name: str, samples: list[float]) -> Figure:
    return Figure(name=name, samples=tuple(samples), unit="ms", scale=1e3)


def _fake(where: Path) -> float:
    started = time.perf_counter()
    fake = spawn(Knobs(), where)
    elapsed = time.perf_counter() - started
    fake.close()
    return elapsed


def _to_its_end() -> float:
    started = time.perf_counter()
    subprocess.run([*BARE, "pass"], stdin=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def _to_its_first_byte() -> float:
    started = time.perf_counter()
    with subprocess.Popen(
        [*BARE, "import os; os.write(1, b'!')"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as bare:
        assert bare.stdout is not None
        bare.stdout.read(1)
        return time.perf_counter() - started
