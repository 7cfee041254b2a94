"""Where a value comes from: call > marker > command line > ``GRACEKILL_*`` > ini > default.

Every value carries its source, so that an error can name it. Nothing here imports pytest, and
nothing heavy: the plugin reads this at pytest's start.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TYPE_CHECKING

from pytest_gracekill.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A value and where it came from."""

    value: object
    source: str

    def __str__(self) -> str:
        return f"{self.value} (from {self.source})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting that can come from the command line, the environment and the ini file.

    ``parse`` makes a value of the text, ``check`` says what is wrong with a value (or None).
    ``switches`` are the options of a setting that has no ``--gracekill-NAME VALUE``: each stands
    for one value.
    """

    name: str
    default: object
    metavar: str
    help: str
    parse: Callable[[str], object]
    check: Callable[[object], str | None]
    switches: Mapping[str, object] = field(default_factory=dict)

    @property
    def option(self) -> str:
        return f"--gracekill-{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        return f"GRACEKILL_{self.name.upper()}"

    @property
    def ini(self) -> str:
        return f"gracekill_{self.name}"


def is_seconds(value: object) -> bool:
    """A time in seconds: a finite number, 0 or more; bools are no numbers here."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value >= 0
    )


def _seconds(value: object) -> str | None:
    return None if is_seconds(value) else "a time in seconds is needed: a finite number, 0 or more"


def _positive_seconds(value: object) -> str | None:
    if is_seconds(value) and value != 0:
        return None
    return "a time in seconds is needed: a finite number above 0"


def _optional(check: Callable[[object], str | None]) -> Callable[[object], str | None]:
    return lambda value: None if value is None else check(value)


#: The kinds of contenders, in the order in which a number of them is spread.
KINDS = ("other", "same", "list", "define", "eof")


def _contenders(value: object) -> str | None:
    right = f"a number, 0 or more, or kinds out of {', '.join(KINDS)}"
    if isinstance(value, bool):
        return right
    if isinstance(value, int):
        return None if 0 <= value <= 1000 else right  # noqa: PLR2004 - threads, not a load test
    kinds = (value,) if isinstance(value, str) else value
    if not isinstance(kinds, tuple | list) or not all(kind in KINDS for kind in kinds):
        return right
    return None


_TRUTH = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def _truth(value: object) -> str | None:
    return None if isinstance(value, bool) else "True or False is needed"


def _name(value: object) -> str | None:
    if isinstance(value, str) and re.fullmatch(r"[\w.]+:[\w.]+", value):
        return None
    return "module:name is needed, as in vmtool.process:destroy"


def _command(value: object) -> str | None:
    return None if isinstance(value, str) and value.strip() else "a command is needed"


def _scope(value: object) -> str | None:
    return None if value in ("trial", "session") else "'trial' or 'session' is needed"


def _parse_contenders(text: str) -> object:
    text = text.strip()
    if text.lstrip("-").isdigit():
        return int(text)
    return tuple(kind.strip() for kind in text.split(",") if kind.strip())


#: Where evidence goes when only "all" was said.
EVIDENCE = "gracekill-evidence"


def _token(value: object) -> str | None:
    if isinstance(value, str) and re.fullmatch(r"\d+\.\d+[je]\.[0-9a-f]{8}\.[\dt_-]*", value):
        return None
    return "a token is needed, as it is printed with a failure: 1.1j.9f3a22b1.3-1_7-t"


def _folder(value: object) -> str | None:
    if isinstance(value, str | os.PathLike) and os.fspath(value):
        return None
    return "a folder is needed"


def saving(value: object) -> tuple[str, bool]:
    """The folder of a value of ``save``, and whether trials that went well are saved, too."""
    folder = os.fspath(value) if isinstance(value, str | os.PathLike) else str(value)
    if folder == "all":
        return EVIDENCE, True
    every = folder.endswith("=all")
    return folder.removesuffix("=all") or EVIDENCE, every


SETTINGS = {
    setting.name: setting
    for setting in (
        Setting(
            name="routine",
            default=None,
            metavar="MODULE:NAME",
            help="the routine under test, imported with the rootdir on sys.path; default:"
            " process_kill, libvirt's of 2012",
            parse=str.strip,
            check=_optional(_name),
        ),
        Setting(
            name="stop",
            default=None,
            metavar="COMMAND",
            help="a command as the routine under test, such as 'vmtool stop {pid}'; filled in are"
            " {pid}, {dir} and {qmp}",
            parse=str,
            check=_optional(_command),
        ),
        Setting(
            name="force",
            default=None,
            metavar="BOOL",
            help="what a routine without flags promises: true, SIGKILL comes when the grace is"
            " over; false, it never comes; default: nothing",
            parse=lambda text: _TRUTH.get(text.strip().lower(), text),
            check=_optional(_truth),
            switches={"--gracekill-force": True, "--gracekill-graceful": False},
        ),
        Setting(
            name="survive",
            default=None,
            metavar="SECONDS",
            help="flush time that the routine promises to survive; default: the trial's flush_time",
            parse=float,
            check=_optional(_seconds),
        ),
        Setting(
            name="slack",
            default=0.5,
            metavar="SECONDS",
            help="how long after the VM's exit the routine may return; default 0.5",
            parse=float,
            check=_seconds,
        ),
        Setting(
            name="stall_limit",
            default=1.0,
            metavar="SECONDS",
            help="latency from which other work counts as standing still; default 1.0",
            parse=float,
            check=_positive_seconds,
        ),
        Setting(
            name="budget",
            default=None,
            metavar="SECONDS",
            help="when a call is cut off; default: grace + reap + flush time + 5",
            parse=float,
            check=_optional(_positive_seconds),
        ),
        Setting(
            name="contenders",
            default=8,
            metavar="N|KIND,KIND",
            help=f"threads that work meanwhile: a number, or kinds out of {', '.join(KINDS)};"
            " default 8",
            parse=_parse_contenders,
            check=_contenders,
        ),
        Setting(
            name="lock_order",
            default="trial",
            metavar="trial|session",
            help="how long the order in which locks were taken is remembered: session, a cycle of"
            " classes of locks is found in the trial that closes it; default trial",
            parse=str.strip,
            check=_scope,
        ),
        Setting(
            name="require_qemu",
            default=False,
            metavar="BOOL",
            help="a test of real_qemu fails where QEMU is not installed, rather than being skipped",
            parse=lambda text: _TRUTH.get(text.strip().lower(), text),
            check=_truth,
            switches={"--gracekill-require-qemu": True},
        ),
        Setting(
            name="replay",
            default=None,
            metavar="TOKEN",
            help="run only the schedule of this token where a test explores: it is printed with the"
            " failure",
            parse=str.strip,
            check=_optional(_token),
        ),
        Setting(
            name="timeline",
            default=False,
            metavar="BOOL",
            help="a failing trial is drawn as a timeline in the text of its failure, in 20 lines;"
            " so it is with -v",
            parse=lambda text: _TRUTH.get(text.strip().lower(), text),
            check=_truth,
            switches={"--gracekill-timeline": True},
        ),
        Setting(
            name="save",
            default=None,
            metavar="DIR[=all]",
            help="every failing trial (DIR=all: every one) writes its evidence below this folder,"
            " with a picture to open; 'all' alone takes the folder gracekill-evidence",
            parse=str,
            check=_optional(_folder),
        ),
    )
}


#: What concerns the session, and is no argument of a trial.
SESSION_ONLY = frozenset(("routine", "stop", "save", "require_qemu", "replay", "timeline"))


def parsed(setting: Setting, text: str, source: str) -> Value:
    """The value that a text from outside stands for.

    :raises UsageError: it stands for none, or for one that is not right.
    """
    try:
        value = setting.parse(text)
    except ValueError:
        value = text
    return checked(setting, value, source)


def checked(setting: Setting, value: object, source: str) -> Value:
    """The value, when it is right.

    :raises UsageError: names the value, its source and what would be right.
    """
    wrong = setting.check(value)
    if wrong is not None:
        raise UsageError(f"{setting.name}={value!r}: {wrong}", source=source)
    return Value(value=value, source=source)


#: How the sources of a session's values begin, the weakest first.
_OUTSIDE = ("the default", "ini option ", "variable ", "--")


def from_outside(
    options: Mapping[str, object], environment: Mapping[str, str], ini: Mapping[str, str]
) -> dict[str, Value]:
    """Every setting as the session has it, for ``options`` by setting name (None: not given).

    :raises UsageError: one of the values is not right, also one that another would override.
    """
    values = {}
    for setting in SETTINGS.values():
        value = Value(value=setting.default, source="the default")
        if ini.get(setting.name):
            value = parsed(setting, ini[setting.name], f"ini option {setting.ini}")
        if environment.get(setting.variable):
            value = parsed(setting, environment[setting.variable], f"variable {setting.variable}")
        given = options.get(setting.name)
        if isinstance(given, list | tuple):
            value = _switched(setting, [str(option) for option in given])
        elif given is not None:
            value = parsed(setting, str(given), setting.option)
        values[setting.name] = value
    return values


def _switched(setting: Setting, given: Sequence[str]) -> Value:
    options = tuple(dict.fromkeys(given))
    if len(options) > 1:
        raise UsageError(f"{' and '.join(options)}: one of them is needed", source=options[-1])
    return Value(value=setting.switches[options[0]], source=options[0])


def strength(value: Value) -> int:
    """How strong the source of a value is: 0 the default, 3 the command line, 4 marker or call."""
    return next(
        (rank for rank, start in enumerate(_OUTSIDE) if value.source.startswith(start)),
        len(_OUTSIDE),
    )


def is_own(value: Value) -> bool:
    """Whether the test itself said so, by its marker or in the call."""
    return strength(value) == len(_OUTSIDE)


def layered(
    session: Mapping[str, Value],
    markers: Iterable[Mapping[str, object]],
    marker_source: str,
    call: Mapping[str, object],
) -> dict[str, Value]:
    """Every argument of a trial with its source: call > marker (the closest first) > session."""
    merged = dict(session)
    for marker in reversed(list(markers)):
        merged |= {name: Value(value=value, source=marker_source) for name, value in marker.items()}
    return merged | {name: Value(value=value, source="the call") for name, value in call.items()}


def unknown(name: str, known: Iterable[str], source: str) -> UsageError:
    """The error for an argument that there is not, with the one that was probably meant."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"
    return UsageError(f"unknown argument {name!r}; {hint}", source=source)
