"""The cases of the suite that explore the routine: what they find, and where they do not apply."""

from __future__ import annotations

import re

import pytest

SUITE = ("--pyargs", "pytest_gracekill.conformance", "-k", "every_order")
QUIET = [f"-pno:{name}" for name in ("randomly", "cacheprovider", "labgrid", "xprocess")]
SKIPPED = "skipped"

CROSSWISE = """
from pytest_gracekill import KillPolicy, process_kill

def destroy(driver, domain, flags):
    driver.lock.release()
    try:
        return process_kill(None, domain, flags, policy=KillPolicy(drop="none"))
    finally:
        driver.lock.acquire()
"""

BY_SHELL = """
import subprocess

def destroy(pid):
    subprocess.run(["true"], check=True)
    return True
"""

BLOCKS = """
import select

def destroy(pid):
    with select.epoll() as ready:
        return bool(ready.poll(1))
"""

MANAGER = """
import subprocess

def destroy(child):
    vm = subprocess.Popen(child.argv)
    yield vm.terminate
"""


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (CROSSWISE, {"every_order_ends": "DEADLOCK"}),
        (BLOCKS, {"every_order_ends": SKIPPED, "every_order_beside_the_handler": SKIPPED}),
        (BY_SHELL, {"every_order_ends": SKIPPED}),
        (MANAGER, {"every_order_ends": SKIPPED, "every_order_beside_a_restart": SKIPPED}),
    ],
    ids=["crosswise", "epoll", "shell", "manager"],
)
def test_explored_cases(pytester: pytest.Pytester, source: str, expected: dict[str, str]) -> None:
    pytester.path.joinpath("vmtool.py").write_text(source)
    pytester.makeini("[pytest]\n")
    named = ("--gracekill-routine=vmtool:destroy", "--gracekill-survive=1")
    done = pytester.runpytest_subprocess(*QUIET, *SUITE, *named, timeout=60)
    table = re.split(r"^=+ gracekill: ", done.stdout.str(), flags=re.MULTILINE)[-1]
    rows = dict(re.findall(r"^(every_order_[a-z_]+)  +(.+?)(?:  .*)?$", table, re.MULTILINE))
    assert len(rows) == 4, done.stdout.str()
    assert {name: rows[name] for name in expected} == expected, done.stdout.str()
