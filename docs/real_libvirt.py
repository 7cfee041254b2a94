"""The generated parts of "How to judge libvirt": measured figures, and excerpts of its example."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).parent / "libvirt.json"
_ROOT = Path(__file__).parent.parent
_DAEMON, _DOMAIN = "tests/real/libvirt_daemon.py", "tests/real/libvirt_domain.py"
_TESTS = "tests/real/test_libvirt.py"

#: What other clients have asked, in words.
_ASKED = {
    "list_all_domains": "`listAllDomains`",
    "look_up_same": "`lookupByName`, same",
    "info_of_same": "`info`, same",
    "look_up_other": "`lookupByName`, another",
    "info_of_other": "`info`, another",
}
#: Whose whole report is shown: with these nothing is left to say.
_TOLD = (("destroy", 14.0), ("destroy --graceful", 30.0))


def versions() -> str:
    """Which libvirt, and which QEMU."""
    of = _kept()["versions"]
    return f"Measured with libvirt {of['libvirt']} and QEMU {of['qemu']}."


def table() -> str:
    """What each call did, with a real QEMU and with the fake."""
    head = ["`virsh`", "the flush takes", "QEMU", "returned after", "blocks lost", "the report"]
    lines = [head, ["---"] * len(head)]
    for row in _kept()["rows"]:
        lost = f"{row['lost']} of {_kept()['blocks']}"
        words = row["words"].replace(f" ({lost} blocks: {_blocks(row)})", "")
        cells = [
            f"`{row['call']}`",
            f"{row['flush_time']:g} s",
            row["vm"],
            f"{row['returned']:.1f} s",
            f"{lost}: {_blocks(row)}" if row["lost"] else lost,
            words,
        ]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def stalls() -> str:
    """For how long other clients have stood, by what they had asked; with a real QEMU."""
    head = ["`virsh`", "the flush takes", "returned after", *_ASKED.values()]
    lines = [head, ["---"] * len(head)]
    for row in _kept()["rows"]:
        if row["vm"] == "real":
            stood = [_seconds(row["longest"][name]) for name in _ASKED]
            cells = [f"`{row['call']}`", f"{row['flush_time']:g} s", f"{row['returned']:.1f} s"]
            lines.append([*cells, *stood])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def reports() -> str:
    """The whole reports on those cases that lose data, and what libvirt's log says of them."""
    parts = []
    for row in _kept()["rows"]:
        if (row["call"], row["flush_time"]) in _TOLD and row["vm"] == "real":
            parts.append(
                f"`virsh {row['call']}`, a flush of {row['flush_time']:g} s:\n\n"
                f"<!-- kept -->\n```text\n{row['text']}\n```"
            )
            if row["log"]:
                said = "\n".join(row["log"])
                parts.append(f"libvirt's own log says:\n\n<!-- kept -->\n```text\n{said}\n```")
    return "\n\n".join(parts)


def daemon() -> str:
    """How the daemon is configured and started."""
    return _excerpt(_DAEMON, "_AS_NOBODY", "DAEMON_CONF", "QEMU_CONF", "EMULATOR", "Libvirtd")


def domains() -> str:
    """The domains."""
    return _excerpt(_DOMAIN, "_DOMAIN", "_PROGRAM", "_DISK", "of_fake", "of_real")


def with_the_fake() -> str:
    """The routine and a test of it."""
    return "\n\n".join(
        (
            _excerpt(_DOMAIN, "destroy_fake"),
            _excerpt(_TESTS, "test_short_flush", "test_destroy_loses_data"),
        )
    )


def with_the_real() -> str:
    """As above, with a real QEMU."""
    return "\n\n".join(
        (
            _excerpt(_DOMAIN, "start_real", "destroy_real"),
            _excerpt(_TESTS, "test_real_short_flush", "test_real_destroy_loses_data"),
        )
    )


def clients() -> str:
    """What others ask meanwhile."""
    return _excerpt(_DOMAIN, "Clients")


def _excerpt(path: str, *names: str) -> str:
    """These functions, classes and values of a file, as they stand there."""
    source = (_ROOT / path).read_text(encoding="utf-8")
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = ast.get_source_segment(source, node)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = ast.get_source_segment(source, node)
    parts = [found[name] or "" for name in names]
    text = "".join(
        part + ("\n" if at == len(parts) - 1 else _between(part, parts[at + 1]))
        for at, part in enumerate(parts)
    )
    return f"<!-- source: {path} -->\n```python\n{text}```"


def _between(one: str, other: str) -> str:
    """Blank lines as the formatter has them."""
    blocks = any(part.startswith(("def ", "class ")) for part in (one, other))
    return "\n\n\n" if blocks else "\n"


def _blocks(row: dict[str, Any]) -> str:
    """Which blocks were lost, as the report's first line has it."""
    return str(row["words"]).partition(" blocks: ")[2].partition(")")[0]


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms"  # noqa: PLR2004 - below it, tenths say nothing


def _kept() -> dict[str, Any]:
    kept: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))
    return kept
