"""Where in the user's code something happened.

A site is taken on every acquisition of a traced lock, so it has to be cheap: a flat tuple of code
objects and instruction offsets, innermost first. Line numbers are looked up only when somebody
reads them: `frame.f_lineno` walks a table on each call, `frame.f_lasti` does not. Frames are never
stored, since they would keep the locals of the user's functions alive.

Not seen: callers in C, and the lines of code that was compiled without a line table.
"""

from __future__ import annotations

import contextlib
import gc
import linecache
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TypeAlias, cast

from pytest_gracekill.legible import escape, single_line

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import CodeType

SITE_DEPTH = 3
#: Characters of a line of code that are told.
_LONGEST_LINE = 80

# code, offset, code, offset, ...: flat, since three tuples less per acquisition can be measured
Site: TypeAlias = "tuple[CodeType | int, ...]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One line of a stack."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{_shown(self.file)}:{self.line} in {self.function}"


# how the frames of a source file are taken
THEIRS, SKIPPED, BOUNDARY = 0, 1, 2


class _Files(dict[str, int]):
    """What each source file is; each is looked at once, later look-ups stay in C."""

    def __init__(self, skipped: tuple[str, ...], boundary: tuple[str, ...]) -> None:
        super().__init__()
        self._skipped = skipped
        self._boundary = boundary

    def __missing__(self, file: str) -> int:
        if file.startswith(self._boundary):
            self[file] = BOUNDARY
        else:
            self[file] = SKIPPED if file.startswith(self._skipped) else THEIRS
        return self[file]


_WITNESS = Path(__file__).parent
_PACKAGE = _WITNESS.parent
_OUR_FOLDER = f"{_PACKAGE}{os.sep}"
_EXPLORE = _PACKAGE / "explore"
_TRACING = (
    str(_EXPLORE),
    *(
        str(_WITNESS / name)
        for name in (
            "class_order.py",
            "conditions.py",
            "dead_end.py",
            "locks.py",
            "traced_lock.py",
            "wait_graph.py",
            "lock_order.py",
            "sites.py",
        )
    ),
)
# where the user's code was called from: what is outside of it is how a trial is run, and pytest
_CALLERS = (
    str(_WITNESS / "contenders.py"),
    str(_PACKAGE / "lab.py"),
    str(_PACKAGE / "participants.py"),
    str(_PACKAGE / "calls.py"),
    str(_PACKAGE / "routine" / "session.py"),
    str(_PACKAGE / "driving.py"),
    str(_WITNESS / "event_loop.py"),
    str(_PACKAGE / "routine" / "adapt.py"),
    str(_EXPLORE / "workers.py"),
    str(_EXPLORE / "stage.py"),
    str(_EXPLORE / "threads_scenario.py"),
)
_STDLIB = str(Path(os.__file__).parent) + os.sep
_WATCHING = tuple(
    f"gracekill:{role}-" for role in ("watchdog", "exit", "start", "pulse", "terminal")
)
# two threads that switch the collector off and on must not take turns
_collector = threading.RLock()
# a routine's thread that is held for an act is in the last of these
_PLUMBING = (contextlib.__file__, threading.__file__, str(_PACKAGE / "choreography.py"))
# what stands between a user's line and the lock: this package's witness, the model whose methods
# take the locks for the user, and the two stdlib modules through which a lock is often taken
_MODEL = tuple(str(_PACKAGE / "routine" / name) for name in ("model.py", "domain.py"))
_files = _Files((str(_WITNESS), str(_EXPLORE), *_MODEL, *_PLUMBING), boundary=_CALLERS)
# for a thread that runs nothing but our own code: a contender in the model
_ours = _Files((*_TRACING, *_PLUMBING), boundary=_CALLERS)


def inside_package(file: str) -> bool:
    """Tell whether a source file is ours (or stdlib plumbing) rather than the user's."""
    return _files[file] != THEIRS


def calling_site() -> Site:
    """Take the site of the caller's caller: its innermost frames outside of this package.

    A thread that runs nothing but our own code (a contender) gets its innermost frames outside
    of the tracing itself. Empty where the harness itself has called.
    """
    start = sys._getframe(2)  # noqa: SLF001 (documented; inspect.stack costs milliseconds)
    frame: FrameType | None = start
    files = _files
    site: Site = ()
    left = SITE_DEPTH
    while frame is not None:
        code = frame.f_code
        kind = files[code.co_filename]
        if kind == THEIRS:
            site += (code, frame.f_lasti)
            left -= 1
            if not left:
                return site
        elif kind == BOUNDARY:
            break
        frame = frame.f_back
    return site or _own_site(start)


def _own_site(start: FrameType | None) -> Site:
    site: Site = ()
    for frame in _within(start, _ours):
        if len(site) == 2 * SITE_DEPTH:
            break
        site += (frame.f_code, frame.f_lasti)
    return site


def _within(start: FrameType | None, files: _Files) -> Iterator[FrameType]:
    """The frames that count, from the innermost to where the harness had called."""
    frame = start
    while frame is not None:
        kind = files[frame.f_code.co_filename]
        if kind == BOUNDARY:
            return
        if kind == THEIRS:
            yield frame
        frame = frame.f_back


def frames_in_call(innermost: FrameType) -> Iterator[FrameType]:
    """The user's frames of a thread, innermost first, as `current_stack` takes them."""
    return _within(innermost, _files)


def frame_at(frame: FrameType) -> Frame:
    """Where a frame is now."""
    return _frame(frame.f_code, frame.f_lasti)


def frames_of(site: Site, known: dict[tuple[int, int], Frame] | None = None) -> tuple[Frame, ...]:
    """Look up files, lines and functions of a site, innermost first.

    :param known: what has been looked up already, for whoever reads many sites that stay alive.
    """
    known = {} if known is None else known
    frames = []
    for index in range(0, len(site), 2):
        code, offset = cast("CodeType", site[index]), cast("int", site[index + 1])
        # by identity, since the hash of a code object is that of all its contents
        key = id(code), offset
        if key not in known:
            known[key] = _frame(code, offset)
        frames.append(known[key])
    return tuple(frames)


def current_stack(ident: int) -> tuple[Frame, ...]:
    """Look at what a thread is executing now, innermost first; empty when it has ended.

    Frames of this package are left out when there is anything else to show, and so is everything
    outside of the call that the harness made.
    """
    start = frame_of(ident)
    frames = list(_within(start, _files)) or list(_within(start, _ours))
    return tuple(_frame(frame.f_code, frame.f_lasti) for frame in frames)


def awaited_in(coroutine: object) -> tuple[Frame, ...]:
    """Look at where a suspended coroutine stands, innermost first; empty when it does not."""
    frames: list[FrameType] = []
    while isinstance(frame := getattr(coroutine, "cr_frame", None), FrameType):
        if _files[frame.f_code.co_filename] == THEIRS:
            frames.append(frame)
        coroutine = getattr(coroutine, "cr_await", None)
    return tuple(_frame(frame.f_code, frame.f_lasti) for frame in reversed(frames))


def frame_of(ident: int) -> FrameType | None:
    """What a thread is executing now; None when it has ended. Don't keep it."""
    if ident == threading.get_ident():
        return sys._getframe(2)  # noqa: SLF001 (as above): whoever has asked for the stack
    return frames_by_thread().get(ident)


def frames_of_traceback(error: BaseException) -> tuple[Frame, ...]:
    """Where an exception has come from, innermost first, without our own frames."""
    frames: list[Frame] = []
    traceback = error.__traceback__
    while traceback is not None:
        code = traceback.tb_frame.f_code
        if _files[code.co_filename] == THEIRS:
            frames.append(_frame(code, traceback.tb_lasti))
        traceback = traceback.tb_next
    return tuple(reversed(frames))


def raised_in(error: BaseException) -> Frame | None:
    """Where an exception has come from, in the innermost code that is no installed package's."""
    frames = [f for f in frames_of_traceback(error) if not f.file.startswith(_OUR_FOLDER)]
    own = [frame for frame in frames if not _is_installed(frame.file)]
    return next(iter(own or frames), None)


def line_of(error: BaseException) -> str:
    """Where an exception has come from, with that line of code, as "at FILE:LINE in F: `CODE`".

    Empty where there is no traceback.
    """
    frame = raised_in(error)
    if frame is None:
        return ""
    code = single_line(escape(linecache.getline(frame.file, frame.line)), _LONGEST_LINE)
    return f" at {frame}{f': `{code}`' if code else ''}"


def _is_installed(file: str) -> bool:
    return file.startswith(_STDLIB) or bool(
        {"site-packages", "dist-packages"} & {*Path(file).parts}
    )


def stacks_beside(actors: Collection[str]) -> tuple[tuple[str, tuple[Frame, ...]], ...]:
    """Where every other thread stands, by its name; without ours that only watch.

    :param actors: names of threads that are told of elsewhere.
    """
    return tuple(
        (thread.name, stack)
        for thread in threading.enumerate()
        if thread.ident is not None
        and thread.name not in actors
        and not thread.name.startswith(_WATCHING)
        and (stack := current_stack(thread.ident))
    )


def frames_by_thread() -> dict[int, FrameType]:
    """What each thread is executing now, by its identity. Don't keep it."""
    # before CPython 3.12.3 (gh-106883) a garbage collection that begins within _current_frames()
    # can stop the whole process for ever: it holds the lock that a thread needs to end
    with _collector:
        collecting = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames()  # noqa: SLF001 (documented for exactly this)
        finally:
            if collecting:
                gc.enable()


def _shown(file: str) -> str:
    """A path as people look for it: from the package's own folder, or from where they are.

    In this order: an environment may be in their folder, and has the Python's version in its paths.
    """
    for root in (_PACKAGE.parent, Path.cwd()):
        if file.startswith(f"{root}{os.sep}"):
            return file[len(str(root)) + 1 :]
    return file


def _frame(code: CodeType, offset: int) -> Frame:
    line = code.co_firstlineno
    for start, end, found in code.co_lines():
        if start <= offset < end and found is not None:
            line = found
            break
    function = code.co_qualname.rpartition("<locals>.")[2]
    return Frame(file=code.co_filename, line=line, function=function)
