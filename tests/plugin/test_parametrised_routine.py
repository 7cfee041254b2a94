"""``kill_routine`` with parameters, in every way in which pytest has them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import RunPytest

if sys.platform != "linux":
    pytest.skip("the fake needs Linux", allow_module_level=True)

ROUTINES = """
import pytest

def first(popen):
    popen.terminate()
    popen.wait()

def second(pid):
    import os, signal
    fd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGTERM)
    import select
    select.select([fd], [], [], 30)
    os.close(fd)

NAMES = {"first": first, "second": second}
"""
JUDGED = """
    called = gracekill(flush_time=0.1, contenders=0)
    called.check()
    assert called.circumstances["routine"] == request.node.callspec.id.split("-")[0]
"""
STYLES = {
    "params of the fixture": """
@pytest.fixture(params=["first", "second"])
def kill_routine(request):
    return NAMES[request.param]

def test_it(gracekill, request):
""",
    "of a class, and its scope": """
@pytest.fixture(params=["first", "second"], scope="class")
def kill_routine(request):
    return NAMES[request.param]

class TestIt:
  def test_it(self, gracekill, request):
""",
    "of a module, and its scope": """
@pytest.fixture(params=["first", "second"], scope="module")
def kill_routine(request):
    return NAMES[request.param]

def test_it(request, gracekill):
""",
    "indirect": """
@pytest.fixture
def kill_routine(request):
    return NAMES[request.param]

@pytest.mark.parametrize("kill_routine", ["first", "second"], indirect=True)
def test_it(gracekill, request):
""",
    "direct": """
@pytest.mark.parametrize("kill_routine", [first, second])
def test_it(gracekill, request):
""",
    "direct, and used by the test": """
@pytest.mark.parametrize("kill_routine", [first, second])
def test_it(request, kill_routine, gracekill):
""",
    "through another fixture": """
@pytest.fixture(params=["first", "second"])
def name(request):
    return request.param

@pytest.fixture
def kill_routine(name):
    return NAMES[name]

def test_it(gracekill, request):
""",
    "with others beside it": """
@pytest.fixture(params=["first", "second"])
def kill_routine(request):
    return NAMES[request.param]

@pytest.mark.parametrize("other", [1])
def test_it(gracekill, request, other):
""",
    "by pytest_generate_tests": """
def pytest_generate_tests(metafunc):
    metafunc.parametrize("kill_routine", [first, second])

def test_it(gracekill, request):
""",
}


@pytest.mark.parametrize("style", STYLES)
def test_style(run_pytest: RunPytest, style: str) -> None:
    indented = JUDGED.replace("    ", "      ") if "class Test" in STYLES[style] else JUDGED
    run_pytest(ROUTINES + STYLES[style].rstrip("\n") + indented).assert_outcomes(passed=2)


def test_the_suite(run_pytest: RunPytest, pytester: pytest.Pytester) -> None:
    """Each case runs with each routine."""
    pytester.makeconftest(ROUTINES + STYLES["params of the fixture"].partition("\ndef test_it")[0])
    result = run_pytest(
        "from pytest_gracekill.conformance import *",
        "--gracekill-survive=1",
        "-k",
        "test_flush_within_the_promise and 0.1",
    )
    result.assert_outcomes(passed=2)
