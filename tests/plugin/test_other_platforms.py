"""macOS and Windows: the package imports, the plugin loads, the fixtures skip with a reason.

Seen here with the platform's name changed and Linux's calls taken away, in a process of its own: it
shows what is missing, not how another system behaves.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import asyncio, fcntl, importlib, os, pkgutil, select, signal, subprocess, sys, tempfile
import psutil, pytest, pytest_timeout, xml.etree.ElementTree, xml.dom.minidom, unittest, doctest

platform = sys.argv[1]
for module, names in {
    os: "pidfd_open P_PIDFD mkfifo killpg getpgid getpgrp waitid register_at_fork",
    signal: "pidfd_send_signal sigtimedwait sigwaitinfo SIGKILL SIGURG pthread_kill SIGHUP",
    select: "poll",
}.items():
    for name in names.split():
        if platform == "win32" or name in ("pidfd_open", "P_PIDFD", "pidfd_send_signal",
                                           "sigtimedwait", "sigwaitinfo"):
            if hasattr(module, name):
                delattr(module, name)
if platform == "win32":
    sys.modules["fcntl"] = None
    sys.modules["resource"] = None
sys.platform = platform

import pytest_gracekill

for found in pkgutil.walk_packages(pytest_gracekill.__path__, "pytest_gracekill."):
    # the program runs in the fake's process, which there is on Linux only
    if ".child.program" not in found.name and not found.name.endswith("__main__"):
        importlib.import_module(found.name)
for name in pytest_gracekill.__all__:
    assert getattr(pytest_gracekill, name) is not None

with open("test_it.py", "w") as module:
    module.write('''
def test_gracekill(gracekill):
    gracekill()

def test_fake(fake_qemu):
    fake_qemu()
''')
# other plugins of this machine are not what is tried here
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
sys.exit(pytest.main(["-rs", "-p", "pytest_gracekill.plugin", "-p", "no:faulthandler",
                      "-p", "no:cacheprovider", "-p", "no:capture", "test_it.py"]))
"""


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_imports_loads_and_skips(tmp_path: Path, platform: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, platform],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 skipped" in run.stdout
    assert f"the fake needs Linux (pidfd, FIFO marks); this is {platform}" in run.stdout
