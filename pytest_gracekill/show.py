"""``python -m pytest_gracekill show``: saved evidence is drawn again, or two runs are compared."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gracekill.counted import counted
from pytest_gracekill.errors import UsageError
from pytest_gracekill.render import comparison, folder, index
from pytest_gracekill.render.terminal import terminal
from pytest_gracekill.render.terminal.ink import Ink, ink_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PAGE = "comparison.html"
#: What a usage error of a command exits with, as argparse has it.
_WRONG = 2
_ABOUT = """\
Draws saved evidence again: timeline.html, timeline.svg, trace.json, and the timeline here. DIR is
the folder of one trial, or one over many, as --gracekill-save has written it. With a second folder
the two runs are compared on one time scale: before and after a fix."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m pytest_gracekill", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="show")
    show = commands.add_parser(
        "show",
        help="draw saved evidence again, or compare two runs",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    show.add_argument("before", metavar="DIR", type=Path, help="saved evidence")
    show.add_argument("after", metavar="DIR2", type=Path, nargs="?", help="that of another run")
    show.add_argument(
        "--output",
        metavar="FOLDER",
        type=Path,
        help="where the pictures go; default: to the evidence (of two, to the second)",
    )
    asked = parser.parse_args(arguments)
    ink = ink_for(sys.stdout.encoding)
    try:
        told = (
            _drawn(asked.before, asked.output, ink)
            if asked.after is None
            else _compared(asked.before, asked.after, asked.output, ink)
        )
        for line in told:
            sys.stdout.write(f"{line}\n")
    except UsageError as error:
        sys.stderr.write(f"gracekill: {error.what}\n")
        return _WRONG
    except BrokenPipeError:
        # whoever has read it has seen enough; what is left in the buffer is nobody's
        sys.stdout = None
    return 0


def _drawn(root: Path, output: Path | None, ink: Ink) -> Iterator[str]:
    """Draw the evidence of one trial again, or of all below a folder."""
    found = [root]
    if root.is_dir() and not (root / folder.HISTORY).exists():
        found = _below(root) or [root]
    # all of it is read before anything is written
    evidence = [(path, folder.load(path)) for path in found]
    for path, saved in evidence:
        to = path if output is None else output / path.relative_to(root)
        with _writing(to):
            picture = folder.draw(to, saved)
        yield ink.words(picture.headline)
        if len(evidence) == 1:
            yield terminal(picture, ink)
        yield f"drawn: {to / folder.PAGE}"
    if len(evidence) > 1 and output is None:
        with _writing(root):
            yield f"drawn: {index.write(root)}"


def _below(root: Path) -> list[Path]:
    """The folders below one that have evidence."""
    try:
        return sorted(path.parent for path in root.rglob(folder.HISTORY))
    except OSError as error:
        raise UsageError(f"{root} cannot be read: {error}") from error


def _compared(before: Path, after: Path, output: Path | None, ink: Ink) -> Iterator[str]:
    names = (str(before), str(after))
    _check_single(before, after)
    both = comparison.compare(folder.load(before), folder.load(after), names)
    to = after if output is None else output
    with _writing(to):
        (to / PAGE).write_text(comparison.page(both), encoding="utf-8")
    yield from comparison.lines(both, ink)
    yield f"drawn: {to / PAGE}"


def _check_single(before: Path, after: Path) -> None:
    """Check that each of two folders is of one trial.

    :raises UsageError: one is over many, or has none; the text has what can be compared.
    """
    many: dict[Path, list[Path]] = {}
    for root in (before, after):
        alone = (root / folder.HISTORY).is_file()
        found = [root] if alone else _below(root) if root.is_dir() else []
        many[root] = [path.relative_to(root) for path in found]
        if not many[root]:
            what = "is no folder" if not root.is_dir() else f"has no {folder.HISTORY}"
            raise UsageError(
                f"{root} {what}: no evidence of a trial was saved there; of a run in which all"
                " went well there is some with --gracekill-save=DIR=all"
            )
    if all(trials == [Path()] for trials in many.values()):
        return
    shared = [trial for trial in many[before] if trial in many[after]]
    pair = (shared[0], shared[0]) if shared else (many[before][0], many[after][0])
    command = f"show {before / pair[0]} {after / pair[1]}"
    over = next(root for root in (before, after) if many[root] != [Path()])
    raise UsageError(
        f"{over} is a folder over {counted(len(many[over]), 'trial')};"
        f" two trials are compared, so name one of each: {command}"
    )


class _writing:  # noqa: N801 - a context manager
    """Have a folder to write to; a usage error says why it cannot be written to."""

    def __init__(self, to: Path) -> None:
        self._to = to

    def __enter__(self) -> None:
        try:
            self._to.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._wrong(error) from error

    def __exit__(self, _kind: object, error: object, _traceback: object) -> None:
        if isinstance(error, OSError):
            raise self._wrong(error) from error

    def _wrong(self, error: OSError) -> UsageError:
        return UsageError(f"{self._to} cannot be written to: {error}; name another by --output")
