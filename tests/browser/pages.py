"""A headless Chromium of Debian's, and the pages that are opened in it.

Without it these tests skip, and say what to install; with GRACEKILL_REQUIRE_BROWSER=1 they fail.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from needed import unmet
from opened import Opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome

SEED = Path(__file__).parents[1] / "evidence" / "libvirt-0.9.10"


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """One browser for all tests of a process."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        unmet("Chromium" if browser is None else "its driver")
    try:
        from selenium.webdriver import Chrome, ChromeOptions, ChromeService
    except ImportError:
        unmet("selenium")
    options = ChromeOptions()
    options.binary_location = str(browser)
    profile = tmp_path_factory.mktemp("chromium")
    for argument in (
        "--headless=new",
        "--no-sandbox",  # root in a container
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1300,1000",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = Chrome(options=options, service=ChromeService(str(driver)))
    try:
        yield chrome
    finally:
        chrome.quit()


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def page(chromium: Chrome, scheme: str, tmp_path: Path) -> Opened:
    """The page of the seed's story: SIGKILL in the middle of the flush, everybody stalled."""
    from pytest_gracekill.render import folder
    from pytest_gracekill.render.page import html
    from pytest_gracekill.render.picture import picture_of

    path = tmp_path / "timeline.html"
    path.write_text(html(picture_of(folder.load(SEED))), encoding="utf-8")
    return Opened(chromium, path, scheme)
