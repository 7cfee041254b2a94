"""What is left of a VM: each thing by its name, with the advice that fits it."""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_verdicts import RIGHT

from pytest_gracekill.report import Verdict
from pytest_gracekill.verdicts import leftovers
from pytest_gracekill.witness.leftovers import Held, Leftovers, Orphan, Resource, look

if sys.platform != "linux":
    pytest.skip("looks into /proc", allow_module_level=True)

#: What has to be in the advice for each thing, and in no other's.
FITS: dict[str, str] = {
    "disk lock": "the next start of the VM fails",
    "QMP socket": "a client that finds it is refused",
    "pid file": "may soon be another process's",
    "helper": "stop the VM's helper processes too",
    "wrapper": "wait for the end of the process that started the VM",
}
RESOURCES: tuple[Resource, ...] = ("disk lock", "QMP socket", "pid file")
THINGS = [chosen for number in (1, 2, 5) for chosen in itertools.combinations(FITS, number)]


def judged(things: tuple[str, ...]) -> Verdict:
    orphans = tuple(Orphan(pid=7, role=role) for role in things if role in ("helper", "wrapper"))
    locked = tuple(Held(what=what, path=Path("x")) for what in RESOURCES if what in things)
    seen = Leftovers(started=3, orphans=orphans, locked=locked)
    verdict = leftovers.judge(dataclasses.replace(RIGHT, leftovers=seen))
    assert isinstance(verdict, Verdict)
    return verdict


@pytest.mark.parametrize("things", THINGS, ids=" and ".join)
def test_advice_is_for_what_is_left_and_for_nothing_else(things: tuple[str, ...]) -> None:
    verdict = judged(things)
    assert {thing for thing, text in FITS.items() if text in verdict.advice} == set(things)
    words = {"ORPHANS"} if {"helper", "wrapper"} & set(things) else set()
    words |= {"LOCKED"} if set(RESOURCES) & set(things) else set()
    assert {verdict.word, *verdict.also} == words
    for what in RESOURCES:
        told = "the disk is locked" if what == "disk lock" else f"the {what} is there"
        assert (told in verdict.evidence) == (what in things)


@pytest.mark.parametrize("role", ["helper", "sleep"])
def test_who_holds_the_disk_is_named(tmp_path: Path, role: str) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(b"x")
    with disk.open() as opened, subprocess.Popen(["sleep", "60"], stdin=opened) as holder:
        opened.close()
        orphans = [Orphan(pid=holder.pid, role="helper")] if role == "helper" else []
        # one that lives on is known by its role, any other process by its name
        questions: list[tuple[Held, Callable[[], bool]]] = [
            (Held(what="disk lock", path=disk), lambda: True),
            (Held(what="pid file", path=disk), lambda: True),
            (Held(what="QMP socket", path=disk), lambda: False),
        ]
        seen = look(started=2, processes=lambda: orphans, holds=questions)
        holder.kill()
    assert [str(held) for held in seen.locked] == [
        f"the disk is locked by {role} {holder.pid}",
        "the pid file is there",
    ]


def test_a_disk_that_is_gone_is_held_by_nobody(tmp_path: Path) -> None:
    held = Held(what="disk lock", path=tmp_path / "gone")
    seen = look(started=1, processes=list, holds=[(held, lambda: True)])
    assert [str(held) for held in seen.locked] == ["the disk is locked"]
    assert os.getpid() not in [orphan.pid for held in seen.locked for orphan in held.by]
