"""Where QEMU is not installed: a skip that says how to install it, or a failure where it is needed.

The pytest that is looked at has a PATH on which there is no QEMU.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import RunPytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the fixture is Linux's")

MODULE = """
def test_real(gracekill, real_qemu):
    gracekill(vm=real_qemu(flush_time=0.1)).check()

def test_storage_daemon(real_qemu):
    real_qemu(program="storage-daemon")
"""
INSTALL = (
    "apt-get install --no-install-recommends qemu-system-x86 qemu-utils (Debian, Ubuntu), or: dnf"
    " install qemu-system-x86-core qemu-img (Fedora)"
)
MISSING = f"qemu-system-x86_64 and qemu-img and qemu-io are not installed: {INSTALL}"
MISSING_DAEMON = f"qemu-storage-daemon and qemu-img and qemu-io are not installed: {INSTALL}"


@pytest.fixture(autouse=True)
def no_qemu(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(pytester.mkdir("empty")))
    monkeypatch.setenv("COLUMNS", "400")


def test_it_is_skipped_with_the_line_that_installs_it(run_pytest: RunPytest) -> None:
    result = run_pytest(MODULE, "-rs")
    result.assert_outcomes(skipped=2)
    text = result.stdout.str()
    assert f"{MISSING}\n" in text
    assert f"{MISSING_DAEMON}\n" in text


def test_it_fails_where_it_is_required(run_pytest: RunPytest) -> None:
    result = run_pytest(MODULE, "--gracekill-require-qemu")
    result.assert_outcomes(failed=2)
    text = result.stdout.str()
    assert f"{MISSING}; it is required by --gracekill-require-qemu" in text
    failures, _, _ = text.partition("short test summary info")
    # each test has it once, in the traceback and not again as its cause
    assert failures.count(INSTALL) == 2


def test_it_fails_where_the_environment_requires_it(
    run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRACEKILL_REQUIRE_QEMU", "1")
    result = run_pytest(MODULE)
    result.assert_outcomes(failed=2)
    assert "it is required by variable GRACEKILL_REQUIRE_QEMU" in result.stdout.str()


def test_it_fails_where_the_ini_file_requires_it(
    run_pytest: RunPytest, pytester: pytest.Pytester
) -> None:
    pytester.makeini("[pytest]\ngracekill_require_qemu = true\n")
    result = run_pytest(MODULE)
    result.assert_outcomes(failed=2)
    assert "it is required by ini option gracekill_require_qemu" in result.stdout.str()


def test_the_knobs_are_checked_before_qemu_is_looked_for(run_pytest: RunPytest) -> None:
    result = run_pytest("def test_real(real_qemu):\n    real_qemu(blocks=0)\n")
    result.assert_outcomes(failed=1)
    assert "blocks=0: it has to be an int from 1 to 256 (from the call)" in result.stdout.str()
