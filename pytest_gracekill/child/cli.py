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

from . import holder, programfile, space, wording
from .disk import Disk, create
from .journal import Journal
from .knobs import MEANINGS, Knobs
from .limits import TRAITS, WORDS
from .program import blockformat, command_line, probe
from .program.chardev import Unusable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

_SOMEBODY_ELSES = ("reaped", "zombie", "daemon")
_EXAMPLES = """\
examples:
  fake-qemu --disk vm.img --journal vm.journal --pidfile vm.pid --flush-time 2
  fake-qemu --disk vm.img --journal vm.journal --on-term crash:at=40,signal=9
  fake-qemu --disk vm.img --journal vm.journal -- -qmp stdio -no-shutdown
  fake-qemu audit --disk vm.img --journal vm.journal
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; it returns only what is not a fake."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["audit"]:
        return _audit(given[1:])
    given, qemus = _parted(given)
    parser = _parser()
    options = vars(parser.parse_args(given))
    try:
        knobs = _knobs(options)
        text = _answer(qemus, knobs)
        if text is not None:
            sys.stdout.write(text)
            return 0
        _become(knobs, options, qemus)
    except UsageError as error:
        parser.error(str(error))


def _parted(given: list[str]) -> tuple[list[str], list[str]]:
    """Split into our own options and QEMU's, which come after `--`."""
    end = given.index("--") if "--" in given else len(given)
    return given[:end], given[end + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fake-qemu",
        usage="%(prog)s --disk FILE --journal FILE [OPTION ...] [-- QEMU-OPTION ...]",
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
    files.add_argument("--qmp", metavar="SOCKET", help="where QMP listens (default: none)")
    knobs = parser.add_argument_group("knobs")
    for field in dataclasses.fields(Knobs):
        if field.name == "qmp":
            continue
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
    parser.add_argument_group(
        "QEMU's options",
        "after --: -qmp, -chardev and -mon, -pidfile, -daemonize, -S, -no-shutdown, -no-reboot, "
        "-version and -help are honoured, the others ignored",
    )
    return parser


def _knobs(options: dict[str, object]) -> Knobs:
    values: dict[str, object] = {"qmp": options["qmp"] is not None}
    sources = {"qmp": "--qmp"}
    for field in dataclasses.fields(Knobs):
        text = options[field.name]
        if isinstance(text, str) and field.name != "qmp":
            values[field.name] = wording.read(field.name, text)
            sources[field.name] = "--" + field.name.replace("_", "-")
    return Knobs.from_values(values, sources)


def _become(knobs: Knobs, options: dict[str, object], qemus: list[str]) -> NoReturn:
    if not hasattr(os, "pidfd_open"):
        raise UsageError("the fake needs Linux", source="the platform")
    lifetime = _lifetime(str(options["lifetime"]))
    image, journal, pid_file = options["disk"], options["journal"], options["pidfile"]
    qmp = options["qmp"]
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
        qmp=Path(qmp) if isinstance(qmp, str) else None,
    )
    holder.start(directory, lifetime, while_pidfd)
    command = [*programfile.argv(program), *qemus]
    os.execv(command[0], command)  # noqa: S606  # this process is to be the fake


def _answer(qemus: list[str], knobs: Knobs) -> str | None:
    """Return what is to be printed when QEMU is only asked a question; check its options."""
    source = "the options after --"
    try:
        text = probe.answer(qemus)
        asked = command_line.understand(qemus) if text is None else None
    except Unusable as refused:
        raise UsageError(str(refused), source=source) from None
    if asked is not None and asked.daemonize and knobs.topology in _SOMEBODY_ELSES:
        raise UsageError(
            f"-daemonize with topology {knobs.topology}: the VM is somebody else's child already",
            source=source,
        )
    return text


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
        space.create_journal(journal, blocks=knobs.blocks)
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
