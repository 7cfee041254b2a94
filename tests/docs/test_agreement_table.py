"""What is kept of the agreement is whole, and bears out what routines, and the pages, rest on."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from docs import agreement
from docs.blocks import ROOT

KEPT: dict[str, Any] = json.loads(agreement.FIGURES.read_text(encoding="utf-8"))
ROWS: dict[str, dict[str, Any]] = {row["scenario"]: row for row in KEPT["rows"]}
HOST_SIGNAL = {"guest": False, "reason": "host-signal"}


def facts(scenario: str) -> dict[str, Any]:
    """What a real QEMU has shown."""
    seen: dict[str, Any] = ROWS[scenario]["real"]
    return seen


def events(said: list[str]) -> list[str]:
    """Messages by what they are."""
    short = []
    for line in said:
        message = {} if line == "end of file" else json.loads(line)
        short.append(message.get("event") or next(iter(message), line))
    return short


@pytest.mark.parametrize("kind", agreement.KINDS)
def test_every_fact_is_the_same_or_explained(kind: str) -> None:
    assert len(ROWS) == len(KEPT["rows"])
    for row in KEPT["rows"]:
        assert set(row["fake"]) == set(row["real"])
        differing = {name for name in row["real"] if row["fake"][name] != row["real"][name]}
        assert differing == set(row["differences"])
        assert all(row["differences"].values()), row["scenario"]
        assert row[kind]


@pytest.mark.parametrize(("name", "number"), [("SIGHUP", 1), ("SIGINT", 2), ("SIGTERM", 15)])
def test_a_signal_is_told_first_and_then_flushed(name: str, number: int) -> None:
    seen = facts(name)
    (said,) = seen["QMP before the disk is flushed"]
    assert json.loads(said)["data"] == HOST_SIGNAL
    assert seen["blocks that would be lost in the middle"] == "8-15"
    assert seen["QMP then"] == ["end of file"]
    assert (seen["exit status"], seen["blocks lost"]) == (0, "")
    assert seen["standard error"] == [
        f"QEMU: terminating on signal {number} from pid OURS (COMMAND)"
    ]


def test_quit_is_answered_when_everything_is_flushed() -> None:
    seen = facts("QMP quit")
    assert events(seen["QMP before the disk is flushed"]) == ["SHUTDOWN"]
    assert events(seen["QMP then"]) == ["return", "end of file"]
    assert seen["standard error"] == []


def test_a_second_request_changes_nothing() -> None:
    seen = facts("SIGTERM; in the flush SIGTERM, SIGINT, SIGHUP, QMP query-status and quit")
    assert events(seen["QMP"]) == ["SHUTDOWN", "end of file"]
    assert seen["another client"] == ["end of file"]
    assert len(seen["standard error"]) == 1
    assert (seen["exit status"], seen["blocks lost"]) == (0, "")


@pytest.mark.parametrize(
    ("when", "lost"),
    [("nothing is", "0-15"), ("5 of 16 blocks are", "5-15"), ("15 of 16 blocks are", "15")],
)
def test_sigkill_loses_what_is_not_on_the_disk(when: str, lost: str) -> None:
    seen = facts(f"SIGTERM; SIGKILL when {when} on the disk")
    assert (seen["exit status"], seen["blocks lost"]) == (-9, lost)
    assert (seen["pid file"], seen["QMP socket"]) == ("there", "there")


def test_sigterm_before_readiness_has_its_default_effect() -> None:
    seen = facts("SIGTERM before it is ready")
    assert (seen["exit status"], seen["pid file then"]) == (-15, "there")
    assert not any("terminating" in line for line in seen["standard error"])


def test_a_guest_that_heeds_the_button_powers_off() -> None:
    assert events(facts("system_powerdown")["QMP"]) == [
        *("POWERDOWN", "return", "SHUTDOWN", "end of file")
    ]


def test_the_image_is_locked_while_it_runs_and_not_afterwards() -> None:
    seen = facts("the lock on the image")
    assert "denies write (read lock)" in seen["while it runs"] == seen["another VM"]
    assert seen["after SIGTERM"] == seen["after SIGKILL"] == []
    assert seen["a second VM: exit status"] == 1


def test_the_version_and_the_command_are_named() -> None:
    assert re.match(r"\d+\.\d+\.\d+", KEPT["qemu"])
    page = (ROOT / "docs" / "agreement.md").read_text(encoding="utf-8")
    assert KEPT["qemu"] in page
    for path in re.findall(r"`(?:python )?(tests/\S+\.py)`", page):
        assert (ROOT / path).is_file()
