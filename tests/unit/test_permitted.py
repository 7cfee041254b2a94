"""What a trial needs is tried before anything starts, and what is missing is named."""

from __future__ import annotations

import ctypes
import importlib.machinery
import os
import select
import signal
import subprocess
import sys
import threading
import types
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill import UsageError, permitted
from pytest_gracekill.child.handle import spawn
from pytest_gracekill.child.knobs import Knobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

if sys.platform != "linux":
    pytest.skip("system calls of Linux", allow_module_level=True)


def descriptors() -> list[str]:
    return os.listdir("/proc/self/fd")  # noqa: PTH208 - their names


@pytest.fixture(autouse=True)
def _tried_anew() -> Iterator[None]:
    caches = (permitted._refused, permitted._subreaper_refused)
    for each in caches:
        each.cache_clear()
    yield
    for each in caches:
        each.cache_clear()


def test_here_a_trial_can_be_run() -> None:
    before = descriptors()
    permitted.check(subreaper=True)
    assert descriptors() == before


@pytest.mark.parametrize("error", [1, 38])
@pytest.mark.parametrize(
    ("owner", "name"), [(os, "pidfd_open"), (signal, "pidfd_send_signal")], ids=str
)
def test_a_system_call_that_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, owner: object, name: str, error: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(owner, name, refuse)
    before = descriptors()
    with pytest.raises(UsageError, match=rf"{name}\(\) is refused here \({os.strerror(error)}\)"):
        spawn(Knobs(), tmp_path / "fake")
    assert not (tmp_path / "fake").exists()
    assert descriptors() == before


def test_proc_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: str) -> str:
        raise FileNotFoundError(2, "No such file or directory", path)

    monkeypatch.setattr(os, "readlink", missing)
    with pytest.raises(UsageError, match=r"/proc cannot be read \(No such file or directory\)"):
        permitted.check()


def test_proc_of_another_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "readlink", lambda _: "12345678")
    with pytest.raises(UsageError, match="shows this process as 12345678, and its pid is"):
        permitted.check()


def test_a_subreaper_that_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        @staticmethod
        def prctl(*_: object) -> int:
            return -1

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: Refusing)
    permitted.check()
    with pytest.raises(UsageError, match=r"prctl\(PR_SET_CHILD_SUBREAPER\) is refused here"):
        permitted.check(subreaper=True)


@pytest.mark.parametrize(
    ("owner", "name"), [(select, "poll"), (threading, permitted._STARTS)], ids=str
)
def test_what_another_library_has_replaced(
    monkeypatch: pytest.MonkeyPatch, owner: types.ModuleType, name: str
) -> None:
    permitted.check()

    def greened() -> None:
        """Do nothing; what gevent has there is a function of Python's, too."""

    greened.__module__ = "gevent.thread"
    monkeypatch.setattr(owner, name, greened)
    with pytest.raises(UsageError, match=rf"^{owner.__name__}\.{name} is that of gevent\.thread: "):
        permitted.check()


def test_what_another_library_has_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "poll")
    with pytest.raises(UsageError, match=r"^select\.poll is not there any more: "):
        permitted.check()


def test_an_import_hook_that_has_changed_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = type("TypeguardLoader", (), {"__module__": "typeguard._importhook"})()
    name = "pytest_gracekill.changed"
    module = types.ModuleType(name)
    module.__spec__ = importlib.machinery.ModuleSpec(name, loader)
    monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(UsageError, match=r"^typeguard checks the types of pytest_gracekill itself"):
        permitted.check()


FILTER = """
import ctypes, os, struct, sys
number, error, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
rules = [
    struct.pack("HBBI", 0x20, 0, 0, 0),
    struct.pack("HBBI", 0x15, 0, 1, number),
    struct.pack("HBBI", 0x06, 0, 0, 0x00050000 | error),
    struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000),
]
code = ctypes.create_string_buffer(b"".join(rules))
class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
program = Program(len(rules), ctypes.addressof(code))
libc = ctypes.CDLL(None)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(program), 0, 0):
    sys.exit(77)
os.execv(command[0], command)
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of system calls of x86-64")
@pytest.mark.parametrize(
    ("call", "number"), [("pidfd_open", 434), ("pidfd_send_signal", 424), ("prctl", 157)]
)
def test_a_seccomp_filter(call: str, number: int) -> None:
    ask = "from pytest_gracekill import permitted; permitted.check(subreaper=True)"
    done = subprocess.run(
        [sys.executable, "-c", FILTER, str(number), "1", sys.executable, "-c", ask],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("seccomp filters are not to be had here")
    assert done.returncode == 1
    assert f"UsageError: {call}(" in done.stderr
    assert "is refused here (Operation not permitted)" in done.stderr
