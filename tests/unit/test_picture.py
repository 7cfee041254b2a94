"""The picture is made of what was saved alone: lanes, words, and what it leaves to a density."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.errors import UsageError
from pytest_gracekill.render import folder
from pytest_gracekill.render.folder import Saved
from pytest_gracekill.render.page import html
from pytest_gracekill.render.picture import SPANS, Picture, picture_of
from pytest_gracekill.render.record import Called, Disk, Record, Step
from pytest_gracekill.render.timeline.drawing import svg
from pytest_gracekill.report import Moment, Verdict
from pytest_gracekill.verdicts.moments import MOMENTS
from pytest_gracekill.witness.history import Event
from pytest_gracekill.witness.recording import Recording

if TYPE_CHECKING:
    from pytest_gracekill.render.picture import Lane

EVIDENCE = Path(__file__).parents[1] / "evidence"
SEED = EVIDENCE / "libvirt-0.9.10"
S = 1_000_000_000
ORIGIN = 50 * S


def at(seconds: float) -> int:
    return ORIGIN + round(seconds * S)


def event(seconds: float, kind: str, actor: str, **fields: object) -> Event:
    return Event(at_ns=at(seconds), kind=kind, actor=actor, fields=fields)


def hold(lock: str, actor: str, since: float, until: float | None) -> Event:
    released = None if until is None else at(until)
    return event(since, "hold", actor, lock=lock, released_ns=released, site=[])


def wait(lock: str, actor: str, since: float, until: float) -> Event:
    fields = {"lock": lock, "until_ns": at(until), "acquired": True, "timed": False, "site": []}
    return event(since, "wait", actor, **fields)


def signal(name: str, seconds: float, **more: object) -> Event:
    fields = {"signal": name, "target": "the VM", "refused": False, "errno": None, "held": []}
    return event(seconds, "signal", "MainThread", **{**fields, "site": "v.py:3 in stop", **more})


def flush(blocks: int, *, of: int, over: float) -> list[Event]:
    """So many blocks of a flush, from t+0."""
    return [
        event(over * (n + 1) / of, "block", "fake", index=n, generation=1) for n in range(blocks)
    ]


def killed_in_the_flush(*more: Event) -> list[Event]:
    """Half of the flush was done when SIGKILL came."""
    return [
        event(-0.2, "start", "fake", pid=7, blocks=8),
        event(-0.1, "ready", "fake"),
        event(0.0, "call", "MainThread"),
        signal("SIGTERM", 0.0),
        event(0.001, "signal", "fake", signal=15, pid=1),
        event(0.002, "flush_begin", "fake", blocks=8),
        *flush(4, of=8, over=2.0),
        signal("SIGKILL", 1.1),
        event(1.101, "gone", "fake", code=None, signal=9, by_trial=False),
        event(1.2, "return", "MainThread"),
        *more,
    ]


RECORD = Record(
    headline="gracekill: DATA LOST (4 of 8 blocks: 4-7)",
    ok=False,
    verdicts=(
        Verdict(
            name="data",
            status="broken",
            word="DATA LOST",
            evidence="blocks 4-7",
            moments=(Moment(word="DATA LOST", lane="fake", at_ns=at(1.1)),),
        ),
    ),
    flush_total=2.0,
    disk=Disk(blocks=8, acknowledged=8, damaged={"lost": (4, 5, 6, 7)}),
    calls=(
        Called(
            actor="MainThread",
            called_ns=ORIGIN,
            returned_ns=at(1.2),
            cut_off=False,
            told="returned None",
        ),
    ),
)


def saved(events: list[Event], record: Record = RECORD) -> Saved:
    events = sorted(events, key=lambda event: event.at_ns)
    return Saved(story=Recording(ORIGIN, events), record=record)


def picture(*more: Event, record: Record = RECORD) -> Picture:
    return picture_of(saved(killed_in_the_flush(*more), record))


def lane(drawn: Picture, key: str) -> Lane:
    found = drawn.lane(key)
    assert found is not None, [lane.key for lane in drawn.lanes]
    return found


def told(drawn: Picture, key: str) -> list[tuple[str, float, float]]:
    """The spans of a lane: kind, since, until."""
    return [(s.kind, round(s.since, 3), round(s.until, 3)) for s in lane(drawn, key).spans]


# -- lanes


def test_the_vm_is_acknowledged_flushing_killed_and_gone() -> None:
    drawn = picture()
    vm = lane(drawn, "fake")
    assert told(drawn, "fake")[:3] == [
        ("ready", -0.1, 0.002),
        ("flushing", 0.002, 1.101),
        ("lost", 1.101, 2.002),
    ]
    assert vm.spans[-1].kind == "gone"
    assert vm.progress is not None
    assert vm.progress.damaged == {"lost": ((4, 7),)}
    assert [vm.progress.at(moment) for moment in (0.0, 0.3, 0.6, 1.0, 2.0)] == [0, 1, 2, 4, 4]
    assert "lost: 4-7 (4 of 8 blocks); the flush would have ended at t+2.002" in vm.spans[2].text
    assert [mark.kind for mark in vm.marks] == ["taken", "killed"]
    assert vm.broken


def test_a_vm_that_ignores_the_request_is_seen_to_run_on() -> None:
    ignored = [
        event(-0.1, "ready", "fake"),
        event(0.0, "call", "MainThread"),
        event(0.001, "signal", "fake", signal=15, pid=1),
        event(0.4, "return", "MainThread"),
        event(0.5, "gone", "fake", code=None, signal=9, by_trial=True),
    ]
    drawn = picture_of(saved(ignored))
    assert told(drawn, "fake")[0] == ("ready", -0.1, 0.5)


def test_a_flush_of_minutes_leaves_room_for_what_has_happened() -> None:
    drawn = picture(record=replace(RECORD, flush_total=300.0))
    # until five times the return, and some air
    assert 6.0 <= drawn.end < 8.0
    assert "would have ended at t+300.002" in lane(drawn, "fake").spans[2].text
    assert ">the flush needed until t+300.002<" in svg(drawn)


def test_a_call_that_returns_at_once_has_one_label() -> None:
    early = replace(RECORD.calls[0], returned_ns=at(0.01))
    drawn = svg(picture(record=replace(RECORD, calls=(early,))))
    assert ">called t+0.000, returned t+0.010<" in drawn
    assert drawn.count(">called ") == 1
    assert ">returned t+1.200<" in svg(picture())


def test_the_vm_lingers_and_exits_by_itself() -> None:
    drawn = picture_of(
        saved(
            [
                event(0.0, "call", "MainThread"),
                event(0.0, "flush_begin", "fake", blocks=2),
                *flush(2, of=2, over=0.5),
                event(0.5, "flush_end", "fake"),
                event(0.9, "exit", "fake", code=0),
                event(0.91, "gone", "fake", code=0, signal=None, by_trial=False),
                event(0.95, "return", "MainThread"),
            ],
            Record(headline="gracekill: ok", ok=True),
        )
    )
    assert told(drawn, "fake")[:2] == [("flushing", 0.0, 0.5), ("lingering", 0.5, 0.9)]
    assert [mark.kind for mark in lane(drawn, "fake").marks] == ["exit"]


def test_the_flush_of_a_qmp_stop_is_not_that_of_the_end() -> None:
    drawn = picture_of(
        saved(
            [
                event(-0.5, "start", "fake", pid=7, blocks=4),
                event(-0.4, "ack", "fake", first=0, last=3, generation=1),
                event(-0.3, "ready", "fake"),
                event(-0.2, "flush_begin", "fake", blocks=4, reason="stop"),
                *(event(-0.2 + n / 100, "block", "fake", index=n, generation=1) for n in range(4)),
                event(-0.1, "flush_end", "fake", reason="stop"),
                event(-0.05, "ack", "fake", first=2, last=2, generation=2),
                event(0.0, "call", "MainThread"),
                event(0.1, "flush_begin", "fake", blocks=1, reason="exit"),
                event(0.5, "block", "fake", index=2, generation=2),
                event(0.5, "flush_end", "fake", reason="exit"),
                event(0.5, "exit", "fake", code=0),
                event(0.6, "return", "MainThread"),
            ],
            Record(headline="gracekill: ok", ok=True),
        )
    )
    progress = lane(drawn, "fake").progress
    assert ("flushing", 0.1, 0.5) in told(drawn, "fake")
    assert progress is not None
    assert progress.points == ((0.1, 3), (0.5, 4))


def test_what_the_trial_has_ended_has_lost_nothing() -> None:
    events = [e for e in killed_in_the_flush() if e.kind != "gone"]
    events.append(event(1.3, "gone", "fake", code=None, signal=9, by_trial=True))
    drawn = picture_of(saved(events))
    vm = lane(drawn, "fake")
    assert "lost" not in {span.kind for span in vm.spans}
    assert vm.progress is not None
    assert vm.progress.damaged == {}
    assert "lost" not in " ".join(drawn.story)
    assert "It still ran when the trial was over" in " ".join(drawn.story)


def test_signals_say_who_sent_which_to_whom_and_what_was_refused() -> None:
    drawn = picture(signal("SIGTERM", 0.5, refused=True, target="pid 0 (our own process group)"))
    marks = lane(drawn, "signals").marks
    assert [(mark.label, mark.bad) for mark in marks] == [
        ("SIGTERM", False),
        ("SIGTERM", True),
        ("SIGKILL", True),
    ]
    assert marks[1].text == (
        "SIGTERM to pid 0 (our own process group) by the routine, refused: it is no part of the"
        " trial, at v.py:3 in stop"
    )


def test_a_signal_to_another_process_is_not_shown_as_one_to_the_vm() -> None:
    drawn = picture(signal("SIGUSR1", 0.5, to="helper", target="a helper of the VM"))
    labels = [mark.label for mark in lane(drawn, "signals").marks]
    assert labels == ["SIGTERM", "SIGUSR1 elsewhere", "SIGKILL"]


def test_a_signal_to_another_process_does_not_hide_what_the_vm_got() -> None:
    events = [e for e in killed_in_the_flush() if e.actor == "fake"]
    events.append(signal("SIGTERM", 0.5, to="wrapper", target="the wrapper"))
    labels = [mark.label for mark in lane(picture_of(saved(events)), "signals").marks]
    assert labels == ["SIGTERM", "SIGTERM elsewhere"]


def test_a_signal_that_nobody_saw_being_sent_is_told_by_who_got_it() -> None:
    events = [e for e in killed_in_the_flush() if e.actor == "fake"]
    marks = lane(picture_of(saved(events)), "signals").marks
    assert [mark.text for mark in marks] == ["SIGTERM came to the VM from pid 1"]


@pytest.mark.parametrize(
    ("code", "busy", "kind"),
    [
        ("time.sleep(0.2)", 0.0, "sleeps"),
        ("process.wait(timeout)", 0.0, "stands"),
        ("while alive(pid): pass", 0.98, "works"),
    ],
)
def test_the_routine_sleeps_stands_or_works(code: str, busy: float, kind: str) -> None:
    site = [{"file": "/home/me/vmtool/process.py", "line": 7, "function": "destroy"}]
    stands = event(0.1, "stand", "MainThread", until_ns=at(1.0), busy=busy, code=code, site=site)
    drawn = picture(stands)
    (span,) = [s for s in lane(drawn, "routine").spans if s.kind == kind]
    assert (span.since, span.until) == (0.1, 1.0)
    assert span.text == f"{kind} for 0.900 s at vmtool/process.py:7 in destroy ({code})"


def test_the_routine_holds_waits_and_returns() -> None:
    drawn = picture(
        hold("driver", "MainThread", -0.01, 0.3),
        hold("domain vm", "MainThread", -0.01, 0.3),
        wait("driver", "MainThread", 1.11, 1.15),
        hold("driver", "gracekill:other-1", 1.0, 1.15),
    )
    spans = {s.kind: s for s in lane(drawn, "routine").spans}
    assert spans["holds"].text == "holds driver and domain vm from t-0.010 to t+0.300"
    assert spans["waits"].owner == "thread gracekill:other-1"
    assert spans["call"].text == "called at t+0.000, 1.200 s: returned None"
    assert [mark.kind for mark in lane(drawn, "routine").marks] == ["call", "return"]


def test_a_lock_has_its_owner_over_time() -> None:
    drawn = picture(
        hold("driver", "MainThread", 0.0, 0.4),
        hold("driver", "gracekill:other-1", 0.4, 0.9),
        hold("driver", "gracekill:same-1", 0.9, None),
    )
    spans = lane(drawn, "lock driver").spans
    assert [(s.owner, s.open) for s in spans] == [
        ("routine", False),
        ("thread gracekill:other-1", False),
        ("thread gracekill:same-1", True),
    ]


def stalled() -> Picture:
    """As in 0.9.11: one looks up the dying domain, and holds up everybody else."""
    return picture(
        hold("domain vm", "MainThread", 0.0, 1.2),
        hold("driver", "gracekill:list-1", 0.01, 1.2),
        wait("domain vm", "gracekill:list-1", 0.02, 1.2),
        wait("driver", "gracekill:other-1", 0.03, 1.21),
        event(
            -0.1,
            "operations",
            "gracekill:other-1",
            name="other-1",
            by_latency=False,
            spans=[[at(-0.1), at(-0.09)], [at(0.02), at(1.22)]],
        ),
    )


def test_a_wait_points_to_the_owner_and_the_chain_tells_why() -> None:
    drawn = stalled()
    (span,) = [s for s in lane(drawn, "thread gracekill:other-1").spans if s.kind == "stalls"]
    assert (span.lock, span.owner) == ("driver", "thread gracekill:list-1")
    assert span.text.startswith("other-1 stood still, waited 1.180 s for driver, held by list-1")
    because = [(link.source, link.lock, link.target) for link in drawn.links if link.because]
    assert because == [
        ("thread gracekill:other-1", "driver", "thread gracekill:list-1"),
        ("thread gracekill:list-1", "domain vm", "routine"),
    ]


def test_the_story_is_told_in_plain_words() -> None:
    story = " ".join(stalled().story)
    for words in (
        "asked to stop at t+0.001, and began to write its 8 blocks",
        "It was killed at t+1.101, with 4 of 8 blocks written: 4 of 8 blocks lost (4-7).",
        "The flush would have ended at t+2.002.",
        "2 of 2 other threads stood still (other-1, list-1)",
        "other-1 waited for driver, held by list-1; list-1 waited for domain vm, held by the",
    ):
        assert words in story, story


def test_an_operation_that_no_lock_explains_is_a_stall_where_latency_is_judged() -> None:
    spans = [[at(0.001 * n), at(0.001 * n + 0.0005)] for n in range(90)] + [[at(0.1), at(1.1)]]
    fields = {"name": "status", "spans": spans}
    kinds = [
        [s.kind for s in lane(drawn, "thread gracekill:status").spans]
        for drawn in (
            picture(event(0, "operations", "gracekill:status", by_latency=True, **fields)),
            picture(event(0, "operations", "gracekill:status", by_latency=False, **fields)),
        )
    ]
    assert kinds == [["stalls"], ["operation"]]


def test_moments_are_attached_to_their_lane() -> None:
    (finding,) = picture().findings
    (point,) = finding.points
    assert (point.lane, round(point.at, 3), point.word) == ("fake", 1.1, "DATA LOST")
    verdict = Verdict(
        name="outcome",
        status="broken",
        word="LIED",
        evidence="",
        moments=(Moment(word="LIED", lane="thread MainThread", at_ns=at(1.2), text="returned"),),
    )
    drawn = picture(record=Record(headline="", ok=False, verdicts=(verdict,), calls=RECORD.calls))
    assert [point.lane for point in drawn.findings[0].points] == ["routine"]
    assert lane(drawn, "routine").broken


# -- room


def crowd(threads: int, operations: int) -> Saved:
    """Threads that each take one lock again and again."""
    step = 1.2 / operations
    events = killed_in_the_flush()
    for n in range(threads):
        actor = f"gracekill:other-{n + 1}"
        spans = [(step * m, step * (m + 0.4)) for m in range(operations)]
        events += [hold("driver", actor, since, until) for since, until in spans]
        rows = [[at(since), at(until)] for since, until in spans]
        events.append(
            event(0, "operations", actor, name=f"other-{n + 1}", by_latency=False, spans=rows)
        )
    return saved(events)


def test_thousands_of_operations_are_a_density() -> None:
    drawn = picture_of(crowd(8, 2000))
    spans = sum(len(lane.spans) for lane in drawn.lanes)
    assert spans < 60
    busy = lane(drawn, "thread gracekill:other-1").density
    assert busy is not None
    assert busy.total == 2000
    held = lane(drawn, "lock driver").density if drawn.lane("lock driver") else None
    counted = held or lane(drawn, "locks").density
    assert counted is not None
    assert counted.total == 16_000
    text = svg(drawn)
    assert text.count("<g ") < 250
    assert len(text) < 100_000


def test_a_crowd_has_a_lane_for_all_that_have_no_lane() -> None:
    drawn = picture_of(crowd(100, 4))
    assert len(drawn.lanes) < 45
    assert drawn.left_out == ("77 more threads",)


# -- drawn, saved, read again


@pytest.mark.parametrize("make", [svg, html], ids=["svg", "page"])
def test_what_was_recorded_and_what_was_read_back_is_the_same_picture(
    tmp_path: Path, make: object
) -> None:
    assert callable(make)
    before = saved(killed_in_the_flush(hold("driver", "MainThread", 0.0, 0.4)))
    folder.write(tmp_path, before.story, before.record, "the table")
    assert make(picture_of(folder.load(tmp_path))) == make(picture_of(before))
    name = folder.PICTURE if make is svg else folder.PAGE
    assert (tmp_path / name).read_text(encoding="utf-8") == make(picture_of(before))


def test_evidence_of_old_is_drawn_the_same_by_every_python() -> None:
    """Drawn anew after a change of the drawing: python -m pytest_gracekill show DIR."""
    drawn = svg(picture_of(folder.load(SEED)))
    assert drawn == (SEED / folder.PICTURE).read_text(encoding="utf-8")


def test_the_seeds_first_picture_says_what_went_wrong() -> None:
    drawn = picture_of(folder.load(SEED))
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", svg(drawn))
    for words in (
        "LOST: blocks 42-63",
        "the flush needed until t+2.4",
        "SIGTERM t+0.00",
        "SIGKILL t+1.60",
        "holds driver and domain vm",
        "stood still 1.80",
        "held by the routine",
    ):
        assert words in text, words


def test_a_history_without_its_report_is_drawn_too(tmp_path: Path) -> None:
    before = saved(killed_in_the_flush())
    folder.write(tmp_path, before.story, before.record, RECORD.headline)
    (tmp_path / folder.REPORT).unlink()
    drawn = picture_of(folder.load(tmp_path))
    assert drawn.headline == RECORD.headline
    assert [lane.key for lane in drawn.lanes] == ["fake", "signals", "routine"]
    assert drawn.findings == ()
    assert "No verdicts were saved" in html(drawn)


def test_an_explored_failure_has_virtual_time_and_numbered_steps() -> None:
    told = [
        ("T0", "acquires a", 0.0),
        ("T1", "acquires b", 0.0),
        ("T0", "releases a", 0.0),
        ("T0", "sleeps 10 s", 10.0),
        ("T0", "acquires a", 10.0),
        ("T0", "waits for b (held by T1), and goes no further", 10.0),
        ("T1", "waits for a (held by T0), and goes no further", 10.0),
    ]
    steps = tuple(
        Step(number=n, task=task, operation=operation, line=f"f.py:{n}", at_ns=at(seconds))
        for n, (task, operation, seconds) in enumerate(told, start=1)
    )
    record = Record(
        headline="gracekill: DEADLOCK",
        ok=False,
        clock="virtual",
        steps=steps,
        facts={"token": "gk1-abc"},
    )
    drawn = picture_of(saved([], record))
    assert drawn.virtual
    assert [lane.key for lane in drawn.lanes] == ["lock a", "lock b", "thread T0", "thread T1"]
    # what happens at one instant has an order
    assert [(s.owner, s.open) for s in lane(drawn, "lock a").spans] == [
        ("thread T0", False),
        ("thread T0", True),
    ]
    assert [(s.owner, s.open) for s in lane(drawn, "lock b").spans] == [("thread T1", True)]
    assert [s.kind for s in lane(drawn, "thread T0").spans] == ["sleeps", "stalls"]
    chain = {(link.source, link.target) for link in drawn.links if link.because}
    assert chain == {("thread T0", "thread T1"), ("thread T1", "thread T0")}
    page = html(drawn)
    # a deadlock is no matter of seconds
    assert "stands still for ever: waits for b, held by T1" in page
    assert '<li value="4"><a class="go" href="#gk-step-4">t+10.000</a> T0: sleeps 10 s' in page
    assert "virtual time" in page
    # the steps of one instant are told apart
    places = re.findall(r'class="i numbered"[^>]*data-a="([\d.]+)"', page)
    assert len(set(places)) == 7
    assert [float(place) for place in places] == sorted(float(place) for place in places)


def test_the_page_tells_a_reason_once_and_calls_the_vm_by_its_name() -> None:
    moment = Moment(at_ns=at(1.0), lane="fake", word="KILLED EARLY", text="the kill")
    verdict = replace(RECORD.verdicts[0], moments=(moment,))
    why = {"locks": "no locks", "deadlock": "no locks", "identity": "no driver"}
    page = html(picture(record=replace(RECORD, verdicts=(verdict,), not_judged=why)))
    assert "Not judged: locks, deadlock (no locks); identity (no driver)" in page
    assert " VM</a>" in page
    assert " fake</a>" not in page


def test_no_text_breaks_the_drawing() -> None:
    wild = "\x00\x1b[31m <b>&\"'</script> ü \ud800 \U0001f600"
    verdict = Verdict(name="data", status="broken", word="TORN", evidence=wild, detail=(wild,))
    record = Record(headline=wild, ok=False, verdicts=(verdict,), title=wild, facts={wild: wild})
    drawn = picture(
        hold(wild, "MainThread", 0, 1),
        event(0.5, "raised", "MainThread", error=wild),
        record=record,
    )
    ET.fromstring(svg(drawn))
    page = html(drawn)
    assert page.count("</script>") == 1
    page.encode("utf-8")


def test_every_span_that_is_drawn_is_told_in_the_list_of_kinds() -> None:
    kinds = {s.kind for drawn in (picture(), stalled()) for lane in drawn.lanes for s in lane.spans}
    assert kinds <= set(SPANS)


# -- what is no evidence


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("no folder", "no evidence of a trial was saved there"),
        ("nothing", "has no history.jsonl"),
        ("history", "is not a history: line 1"),
        ("foreign", r'is not the report of a trial: it has no "format": "gracekill-report"'),
        ("version", "its version is 99, this one reads 1"),
        ("cut", "is not the report of a trial: it is no JSON"),
        ("field", "verdicts.0..status is .fine., not one of ok, broken, unknown"),
        ("missing", "calls.0..told is missing"),
    ],
)
def test_a_damaged_or_foreign_folder_is_one_clear_error(
    tmp_path: Path, damage: str, says: str
) -> None:
    path = tmp_path / "trial-1"
    if damage != "no folder":
        folder.write(path, saved(killed_in_the_flush()).story, RECORD, "the table")
    report, history = path / folder.REPORT, path / folder.HISTORY
    if damage == "nothing":
        history.unlink()
    elif damage == "history":
        history.write_text("{}\n")
    elif damage == "foreign":
        report.write_text("{}")
    elif damage == "cut":
        report.write_text(report.read_text()[:-20])
    elif damage in ("version", "field", "missing"):
        rows = json.loads(report.read_text())
        if damage == "version":
            rows["version"] = 99
        elif damage == "field":
            rows["verdicts"][0]["status"] = "fine"
        else:
            del rows["calls"][0]["told"]
        report.write_text(json.dumps(rows))
    with pytest.raises(UsageError, match=says) as raised:
        folder.load(path)
    assert str(path) in str(raised.value)


def test_every_word_has_its_moment() -> None:
    from docs.tables import WORDS

    assert set(MOMENTS) == {word for words in WORDS.values() for word in words} - {"ok", "unknown"}
