"""The picture in a terminal: 20 lines of 100 columns, in signs that the terminal has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pytest_gracekill.render import folder
from pytest_gracekill.render.picture import Finding, Lane, Mark, Picture, Point, Span, picture_of
from pytest_gracekill.render.terminal import COLUMNS, LINES, terminal
from pytest_gracekill.render.terminal.ink import FINE, PLAIN, Ink, ink_for

SEED = Path(__file__).parents[1] / "evidence" / "libvirt-0.9.10"

#: What a terminal shows of libvirt's kill routine of 2012, and of a flush that takes longer.
SEEN = """\
                   t+0             t+0.5          t+1.0           t+1.5           t+2.0
                   34                                                 12
VM                := flushed 42 of 64 blocks =========================| lost: blocks 42-63 xxxxx
signals            |SIGTERM                                           |SIGKILL
the routine        -z sleeps 1.710 s zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz|return
lock driver       .R the routine, 1.804 s RRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRR
lock domain vm    .R the routine, 1.804 s RRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRRR
other-1           .! stood still 1.805 s for driver, held by the routine !!!!
same-1            .! stood still 1.805 s for driver, held by the routine !!!!
list-1            .! stood still 1.806 s for driver, held by the routine !!!!
define-1          .! stood still 1.805 s for driver, held by the routine !!!!
other-2           .! stood still 1.804 s for driver, held by the routine !!!!
same-2            .! stood still 1.804 s for driver, held by the routine !!!!
list-2            .! stood still 1.804 s for driver, held by the routine !!!!
2 more           4 more locks, eof-1
1 t+1.603 DATA LOST: blocks 42-63 acknowledged, never on disk; last durable: 41 at t+1.577
2 t+1.603 KILLED EARLY: SIGTERM t+0.001, SIGKILL t+1.603; the flush needed 2.40 s, the grace was...
3 t+0.000 HELD OVER WAIT: driver held for 1.804 s of the wait (since the call), wanted meanwhile...
4 t+0.000 STALLED: 7 of 8 contenders stood still; define-1 for 1.804 s of 1.804 s
= flushing  x lost  z sleeps  w waits  ! stands still  R the routine holds  o others hold  .: many
"""


@pytest.fixture(scope="module")
def seed() -> Picture:
    return picture_of(folder.load(SEED))


def blank(*lanes: Lane, findings: tuple[Finding, ...] = ()) -> Picture:
    """A second of nothing but these lanes."""
    return Picture(
        title="",
        headline="gracekill: ok",
        ok=not findings,
        begin=0.0,
        end=1.0,
        returned=None,
        virtual=False,
        findings=findings,
        not_judged={},
        lanes=lanes,
    )


def lane(name: str, *spans: Span, marks: tuple[Mark, ...] = (), broken: bool = False) -> Lane:
    return Lane(
        key=f"thread {name}",
        kind="contender",
        name=name,
        summary="",
        spans=spans,
        marks=marks,
        broken=broken,
    )


def span(since: float, until: float, kind: str) -> Span:
    return Span(since=since, until=until, kind=kind, text=kind)


def finding(number: int, **more: object) -> Finding:
    point = Point(word=f"WORD {number}", lane="thread a", at=0.5, until=None, text="")
    found = Finding(
        name="data",
        status="broken",
        word=f"WORD {number}",
        also=(),
        evidence="for a reason",
        detail=(),
        advice="",
        points=(point,),
    )
    return replace(found, **more)  # type: ignore[arg-type]


def row(text: str, name: str) -> str:
    """What is drawn behind a name."""
    return next(line[17:] for line in text.splitlines() if line.startswith(name))


def test_saved_evidence_is_drawn_the_same_by_every_python(seed: Picture) -> None:
    assert terminal(seed) + "\n" == SEEN


def test_the_same_in_fine_signs(seed: Picture) -> None:
    fine, plain = terminal(seed, FINE).splitlines(), SEEN.splitlines()
    # the same at the same places: only the signs differ
    assert [len(line) for line in fine[:15]] == [len(line) for line in plain[:15]]
    for words in ("flushed 42 of 64 blocks", "lost: blocks 42-63"):
        assert fine[2].index(words) == plain[2].index(words)
    assert "▓" in fine[2]
    assert "×" in fine[2]  # noqa: RUF001 - the sign
    assert "█" in fine[5]


@pytest.mark.parametrize("ink", [PLAIN, FINE], ids=str)
def test_however_much_there_is_it_has_room(ink: Ink) -> None:
    lanes = [lane(f"thread-{n}-of-a-name-that-is-long", span(0.1, 0.9, "waits")) for n in range(60)]
    findings = tuple(finding(n, evidence="long " * 60) for n in range(9))
    lines = terminal(blank(*lanes, findings=findings), ink).splitlines()
    assert len(lines) == LINES
    assert max(map(len, lines)) == COLUMNS
    assert sum(line.startswith("thread-") for line in lines) == 11
    assert row("\n".join(lines), "49 more").startswith("thread-11-of")
    assert "and 5 more verdicts" in lines


def test_what_is_broken_has_its_row_before_others() -> None:
    lanes = [lane(f"quiet-{n}") for n in range(30)]
    told = terminal(blank(*lanes, lane("culprit", span(0.2, 0.8, "stalls"), broken=True)))
    assert "!" * 10 in row(told, "culprit")


def test_a_span_takes_its_share_of_the_row() -> None:
    told = row(terminal(blank(lane("a", span(0.25, 0.75, "waits")))), "a ")
    first, last = told.index("w"), told.rindex("w")
    assert (first, last) == (20, 62)
    # and however short it is, it is seen
    assert row(terminal(blank(lane("a", span(0.5, 0.5, "waits")))), "a ").strip() == "w"


def test_a_number_stands_where_the_word_shows() -> None:
    told = terminal(blank(lane("a"), findings=(finding(1), finding(2)))).splitlines()
    assert told[1] == " " * (17 + 41) + "12"
    assert "1 t+0.500 WORD 1: for a reason" in told
    assert "2 t+0.500 WORD 2: for a reason" in told


def test_marks_have_their_words_where_there_is_room() -> None:
    def mark(at: float, words: str) -> Mark:
        return Mark(at=at, kind="signal", label=words, text=words)

    signals = replace(
        lane("s", marks=(mark(0.1, "SIGTERM"), mark(0.5, "SIGHUP"), mark(0.52, "SIGKILL"))),
        kind="signals",
        name="signals",
    )
    told = row(terminal(blank(signals)), "signals")
    # behind its mark, or before it
    assert told == " " * 8 + "|SIGTERM" + " " * 19 + "SIGHUP| |SIGKILL"


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", FINE),
        ("UTF8", FINE),
        ("ascii", PLAIN),
        ("latin-1", PLAIN),
        (None, PLAIN),
        ("?", PLAIN),
    ],
)
def test_signs_are_those_that_the_terminal_has(encoding: str | None, expected: Ink) -> None:
    assert ink_for(encoding) is expected


@pytest.mark.parametrize("ink", [PLAIN, FINE], ids=str)
def test_no_name_disturbs_the_terminal(ink: Ink) -> None:
    told = terminal(
        blank(lane("a\x1b[2J\n\u202e\u4e2d"), findings=(finding(1, evidence="b\x1b\r"),)), ink
    )
    assert "\x1b" not in told
    assert "\r" not in told
    assert told.splitlines()[2] == "a?[2J???"
    assert told.splitlines()[3:] == ["1 t+0.500 WORD 1: b??"]


def test_plain_is_ascii_whatever_the_names_are() -> None:
    told = terminal(blank(lane("Kläranlage", span(0, 1, "waits"))), PLAIN)
    assert told.isascii()
    assert "Kl?ranlage" in told
    assert "Kläranlage" in terminal(blank(lane("Kläranlage")), FINE)
