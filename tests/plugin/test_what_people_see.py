"""The failure text, the JUnit file, the header, the help, and the saved evidence."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import RunPytest

SEED = """
from pytest_gracekill import KillFlags, LIBVIRT_0_9_10, LIBVIRT_0_9_11, KillPolicy

def test_destroy_keeps_acknowledged_writes(gracekill):
    report = gracekill(flush_time=0.8, policy=KillPolicy(grace=0.4, reap=2), flags=KillFlags.FORCE)
    report.check()
"""


def test_failure_says_what_was_lost_why_and_what_to_change(run_pytest: RunPytest) -> None:
    result = run_pytest(SEED)
    result.assert_outcomes(failed=1)
    # a row that is longer than the line goes on in the next, indented
    text = re.sub(r"\nE {20,}", " ", result.stdout.str())
    found = re.search(
        r"E +AssertionError: gracekill: DATA LOST \((\d+) of 64 blocks: (\d+)-63\)", text
    )
    assert found is not None, text
    lost, first = int(found[1]), int(found[2])
    assert lost == 64 - first
    for line in (
        r"E +data +DATA LOST +blocks \d+-63 acknowledged, never on disk; last durable: \d+ at t\+",
        r"E +escalation +KILLED EARLY +SIGTERM t\+0\.\d+, SIGKILL t\+0\.\d+; the flush needed 0",
        r"E +outcome +ok +returned KillResult\(dead, by SIGKILL, \d\.\d+ s\); the VM is dead",
        r"E +promptness +ok +\d+\.\d ms after the exit",
        r"E +deadlock +ok +\d+ locks, \d+ acquisitions, 0 order cycles",
        r"E +locks +ok +driver and domain vm held at entry and at return; none held over the wait",
        r"E +progress +ok +8 contenders, longest stall [\d.]+ ms during the wait",
        r"E +leftovers +ok +1 process started, 0 alive",
        r"E +give the flush 0\.80 s or more: KillPolicy\(grace=1\.0\)",
    ):
        assert re.search(line, text), f"{line} is not in\n{text}"


def test_one_line_tracebacks_carry_all_broken_words(run_pytest: RunPytest) -> None:
    result = run_pytest(SEED, "--tb=line")
    result.stdout.re_match_lines([r".*gracekill: DATA LOST \(.*\), KILLED EARLY$"])


def test_assert_ok_gets_the_same_table(run_pytest: RunPytest, pytester: pytest.Pytester) -> None:
    result = run_pytest(
        SEED.replace("report.check()", "assert report.ok"), "--show-capture=no", "--junit-xml=j.xml"
    )
    result.stdout.re_match_lines([r".*-+ gracekill -+", r"gracekill: DATA LOST .*KILLED EARLY"])
    assert "KILLED EARLY  SIGTERM" in pytester.path.joinpath("j.xml").read_text()


@pytest.mark.parametrize("names", ["", "'data'"])
def test_check_does_not_tell_the_table_twice(run_pytest: RunPytest, names: str) -> None:
    text = run_pytest(SEED.replace("check()", f"check({names})"), "-rN").stdout.str()
    assert text.count("last durable") == 1, text
    assert not re.search(r"-+ gracekill -+", text)


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "xdist"])
def test_junit_properties(
    run_pytest: RunPytest, pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    result = run_pytest(SEED, "--junit-xml=j.xml", "-W", "error", *workers)
    result.assert_outcomes(failed=1)
    case = ET.parse(pytester.path / "j.xml").getroot().find(".//testcase")
    assert case is not None
    found = {p.get("name"): p.get("value") for p in case.iterfind("./properties/property")}
    assert found["gracekill_sigkill_sent"] == "True"
    assert 0 < int(found["gracekill_lost_blocks"] or 0) < 64
    assert float(found["gracekill_elapsed"] or 0) >= 0.4
    assert float(found["gracekill_longest_stall"] or 0) > 0


def test_header_only_when_something_is_changed(
    run_pytest: RunPytest, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "gracekill:" not in run_pytest("def test_nothing(): pass").stdout.str()
    monkeypatch.setenv("GRACEKILL_SLACK", "0.7")
    result = run_pytest("def test_nothing(): pass", "--gracekill-survive=3")
    survive = "survive=3.0 (from --gracekill-survive)"
    slack = "slack=0.7 (from variable GRACEKILL_SLACK)"
    result.stdout.fnmatch_lines([f"gracekill: {survive}, {slack}"])


def test_help_says_what_is_needed_to_use_it(run_pytest: RunPytest) -> None:
    markers = run_pytest("", "--markers").stdout.str()
    assert "@pytest.mark.gracekill(" in markers
    assert "flush_time" in markers
    fixtures = run_pytest("", "--fixtures").stdout.str()
    for name in ("gracekill", "fake_qemu", "kill_routine"):
        assert re.search(rf"^{name} -- .*\n(    .*\n)+", fixtures, re.MULTILINE), name
    options = run_pytest("", "--help").stdout.str()
    for option in ("survive", "slack", "stall-limit", "budget", "contenders", "save"):
        assert f"--gracekill-{option}" in options


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_failing_trials_save_their_evidence(
    run_pytest: RunPytest, pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    source = SEED + (
        "\ndef test_right(gracekill):\n"
        "    gracekill(flush_time=0.05, flags=KillFlags.FORCE).check()\n"
    )
    result = run_pytest(source, "--gracekill-save=evidence", *workers)
    result.assert_outcomes(failed=1, passed=1)
    (folder,) = [p.parent for p in pytester.path.joinpath("evidence").rglob("history.jsonl")]
    assert folder.parts[-2:] == ("test_destroy_keeps_acknowledged_writes", "trial-1")
    result.stdout.re_match_lines([rf"E +evidence: .*{folder.name}/timeline\.html$"])
    assert "KILLED EARLY" in folder.joinpath("report.txt").read_text()
    header, *events = map(json.loads, folder.joinpath("history.jsonl").read_text().splitlines())
    assert header["format"] == "gracekill-history"
    kinds = {event["kind"] for event in events}
    assert {"call", "return", "signal", "hold", "block"} <= kinds
    assert [event["ns"] for event in events] == sorted(event["ns"] for event in events)


def test_a_trial_is_forgotten_when_its_test_has_ended(run_pytest: RunPytest) -> None:
    source = """
    import gc, weakref
    from pytest_gracekill import KillFlags

    seen = []

    def test_first(gracekill):
        assert gc.isenabled()
        report = gracekill(flush_time=0.05, flags=KillFlags.FORCE)
        assert gc.isenabled()
        seen.append(weakref.ref(report.history))

    def test_second():
        gc.collect()
        assert seen[0]() is None
    """
    run_pytest(source).assert_outcomes(passed=2)
