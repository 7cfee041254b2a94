"""A block is put back into the image of a killed VM, at a place that the wrong size leads to."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from pytest_gracekill import Child

CAUGHT = {"data": "PHANTOM"}
TRIAL = {"flush_time": 0.8, "survive": 0.1}

_HEADER = _BLOCK = 4096
_CLUSTER = 65536


def _put_back(image: Path, number: int, block: bytes) -> None:
    with image.open("r+b") as disk:
        disk.seek(_HEADER + number * _CLUSTER)  # FLAW wrong-place: a block has another size
        disk.write(block)


def manage(child: Child) -> Iterator[Callable[[], None]]:
    process = subprocess.Popen(child.argv)
    child.wait_ready()

    def stop() -> None:
        process.terminate()
        try:
            process.wait(0.2)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        start = _HEADER + 3 * _BLOCK
        saved = child.image.read_bytes()[start : start + _BLOCK]
        _put_back(child.image, 3, saved)

    yield stop
