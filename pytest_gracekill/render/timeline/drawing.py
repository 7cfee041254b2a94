"""The whole timeline: axis, lanes, arrows from waits to owners, and a pin for each moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gracekill.render.picture import stamp
from pytest_gracekill.render.timeline import lanes as drawn
from pytest_gracekill.render.timeline.around import KEY_HEIGHT, head, key
from pytest_gracekill.render.timeline.canvas import LEFT, RIGHT, WIDTH, Canvas
from pytest_gracekill.render.timeline.look import style
from pytest_gracekill.render.timeline.marking import element, number, share, text
from pytest_gracekill.render.timeline.scale import scale_of, ticks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_gracekill.render.picture import Finding, Lane, Picture
    from pytest_gracekill.render.timeline.scale import Scale

_AXIS = 34
#: A share of the plot in which a label has no room on its left.
_NEAR = 0.06
#: Steps of a schedule that are drawn; the list beside the picture has all of them.
_STEPS = 300


def svg(
    picture: Picture, *, prefix: str = "gk", standalone: bool = True, scale: Scale | None = None
) -> str:
    """The timeline as SVG: a document of its own, or an element for a page.

    ``scale`` is that of several pictures, if it is not its own.
    The element has what a script needs to zoom: places instead of moments, and the knots between.
    """
    canvas = Canvas(scale_of(picture) if scale is None else scale, prefix)
    canvas.rows.update({lane.key: row for row, lane in enumerate(picture.lanes)})
    tops, bottom = _tops(picture)
    height = bottom + KEY_HEIGHT
    body = "".join(_body(picture, canvas, tops, bottom)) + "".join(key(bottom))
    title = element("title", text(picture.headline), id=f"{prefix}-title")
    described = element("desc", text(_described(picture)), id=f"{prefix}-desc")
    attributes: dict[str, str | float | None] = {
        "class_": "gk",
        "role": "img" if standalone else "group",
        "aria_labelledby": f"{prefix}-title",
        "aria_describedby": f"{prefix}-desc",
    }
    if standalone:
        above, by = head(picture, broken(picture))
        height += by
        back = element("rect", width=WIDTH, height=height, class_="back")
        body = f"{back}{above}{element('g', body, transform=f'translate(0 {number(by)})')}"
        attributes |= {"xmlns": "http://www.w3.org/2000/svg", "width": WIDTH, "height": height}
    else:
        body = element("rect", width=WIDTH, height=height, class_="back") + body
        knots = ";".join(f"{share(place)},{at:.9g}" for at, place in canvas.scale.knots)
        rows = ";".join(
            f"{number(tops[lane.key])},{drawn.HEIGHTS[lane.kind]}" for lane in picture.lanes
        )
        attributes |= {"id": prefix, "data_knots": knots, "data_rows": rows}
        attributes |= {"data_left": LEFT, "data_right": RIGHT}
    attributes["viewBox"] = f"0 0 {WIDTH} {number(height)}"
    sheet = element("style", style("gk")) if standalone else ""
    return _element("svg", f"{title}{described}{sheet}{body}", attributes)


def _element(name: str, inner: str, attributes: dict[str, str | float | None]) -> str:
    return element(name, inner, **attributes)


def _tops(picture: Picture) -> tuple[dict[str, float], float]:
    tops, top = {}, float(_AXIS)
    for lane in picture.lanes:
        tops[lane.key] = top
        top += drawn.HEIGHTS[lane.kind]
    return tops, top


def _described(picture: Picture) -> str:
    """The picture in words, for whoever cannot see it."""
    told = [*picture.story]
    told += [f"{lane}." for lane in picture.lanes]
    return " ".join(told)


def _body(picture: Picture, canvas: Canvas, tops: dict[str, float], bottom: float) -> Iterator[str]:
    prefix = canvas.prefix
    yield _definitions(prefix, bottom)
    yield from _bands(picture, tops)
    clip = f"url(#{prefix}-clip)"
    yield element("g", "".join(_behind(picture, canvas, bottom)), clip_path=clip)
    for lane in picture.lanes:
        yield drawn.gutter(lane, tops[lane.key])
    names = {lane.key: lane.name for lane in picture.lanes}
    points = [point for finding in broken(picture) for point in finding.points]
    items = ""
    for lane in picture.lanes:
        pinned = {point.at for point in points if point.lane == lane.key}
        parts = drawn.draw(canvas, lane, tops[lane.key], names, pinned)
        items += element("g", "".join(parts), class_="lane")
    yield element("g", items, clip_path=clip, class_="items")
    front = [*_arrows(picture, canvas, tops), *_steps(picture, canvas, tops)]
    front += _pins(picture, canvas, tops)
    yield element("g", "".join(front), clip_path=clip, class_="front")


def _definitions(prefix: str, bottom: float) -> str:
    hatch = element(
        "pattern",
        element("rect", width=8, height=8, class_="hatch-ground")
        + element("path", d="M0 0V8", class_="hatch"),
        id=f"{prefix}-hatch",
        patternUnits="userSpaceOnUse",
        width=8,
        height=8,
        patternTransform="rotate(45)",
    )
    clip = element(
        "clipPath",
        element("rect", x=LEFT - 1, width=WIDTH - LEFT + 1, height=bottom),
        id=f"{prefix}-clip",
    )
    head = element(
        "marker",
        element("path", d="M0 0L8 4L0 8z", class_="head"),
        id=f"{prefix}-head",
        markerWidth=8,
        markerHeight=8,
        refX=7,
        refY=4,
        orient="auto",
        markerUnits="userSpaceOnUse",
    )
    rule = element(
        "style", f".hatched{{fill:url(#{prefix}-hatch)}}.arrow{{marker-end:url(#{prefix}-head)}}"
    )
    return element("defs", hatch + clip + head) + rule


def _bands(picture: Picture, tops: dict[str, float]) -> Iterator[str]:
    for row, lane in enumerate(picture.lanes):
        if row % 2 == 0:
            yield element(
                "rect",
                y=tops[lane.key],
                width=WIDTH,
                height=drawn.HEIGHTS[lane.kind],
                class_="band",
            )


def _behind(picture: Picture, canvas: Canvas, bottom: float) -> Iterator[str]:
    """The axis, its grid, and the time of the call."""
    scale = canvas.scale
    if picture.returned is not None and picture.returned > 0:
        since, until = scale.place(0.0), scale.place(picture.returned)
        box = f"M{share(since)} {_AXIS}H{share(until)}V{number(bottom)}H{share(since)}z"
        yield canvas.stretched(box, "during")
    lines = ""
    for at, label in ticks(scale):
        shape = element("path", d=f"M0 {_AXIS}V{number(bottom)}", class_="grid")
        shape += element("text", text(label), y=_AXIS - 8, class_="tick")
        lines += canvas.still(at, shape, "t")
    yield element("g", lines, class_="grid-lines")
    if picture.returned is None:
        return
    marks = [mark for lane in picture.lanes for mark in lane.marks]
    cut = any(mark.kind == "cut off" and mark.at == picture.returned for mark in marks)
    ends = {"called": 0.0, "cut off" if cut else "returned": picture.returned}
    told = {name: f"{name} {stamp(at)}" for name, at in ends.items()}
    # where there is no room for both, the second one says both
    near = scale.place(picture.returned) - scale.place(0.0) < 2 * _NEAR
    if near:
        told = dict(zip(ends, ("", ", ".join(told.values())), strict=True))
    for name, at in ends.items():
        shape = element("path", d=f"M0 14V{number(bottom)}", class_="line dashed")
        # at the left end there is no room on both sides of it
        middle = canvas.scale.place(at) > _NEAR and not near
        shape += element(
            "text",
            text(told[name]),
            x=0 if middle else 4,
            y=8,
            class_="dim tick" if middle else "dim",
        )
        yield canvas.still(at, shape, "edge")


def _arrows(picture: Picture, canvas: Canvas, tops: dict[str, float]) -> Iterator[str]:
    """Why somebody stood still: from each wait of the longest chain to the owner of its lock."""
    middles = {lane.key: tops[lane.key] + _anchor(lane) for lane in picture.lanes}
    for number_, link in enumerate(link for link in picture.links if link.because):
        at = link.since + (link.until - link.since) * (0.5 + 0.06 * number_)
        since, until = middles[link.source], middles[link.target]
        bow = 26 + 10 * number_
        shape = element(
            "path",
            d=f"M0 {number(since)}C{bow} {number(since)} {bow} {number(until)} 3 {number(until)}",
            class_="arrow",
        )
        yield canvas.still(at, shape, "why")


def _anchor(lane: Lane) -> float:
    """Where an arrow meets a lane."""
    return 32.0 if lane.kind == "routine" else drawn.HEIGHTS[lane.kind] / 2


def _steps(picture: Picture, canvas: Canvas, tops: dict[str, float]) -> Iterator[str]:
    for step in picture.steps[:_STEPS]:
        top = tops.get(step.lane)
        if top is None:
            continue
        # on the upper edge: the words are in the middle
        shape = element("circle", cy=top + 4, r=6.5, class_="flag")
        shape += element("text", str(step.number), y=top + 4.5, class_="tick step")
        yield canvas.mark(
            at=step.at,
            title=str(step),
            lane=step.lane,
            shape=shape,
            kind="numbered",
            id_=f"{canvas.prefix}-step-{step.number}",
        )


def _pins(picture: Picture, canvas: Canvas, tops: dict[str, float]) -> Iterator[str]:
    """The number of each broken verdict, at its moments."""
    for number_, finding in enumerate(broken(picture), start=1):
        for place, point in enumerate(finding.points):
            top = tops.get(point.lane)
            if top is None:
                continue
            lane = picture.lane(point.lane)
            y = top + (drawn.HEIGHTS["thread" if lane is None else lane.kind]) / 2
            # beside what it is about: at its left
            x = -16 if point.lane == "signals" else -10
            shape = element("circle", cx=x, cy=y, r=8, class_="pin")
            shape += element("text", str(number_), x=x, y=y + 0.5, class_="pin-text")
            yield canvas.mark(
                at=point.at,
                title=f"{number_}. {point}",
                lane=point.lane,
                shape=shape,
                kind="pinned",
                id_=f"{canvas.prefix}-{finding.name}-{place}",
            )


def broken(picture: Picture) -> list[Finding]:
    """The verdicts that are not ok, in their order: their numbers are those of the pins."""
    return [finding for finding in picture.findings if finding.status != "ok"]
