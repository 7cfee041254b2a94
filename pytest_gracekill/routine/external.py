"""Commands and daemons as a routine: what starts the VM, what stops it, and the files they read.

Nothing goes through a shell that was not asked for: a command is split as a shell would split it,
and who wants a shell names one. Signals of other processes are not seen here; the VM's journal has
those that reach it.
"""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, TypeAlias

from pytest_gracekill.errors import StartError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_gracekill.child.handle import FakeQemu
    from pytest_gracekill.child.unstarted import Unstarted
    from pytest_gracekill.child.warden import Guarded

Values: TypeAlias = "dict[str, str | list[str]]"

#: What can be filled in; the second text says when it is not there.
FIELDS = {
    "pid": "the VM's pid",
    "argv": "the command that runs the fake",
    "program": "an executable that runs the fake",
    "dir": "the folder of this fake, where the files are",
    "qmp": "the path of the fake's QMP socket",
}

#: ``{{`` and ``}}`` are braces; other braces around anything but a name are left alone.
_FIELD = re.compile(r"\{\{|\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}")

#: What the fake itself has in its folder.
_OWN = frozenset(("disk", "journal", "mark", "pid", "qemu-system-x86_64", "qmp", "ready", "stderr"))

_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """A routine that consists of commands.

    ``stop`` is judged: exit status 0 claims success. Without ``start`` the VM runs already, reaped
    by somebody else, and ``stop`` is told its ``{pid}``. ``start`` starts the VM as ``{program}``
    or ``{argv}``; it may end (it has daemonised) or stay (a daemon in the foreground). ``files``
    are written into ``{dir}`` before that, name to text. Filled in: ``{pid}``, ``{argv}``,
    ``{program}``, ``{dir}``, ``{qmp}``; ``{{`` is a brace. A command is a string, split as a shell
    would (without a shell), or a list of words.
    """

    stop: str | Sequence[str]
    start: str | Sequence[str] | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"External({_shown(self.stop)!r})"

    def check(self, source: str) -> None:
        """See whether it can be run, before anything is started.

        :raises UsageError: names the command or file, what is wrong with it, and what is right.
        """
        here = (
            ("dir", "qmp", "argv", "program") if self.start is not None else ("dir", "qmp", "pid")
        )
        then = tuple(FIELDS) if self.start is not None else here
        self._check_command("stop", self.stop, then, source)
        if self.start is not None:
            self._check_command("start", self.start, here, source)
            self._names_the_fake(source)
        if not hasattr(self.files, "items"):
            raise UsageError(
                f"files={self.files!r}: a dict, name to text, is needed", source=source
            )
        for name, text in self.files.items():
            path = PurePath(str(name))
            if path.is_absolute() or ".." in path.parts or not path.parts or path.parts[0] in _OWN:
                raise UsageError(
                    f"files[{name!r}]: a relative name below the fake's folder is needed, other"
                    f" than the fake's own: {', '.join(sorted(_OWN))}",
                    source=source,
                )
            if not isinstance(text, str):
                raise UsageError(f"files[{name!r}]={text!r}: a text is needed", source=source)
            _check_fields(f"files[{name!r}]", text, here, source)
        if self.start is None and not self._fields(self.stop) and not self.files:
            raise UsageError(
                f"stop={_shown(self.stop)!r}: it names nothing of the VM; {{pid}} is what it stops",
                source=source,
            )

    def _check_command(self, name: str, command: object, known: Sequence[str], source: str) -> None:
        try:
            words = _words(command)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"{name}={command!r}: a command is needed, as a string or a list of words"
                f" ({error})",
                source=source,
            ) from None
        for word in words:
            _check_fields(name, word, known, source)
        if self._fields(words[0]):
            return  # not known yet
        if shutil.which(words[0]) is None:
            raise UsageError(
                f"{name}={_shown(command)!r}: there is no command {words[0]!r} to be run; its path,"
                " or a name on PATH, is needed",
                source=source,
            )

    def _names_the_fake(self, source: str) -> None:
        assert self.start is not None
        texts = [*_words(self.start), *(str(text) for text in self.files.values())]
        if not any({"argv", "program"} & self._fields(text) for text in texts):
            raise UsageError(
                f"start={_shown(self.start)!r}: neither it nor a file has {{program}} or {{argv}},"
                " so that it cannot start the fake",
                source=source,
            )

    @property
    def wants_qmp(self) -> bool:
        """Whether ``{qmp}`` is filled in anywhere."""
        commands = (self.stop, self.start or ())
        words = [word for command in commands if command for word in _words(command)]
        return any("qmp" in self._fields(text) for text in (*words, *self.files.values()))

    @staticmethod
    def _fields(text: str | Sequence[str]) -> set[str]:
        words = [text] if isinstance(text, str) else text
        return {found[1] for word in words for found in _FIELD.finditer(word) if found[1]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a stop command ended: its status, negative for a signal, and the end of its output."""

    returncode: int
    output: str

    def __str__(self) -> str:
        return f"exit {self.returncode}{': ' if self.output else ''}{self.output}"

    @property
    def ok(self) -> bool:
        """Whether the command claims success."""
        return self.returncode == 0


class Command:
    """An `External` in use; ``unstarted`` is the fake that its ``start`` is to start."""

    def __init__(self, external: External, unstarted: Unstarted | None) -> None:
        self._external = external
        self._unstarted = unstarted
        self._values: Values = {}
        self._directory = Path()
        self._started: Guarded | None = None
        self._stops: list[Guarded] = []

    def begin(self, vm: FakeQemu | None) -> None:
        """Write the files, and start what starts the VM; it may not be ready yet."""
        child = None if self._unstarted is None else self._unstarted.child
        if child is not None:
            self._directory = child.dir
            self._values = {"argv": child.argv, "program": child.program}
            qmp = child.qmp
        else:
            assert vm is not None
            self._directory = vm.dir
            self._values = {"pid": str(vm.started_pid)}
            qmp = vm.qmp
        self._values["dir"] = str(self._directory)
        if qmp is not None:
            self._values["qmp"] = qmp
        for name, text in self._external.files.items():
            path = self._directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_filled(text, self._values), encoding="utf-8")
        if self._external.start is not None:
            self._started = self._run(self._external.start, "start")

    def failed_start(self) -> StartError | None:
        """What a start command says that has ended with another status than 0."""
        started = self._started
        if started is None or not started.ended or not started.code:
            return None
        return StartError(
            f"start={_shown(self._external.start)!r} ended with status {started.code}:"
            f" {started.tail() or 'it printed nothing'}"
        )

    def stop(self) -> Ended:
        """Run the stop command to its end."""
        if self._unstarted is not None:
            self._values["pid"] = str(self._unstarted.child.pid)
        running = self._run(self._external.stop, f"stop-{len(self._stops) + 1}")
        self._stops.append(running)
        code = running.wait(_HOUR)  # the trial's watchdog is sooner
        return Ended(returncode=code, output=running.tail())

    def free(self) -> None:
        """End what a stop command does, at once; from any thread."""
        for running in self._stops:
            running.strike()

    def end(self) -> None:
        """End everything that the commands have left."""
        for running in (*self._stops, *([] if self._started is None else [self._started])):
            running.end()

    def _run(self, command: str | Sequence[str], name: str) -> Guarded:
        from pytest_gracekill.child.warden import Guarded  # noqa: PLC0415 - only for those who run

        words: list[str] = []
        for word in _words(command):
            value = self._values.get(word.strip("{}")) if word == "{argv}" else None
            words += value if isinstance(value, list) else [_filled(word, self._values)]
        return Guarded(words, self._directory, name)


def _words(command: object) -> list[str]:
    if isinstance(command, str):
        words = shlex.split(command)
    elif isinstance(command, list | tuple) and all(isinstance(word, str) for word in command):
        words = list(command)
    else:
        raise TypeError("it is neither")
    if not words:
        raise ValueError("it is empty")
    return words


def _shown(command: object) -> str:
    return command if isinstance(command, str) else shlex.join(map(str, _words(command)))


def _check_fields(where: str, text: str, known: Sequence[str], source: str) -> None:
    for found in _FIELD.finditer(text):
        name = found[1]
        if name is None or name in known:
            continue
        there = ", ".join(f"{{{field}}}" for field in known)
        why = f"{{{name}}} is not known there" if name in FIELDS else f"there is no {{{name}}}"
        raise UsageError(
            f"{where}={text!r}: {why}; filled in are {there} ({{{{ is a brace)", source=source
        )


def _filled(text: str, values: Values) -> str:
    def value(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0][0]
        filled = values[found[1]]
        return shlex.join(filled) if isinstance(filled, list) else filled

    return _FIELD.sub(value, text)
