"""A test that needs libvirt is skipped where it is missing, or fails where that was asked for."""

from __future__ import annotations

import pytest
from libvirt_daemon import missing

from pytest_gracekill.fixtures import SETTLED

#: What is missing, and the line that installs it; None when everything is there.
WHY_NOT = missing()


def need_libvirt(config: pytest.Config) -> None:
    """Skip, or fail with ``--gracekill-require-qemu``."""
    if WHY_NOT is not None:
        required = config.stash[SETTLED]["require_qemu"].value
        (pytest.fail if required else pytest.skip)(WHY_NOT)
