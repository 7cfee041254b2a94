"""What these tests need, and what is said where it is missing."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

INSTALL = "apt-get install -y chromium chromium-driver && pip install 'pytest-gracekill[browser]'"


def unmet(what: str) -> NoReturn:
    """Skip, or fail with GRACEKILL_REQUIRE_BROWSER=1."""
    text = f"{what} is not installed: {INSTALL}"
    if os.environ.get("GRACEKILL_REQUIRE_BROWSER") == "1":
        pytest.fail(text)
    pytest.skip(text)
