"""The parts of a page beside its picture: the table of verdicts, the steps, all of it in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.render.picture import stamp
from pytest_gracekill.render.text import reasons
from pytest_gracekill.render.timeline.drawing import broken
from pytest_gracekill.render.timeline.marking import text
from pytest_gracekill.render.timeline.words import told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gracekill.render.picture import Finding, Lane, Picture

#: Moments of one verdict that are linked, and things of one lane that are told.
_MOMENTS = 8
_TOLD = 10
_STEPS = 2000


def findings(picture: Picture) -> str:
    """The table of verdicts; a broken one leads to its moments."""
    if not picture.findings:
        return "<section><h2>Verdicts</h2><p>No verdicts were saved.</p></section>"
    numbers = {finding.name: n for n, finding in enumerate(broken(picture), start=1)}
    drawn = {lane.key for lane in picture.lanes}
    rows = "".join(_row(finding, numbers.get(finding.name), drawn) for finding in picture.findings)
    not_judged = reasons(picture.not_judged)
    more = f'<p class="about">Not judged: {text(not_judged)}</p>' if not_judged else ""
    return (
        "<section><h2>Verdicts</h2><table><caption>The number of a broken verdict is that of its"
        " marks in the timeline.</caption><thead><tr>"
        '<th scope="col">verdict</th><th scope="col">word</th><th scope="col">evidence</th></tr>'
        f"</thead><tbody>{rows}</tbody></table>{more}</section>"
    )


def _row(finding: Finding, number: int | None, drawn: set[str]) -> str:
    word = ", ".join((finding.word, *finding.also))
    links = [
        f'<a class="go" href="#gk-{finding.name}-{place}">{text(_moment(finding, place))}</a>'
        for place, point in enumerate(finding.points)
        if point.lane in drawn
    ]
    first = next((n for n, point in enumerate(finding.points) if point.lane in drawn), None)
    pin = "" if number is None else f'<span class="pin">{number}</span> '
    shown = text(word)
    if first is not None:
        shown = f'<a class="go" href="#gk-{finding.name}-{first}">{shown}</a>'
    told_ = f"<p>{text(finding.evidence)}</p>"
    if finding.detail:
        told_ += f"<pre>{text(chr(10).join(finding.detail))}</pre>"
    if finding.advice:
        told_ += f'<p class="advice">{text(finding.advice)}</p>'
    if links:
        rest = len(links) - _MOMENTS
        more = f" and {rest} more" if rest > 0 else ""
        told_ += f'<p class="moments">To see: {" ".join(links[:_MOMENTS])}{more}</p>'
    return (
        f'<tr class="{finding.status}"><th scope="row">{text(finding.name)}</th>'
        f'<td class="word">{pin}{shown}</td><td>{told_}</td></tr>'
    )


def _moment(finding: Finding, place: int) -> str:
    point = finding.points[place]
    lane = "VM" if point.lane == "fake" else point.lane
    lane = lane.removeprefix("thread ").removeprefix("gracekill:")
    return f"{stamp(point.at)} {lane}"


def steps(picture: Picture) -> str:
    """The schedule, step by step."""
    rows = []
    for step in picture.steps[:_STEPS]:
        at = f"{stamp(step.at)} "
        where = f" <span>({text(step.line)})</span>" if step.line else ""
        told_ = f"{text(step.task)}: {text(step.operation)}{where}"
        if picture.lane(step.lane) is not None and step.number <= len(picture.steps):
            at = f'<a class="go" href="#gk-step-{step.number}">{at.strip()}</a> '
        rows.append(f'<li value="{step.number}">{at}{told_}</li>')
    more = len(picture.steps) - _STEPS
    left = f"<p>and {more} more steps</p>" if more > 0 else ""
    return f'<section><h2>The schedule</h2><ol class="steps">{"".join(rows)}</ol>{left}</section>'


def words(picture: Picture) -> str:
    """All that is drawn, in words."""
    lanes = "".join(_lane(lane) for lane in picture.lanes)
    return f'<section class="words"><h2>The timeline in words</h2>{lanes}</section>'


def _lane(lane: Lane) -> str:
    told_ = list(_told(lane))
    shown = "".join(f"<li>{text(line)}</li>" for line in told_[:_TOLD])
    more = f"<li>and {len(told_) - _TOLD} more</li>" if len(told_) > _TOLD else ""
    items = f"<ul>{shown}{more}</ul>" if told_ else ""
    return f"<h3>{text(lane.name)}</h3><p>{text(lane.summary)}</p>{items}"


def _told(lane: Lane) -> Iterator[str]:
    """What is drawn in a lane, by time; the longest first where there is not room for all."""
    things = [(span.since, span.seconds, str(span)) for span in lane.spans if span.kind != "call"]
    things += [(mark.at, 1e9, str(mark)) for mark in lane.marks]
    kept = sorted(things, key=lambda thing: -thing[1])[:_TOLD]
    yield from (line for _, _, line in sorted(kept))
    if lane.density is not None:
        yield told(lane.density)
    for _ in range(len(things) - len(kept)):
        yield ""
