"""A block is put back into the image after the stop, at a place that forgets the image's header."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from pytest_gracekill import Child

CAUGHT = {"data": "PHANTOM"}
TRIAL = {"flush_time": 0.4, "blocks": 32}

_HEADER = _BLOCK = 4096


def _put_back(image: Path, number: int, block: bytes) -> None:
    with image.open("r+b") as disk:
        disk.seek(number * _BLOCK)  # FLAW wrong-place: the header comes first
        disk.write(block)


def manage(child: Child) -> Iterator[Callable[[], None]]:
    process = subprocess.Popen(child.argv)
    child.wait_ready()

    def stop() -> None:
        process.terminate()
        process.wait(10)
        start = _HEADER + 8 * _BLOCK
        saved = child.image.read_bytes()[start : start + _BLOCK]
        _put_back(child.image, 8, saved)

    yield stop
