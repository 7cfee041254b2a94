"""The command `fake-qemu`: a fake without pytest, in the foreground, and the audit of its disk.

The command's own process becomes the fake, so that the pid that a caller got from its start is
the fake's (or, as the topology says, the process in front of it).
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gracekill.errors import UsageError

from . import holder, programfile, wording
from .disk import Disk, create
from .journal import Journal
from .knobs import MEANINGS, Knobs
from .limits import TRAITS, WORDS
from .program import blockformat

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXAMPLES = """\
examples:
  fake-qemu --disk vm.img --journal vm.journal --pidfile vm.pid --flush-time 2
  fake-qemu --disk vm.img --journal vm.journal --on-term crash:at=40,signal=9
  fake-qemu audit --disk vm.img --journal vm.journal
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; it returns only what is not a fake."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["audit"]:
        return _audit(given[1:])
    parser = _parser()
    options = vars(parser.parse_args(given))
    try:
        return _become(options)
    except UsageError as error:
        parser.error(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fake-qemu",
        description=(
            "Be a VM process that keeps acknowledged writes in memory and flushes them when it "
            "is asked to end, as QEMU does. Runs in the foreground."
        ),
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "--disk", type=Path, required=True, metavar="FILE", help="the disk; made anew"
    )
    files.add_argument(
        "--journal", type=Path, required=True, metavar="FILE", help="what happened; appended to"
    )
    files.add_argument("--pidfile", type=Path, metavar="FILE", help="where the VM's true pid goes")
    life = parser.add_argument_group("lifetime")
    life.add_argument(
        "--lifetime",
        default="600",
        metavar="SECONDS",
        help="after so long everything of the fake is SIGKILLed (default: 600)",
    )
    life.add_argument(
        "--while", metavar="PID", help="SIGKILL everything of the fake when this process has ended"
    )
    knobs = parser.add_argument_group("knobs")
    for field in dataclasses.fields(Knobs):
        shown = "none" if field.name == "helper" else field.default
        words = TRAITS if field.name == "helper" else WORDS.get(field.name, ())
        knobs.add_argument(
            "--" + field.name.replace("_", "-"),
            metavar="WORD" if words else "TRUE|FALSE" if isinstance(shown, bool) else "N",
            help=f"{MEANINGS[field.name]} (default: {shown})",
        )
    parser.add_argument_group(
        "words with numbers",
        "--on-term crash:at=BLOCK,exit=N  crash:at=BLOCK,signal=N  stop:at=BLOCK; "
        "--flush-profile stall:at=BLOCK,seconds=N",
    )
    return parser


def _become(options: dict[str, object]) -> int:
    if not hasattr(os, "pidfd_open"):
        raise UsageError("the fake needs Linux", source="the platform")
    values, sources = {}, {}
    for field in dataclasses.fields(Knobs):
        text = options[field.name]
        if isinstance(text, str):
            values[field.name] = wording.read(field.name, text)
            sources[field.name] = "--" + field.name.replace("_", "-")
    knobs = Knobs.from_values(values, sources)
    lifetime = _lifetime(str(options["lifetime"]))
    image, journal, pid_file = options["disk"], options["journal"], options["pidfile"]
    assert isinstance(image, Path)
    assert isinstance(journal, Path)
    while_pidfd = _while(options["while"])
    _make_disk(image, journal, knobs)
    directory = Path(tempfile.mkdtemp(prefix="fake-qemu-"))
    os.mkfifo(directory / "ready", 0o600)
    program = directory / programfile.NAME
    programfile.write(
        program,
        knobs,
        mark=directory / "mark",
        ready=directory / "ready",
        journal=journal,
        disk=image,
        pid_file=pid_file if isinstance(pid_file, Path) else directory / "pid",
    )
    holder.start(directory, lifetime, while_pidfd)
    command = programfile.argv(program)
    os.execv(command[0], command)  # noqa: S606  # this process is to be the fake


def _lifetime(text: str) -> float:
    longest = 1e6
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= longest:
        raise UsageError(
            f"lifetime {text}: it has to be seconds, more than 0 and at most {longest:.0f}",
            source="--lifetime",
        )
    return seconds


def _while(text: object) -> int:
    """Return a pidfd of the process that has to live, or -1."""
    if text is None:
        return -1
    try:
        return os.pidfd_open(int(str(text)))
    except (ValueError, OSError, OverflowError) as error:
        raise UsageError(f"{text} is not the pid of a process", source="--while") from error


def _make_disk(image: Path, journal: Path, knobs: Knobs) -> None:
    """Make the disk anew; a file that is not a fake's disk is not ours to overwrite."""
    try:
        with image.open("rb") as file:
            ours = file.read(len(blockformat.MAGIC)) in (b"", blockformat.MAGIC)
    except FileNotFoundError:
        ours = True
    except OSError as error:
        raise UsageError(f"{image}: {error.strerror}", source="--disk") from error
    if not ours:
        raise UsageError(
            f"{image} is not a fake's disk: name a new file, or remove this one", source="--disk"
        )
    if Disk(image, Journal(journal)).locked():
        raise UsageError(f"{image} is in use: another process has it locked", source="--disk")
    try:
        journal.open("ab").close()
        create(image, blocks=knobs.blocks, block_size=knobs.block_size, seed=knobs.seed)
    except OSError as error:
        raise UsageError(
            f"{error.filename}: {error.strerror}", source="--disk or --journal"
        ) from error


def _audit(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="fake-qemu audit",
        description="Print in one line what is missing of the writes that a fake acknowledged.",
        epilog="Exits 0 when everything is there, 1 when not.",
        allow_abbrev=False,
    )
    parser.add_argument("--disk", type=Path, required=True, metavar="FILE")
    parser.add_argument("--journal", type=Path, required=True, metavar="FILE")
    options = parser.parse_args(arguments)
    audit = Disk(options.disk, Journal(options.journal)).audit()
    sys.stdout.write(f"{audit}\n")
    return 0 if audit.ok else 1


if __name__ == "__main__":
    sys.exit(main())
