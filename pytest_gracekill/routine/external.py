"""Commands and daemons as a routine: what starts the VM, what stops it, and the files they read.

Nothing goes through a shell that was not asked for: a command is split as a shell would split it,
and who wants a shell names one. `Command` runs them.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, cast

from pytest_gracekill.errors import UsageError
from pytest_gracekill.routine.fields import FIELDS, named_in, shown, words_of
from pytest_gracekill.routine.fields import check as check_fields

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Words that mean something to a shell only.
_OPERATORS = frozenset(("&&", "||", "|", ";", "&", ">", ">>", "<", "2>", "2>&1"))


@dataclass(frozen=True, slots=True, kw_only=True)
class External:
    """A routine that consists of commands.

    ``stop`` is judged: exit status 0 claims success. Without ``start`` the VM runs already, reaped
    by somebody else, and ``stop`` is told its ``{pid}``. ``start`` starts the VM as ``{program}``
    or ``{argv}``; it may end (it has daemonised) or stay (a daemon in the foreground). ``{dir}`` is
    a folder of the commands' own; ``files`` are written into it before that, name to text; one that
    begins with ``#!`` can be run. Filled in: ``{pid}``, ``{argv}``, ``{program}``, ``{dir}``,
    ``{pid_file}``, ``{qmp}``; ``{{pid}}`` is ``{pid}``, and other braces stay as they are. A
    command is a string, split as a shell would (without a shell), or a list of words.
    """

    if TYPE_CHECKING:
        stop: str | Sequence[str]
    else:
        # without it, check() raises the error that it does for an empty one
        stop: str | Sequence[str] = ""
    start: str | Sequence[str] | None = None
    files: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"External({shown(self.stop)!r})"

    def check(self, source: str) -> None:
        """See whether it can be run, before anything is started.

        :raises UsageError: names the command or file, what is wrong with it, and what is right.
        """
        everywhere = ("dir", "pid_file", "qmp")
        here = (*everywhere, *(("pid",) if self.start is None else ("argv", "program")))
        then = tuple(FIELDS) if self.start is not None else here
        if not hasattr(self.files, "items"):
            raise UsageError(
                f"files={self.files!r}: a dict, name to text, is needed", source=source
            )
        self._check_command("stop", self.stop, then, source)
        if self.start is not None:
            self._check_command("start", self.start, here, source)
            self._names_the_fake(source)
        # what it says is not sure yet
        for name, text in cast("Mapping[object, object]", self.files).items():
            if not isinstance(name, str) or not _is_within(PurePath(name)):
                raise UsageError(
                    f"files[{name!r}]: a name below {{dir}} is needed, such as 'etc/vm.conf'",
                    source=source,
                )
            if not isinstance(text, str):
                raise UsageError(f"files[{name!r}]={text!r}: a text is needed", source=source)
            check_fields(f"files[{name!r}]", text, here, source)
        if self.start is None and not named_in(self.stop) and not self.files:
            raise UsageError(
                f"stop={shown(self.stop)!r}: it names nothing of the VM; {{pid}} is what it stops",
                source=source,
            )

    def _check_command(self, name: str, command: object, known: Sequence[str], source: str) -> None:
        try:
            words = words_of(command)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"{name}={command!r}: a command is needed, as a string or a list of words"
                f" ({error})",
                source=source,
            ) from None
        operator = next((word for word in words if word in _OPERATORS), None)
        if isinstance(command, str) and operator is not None:
            raise UsageError(
                f"{name}={command!r}: there is no shell that would know {operator!r}; name one, as"
                " in sh -c 'kill {pid} && sleep 1'",
                source=source,
            )
        for word in words:
            check_fields(name, word, known, source)
        if named_in(words[0]):
            return  # not known yet
        if shutil.which(words[0]) is None:
            there = "/" in words[0] and Path(words[0]).exists()
            wrong = (
                f"{words[0]!r} is no file that may be executed; chmod +x, or the program that reads"
                " it as the first word"
                if there
                else f"there is no command {words[0]!r}; its path, or a name on PATH"
            )
            raise UsageError(f"{name}={shown(command)!r}: {wrong}, is needed", source=source)

    def _names_the_fake(self, source: str) -> None:
        assert self.start is not None
        texts = [*words_of(self.start), *(str(text) for text in self.files.values())]
        if not any({"argv", "program"} & named_in(text) for text in texts):
            raise UsageError(
                f"start={shown(self.start)!r}: neither it nor a file has {{program}} or {{argv}},"
                " so that it cannot start the fake",
                source=source,
            )

    @property
    def wants_qmp(self) -> bool:
        """Whether ``{qmp}`` is filled in anywhere."""
        commands = (self.stop, self.start or ())
        words = [word for command in commands if command for word in words_of(command)]
        return any("qmp" in named_in(text) for text in (*words, *self.files.values()))


def _is_within(path: PurePath) -> bool:
    """Whether this names a file within a folder."""
    apart = path.is_absolute() or ".." in path.parts or "\0" in str(path)
    return bool(path.parts) and not apart
