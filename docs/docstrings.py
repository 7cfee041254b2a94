"""Public names as Markdown: signature, docstring and members, taken from the code itself.

Written into the page instead of being left to Sphinx, so that the reference reads the same in a
checkout, and a test without Sphinx sees what is in it.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIELD = re.compile(r"^:(?P<kind>param|raises) (?P<name>\w+):", re.MULTILINE)


def described(name: str, value: object) -> str:
    """One section: heading, signature, text, and a list of members."""
    parts = [f"### `{name}`"]
    if inspect.isclass(value):
        # what only the plugin makes has no signature that a user would need
        if not _is_returned(value) and not issubclass(value, enum.Enum | Exception):
            parts.append(f"`{name}{signature(value)}`")
        parts += [markdown(inspect.getdoc(value)), "\n".join(_members(value))]
    elif inspect.isroutine(value):
        parts += [f"`{name}{signature(value)}`", markdown(inspect.getdoc(value))]
    else:
        parts.append(f"`{value}`")
    return "\n\n".join(part for part in parts if part)


def markdown(docstring: str | None) -> str:
    """A docstring as Markdown; its parameters and exceptions become a list."""
    text = docstring or ""
    fields = list(_FIELD.finditer(text))
    prose = text[: fields[0].start()] if fields else text
    paragraphs = ["\n".join(part.splitlines()) for part in prose.strip().split("\n\n")]
    ends = [*(field.start() for field in fields[1:]), len(text)][: len(fields)]
    items = [
        f"- {'raises ' if field['kind'] == 'raises' else ''}`{field['name']}`:"
        f" {' '.join(text[field.end() : end].split())}"
        for field, end in zip(fields, ends, strict=True)
    ]
    found = "\n\n".join([*paragraphs, *(["\n".join(items)] if items else [])])
    found = re.sub(r":\w+:`(\w+)`", r"`\1`", found)
    return found.replace("``", "`").strip()


def signature(value: object) -> str:
    """The parameters as they stand in the source."""
    assert callable(value)
    parts: list[str] = []
    starred = False
    for parameter in inspect.signature(value).parameters.values():
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
            starred = True
        parts.append(_parameter(parameter))
    return f"({', '.join(parts)})"


def _parameter(parameter: inspect.Parameter) -> str:
    stars: dict[object, str] = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}
    text = stars.get(parameter.kind, "") + parameter.name
    if parameter.annotation is not parameter.empty:
        text += f": {_annotation(parameter.annotation)}"
    if parameter.default is not parameter.empty:
        text += f" = {shown(parameter.default)}"
    return text


def shown(value: object) -> str:
    """A default as somebody would write it."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__name__}.{value.name}"
    if inspect.isclass(value):
        return value.__name__
    if repr(value) == "<factory>":  # of a dataclass: made anew for each
        return "..."
    return str(value) if dataclasses.is_dataclass(value) else repr(value)


def _annotation(annotation: object) -> str:
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")


def _members(cls: type) -> Iterator[str]:
    """A line for each field, flag, property and method that the class itself has."""
    if issubclass(cls, enum.Enum):
        yield from (f"- `{member.name} = {member.value}`" for member in cls)
        return
    # a docstring that explains the fields has listed them already
    if dataclasses.is_dataclass(cls) and _is_returned(cls) and ":param" not in (cls.__doc__ or ""):
        for field in dataclasses.fields(cls):
            yield f"- `.{field.name}: {_annotation(field.type)}`"
    yield from (f"- {attribute}" for attribute in _ATTRIBUTES.get(cls.__name__, ()))
    for name, member in vars(cls).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            returned = inspect.signature(member.fget).return_annotation if member.fget else ""
            yield _item(f".{name}: {_annotation(returned)}", member)
        elif inspect.isfunction(member):
            returned = inspect.signature(member).return_annotation
            yield _item(f".{name}{signature(member)} -> {_annotation(returned)}", member)


def _item(head: str, member: object) -> str:
    # the first paragraph, all in the line: the rest is for who reads the code
    text = " ".join(markdown(inspect.getdoc(member)).partition("\n\n")[0].split())
    return f"- `{head}`" + (f": {text}" if text else "")


def _is_returned(cls: type) -> bool:
    """Made by the plugin: users read it and do not make one."""
    return cls.__name__ in _RETURNED


_RETURNED = {
    "Audit",
    "Child",
    "Exploration",
    "FakeQemu",
    "KillResult",
    "RealChild",
    "RealQemu",
    "Report",
    "Verdict",
}

#: Attributes that only the instance has.
_ATTRIBUTES = {
    "FakeQemu": (
        "`.dir`: its folder",
        "`.pid`: the VM's process; whom to kill",
        "`.pidfd`: of the same process, opened at its start; readable when it has ended",
        "`.disk`: `.path`, `.audit()` which returns an `Audit`, and `.locked()`",
        "`.journal`: `.path` and `.entries()`, what it did and saw",
        "`.pid_file`: where it writes its pid, as QEMU does with `-pidfile`",
        "`.mark`: the FIFO that every process of this fake holds open",
        "`.qmp`: the path of the QMP socket; `None` without the knob `qmp`",
        "`.end_seen`: whether this handle has seen the VM's end, so that a trial expects it",
    ),
    "RealQemu": (
        "everything of a `FakeQemu`",
        "`.disk.check()`: what `qemu-img check` says of the image, which is no verdict",
        "`.version`: QEMU's",
    ),
    "RealChild": (
        "`.program: str`: what runs in QEMU's place",
        "`.disk: str`: the UNIX socket at which the disk is served over NBD",
        "`.dir: Path`: a folder of the manager's own",
    ),
    "Child": (
        "`.argv: list[str]`, `.cmdline: str`, `.program: str`, `.target`: what starts it",
        "`.dir: Path`: a folder of the manager's own, without any file of the fake",
        "`.pid_file: Path`: where the fake writes its pid, as QEMU does with `-pidfile`",
        "`.image: Path`: its disk",
        "`.journal`: `.path` and `.entries()`, what it did and saw",
        "`.qmp: str | None`: the path of the QMP socket",
    ),
}
