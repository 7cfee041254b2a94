"""Runs a console block as a reader would: its page's files in a folder, its commands in a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from docs.blocks import files_before

if TYPE_CHECKING:
    from docs.blocks import Block

LONGEST = 100.0

#: Plugins of our own test run that change what pytest prints; a reader has none of them.
_PLAIN = (
    "-p no:cacheprovider -p no:randomly -p no:xdist -p no:hypothesispytest -p no:xprocess"
    " -p no:labgrid --rootdir=."
)


def run(block: Block) -> str:
    """The block's text, printed anew: each command with its prompt, and its output below it.

    Nothing of the caller's environment reaches the commands but the Python that runs this.
    """
    with tempfile.TemporaryDirectory(prefix="gracekill-docs-") as scratch:
        folder, temporary = Path(scratch, "page"), Path(scratch, "tmp")
        folder.mkdir()
        temporary.mkdir()
        for name, text in files_before(block).items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}",
            "HOME": scratch,
            "LANG": "C.UTF-8",
            "TMPDIR": str(temporary),
            "COLUMNS": "100",
            "PYTEST_ADDOPTS": _PLAIN,
        }
        printed = "".join(
            f"$ {command}\n{_output(command, folder, environment)}" for command in block.commands
        )
        return _neutral(printed, scratch)


def _output(command: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LONGEST,
        check=False,  # most of the commands show a failure
    )
    return done.stdout


def _neutral(text: str, scratch: str) -> str:
    """Without the folders of this machine, and without blanks at the ends of lines."""
    text = text.replace(f"{scratch}/page/", "").replace(scratch, "")
    text = re.sub(r"(?<=[ (])/\S*/(pytest_gracekill/)", r"\1", text)
    return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
