"""The figures that are kept of libvirt are whole, and bear out what the page says beside them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from docs import real_libvirt
from docs.blocks import ROOT

KEPT: dict[str, Any] = json.loads(real_libvirt.FIGURES.read_text(encoding="utf-8"))
ROWS: dict[tuple[str, float, str], dict[str, Any]] = {
    (row["call"], row["flush_time"], row["vm"]): row for row in KEPT["rows"]
}
VMS = ("real", "fake")
#: By call and flush time: who was killed, after how many seconds.
KILLED = {("destroy", 14.0): 10.0, ("destroy --graceful", 30.0): 25.0}
CASES = {*KILLED, ("destroy", 5.0), ("destroy --graceful", 14.0)}


def test_all_cases_are_there_with_both_vms() -> None:
    assert set(ROWS) == {(*case, vm) for case in CASES for vm in VMS}
    assert re.fullmatch(r"\d+\.\d+\.\d+ \(.+\)", KEPT["versions"]["libvirt"])
    assert re.match(r"\d+\.\d+\.\d+", KEPT["versions"]["qemu"])


@pytest.mark.parametrize("vm", VMS)
@pytest.mark.parametrize("case", sorted(CASES))
def test_what_the_page_says(case: tuple[str, float], vm: str) -> None:
    row = ROWS[(*case, vm)]
    seconds = KILLED.get(case)
    assert row["result"] == "returned 0"
    assert row["returned"] == pytest.approx(seconds or case[1], abs=1.0)
    killed = {"destroy": "KILLED EARLY", "destroy --graceful": "KILLED ANYWAY"}[case[0]]
    words = re.sub(r" \(.*?\)", "", row["words"]).split(", ")
    assert words == (["STALLED"] if seconds is None else ["DATA LOST", killed, "STALLED"])
    assert bool(row["lost"]) == (seconds is not None)
    held = 15.0 if case == ("destroy --graceful", 30.0) else row["returned"]
    for name in ("list_all_domains", "look_up_same", "info_of_same"):
        assert row["longest"][name] == pytest.approx(held, abs=1.0)
    for name in ("look_up_other", "info_of_other"):
        assert row["longest"][name] < 1.0
    assert bool(row["log"]) == (case == ("destroy --graceful", 30.0))


@pytest.mark.parametrize("case", sorted(CASES))
def test_the_fake_loses_what_a_real_qemu_loses(case: tuple[str, float]) -> None:
    real, fake = (ROWS[(*case, vm)] for vm in VMS)
    # SIGKILL comes before or after the block that is being written
    assert abs(real["lost"] - fake["lost"]) <= 1


def test_a_real_qemu_tells_of_no_second_signal_and_the_fake_does() -> None:
    real, fake = (ROWS["destroy --graceful", 30.0, vm]["sequence"] for vm in VMS)
    assert real.count("SIGTERM") == 1
    assert fake.count("SIGTERM") > 1


def test_the_command_that_is_named_is_there() -> None:
    page = (ROOT / "docs" / "libvirt.md").read_text(encoding="utf-8")
    (command,) = set(re.findall(r"`python (tests/real/\S+)`", page))
    assert (ROOT / command).is_file()
