"""Saving the evidence of a run: what cannot be written is a warning, and hides no verdict.

The folder is tried once when the run begins, by the process that has the terminal. Each trial says
in its own text, too, that its evidence is missing, and why.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from pytest_gracekill.judgement import Judgement


class EvidenceWarning(UserWarning):
    """Evidence that was to be saved could not be written."""


def fault(folder: Path) -> str | None:
    """Why nothing can be written below a folder; None where it can. What this makes it removes."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\n")
    except OSError as error:
        return _reason(error)
    finally:
        with suppress(OSError):  # another run has written there, or there was nothing to remove
            for path in missing:
                path.rmdir()
    return None


def attempt(
    config: pytest.Config, root: Path, save: Callable[[], object], report: Judgement, nodeid: str
) -> None:
    """Save the evidence of a trial below ``root``; warn where that fails, and note it in `report`.

    :param save: writes it.
    """
    try:
        save()
    except Exception as error:  # noqa: BLE001 - whatever goes wrong here, the verdict counts
        told = f"the evidence could not be saved below {root}: {_reason(error)}"
        report.unsaved.append(told)
        warn(config, told, nodeid)


def attempt_index(config: pytest.Config, root: Path, write: Callable[[Path], object]) -> None:
    """Write the index over all evidence; warn where that fails."""
    try:
        write(root)
    except OSError as error:
        warn(config, f"the index of the evidence below {root} could not be saved: {_reason(error)}")


def warn(config: pytest.Config, message: str, nodeid: str = "") -> None:
    """Add a line to pytest's summary of warnings.

    It is not issued by `warnings`: a filter that makes an error of it would replace the verdict.
    """
    recorded = warnings.WarningMessage(
        EvidenceWarning(f"gracekill: {message}"), EvidenceWarning, __file__, 0
    )
    config.hook.pytest_warning_recorded.call_historic(
        kwargs={
            "warning_message": recorded,
            "nodeid": nodeid,
            "when": "runtest" if nodeid else "config",
            "location": None,
        }
    )


def _reason(error: Exception) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a file is in the place of a folder"
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return f"{type(error).__name__}: {error}"
