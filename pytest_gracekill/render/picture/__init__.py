"""One model of the picture of a trial: made of what was saved; page, terminal and trace draw it."""

from __future__ import annotations

from pytest_gracekill.render.picture.compose import picture_of
from pytest_gracekill.render.picture.records import (
    MARKS,
    SPANS,
    Density,
    Finding,
    Lane,
    Link,
    Mark,
    NumberedStep,
    Picture,
    Point,
    Progress,
    Span,
    stamp,
)

__all__ = [
    "MARKS",
    "SPANS",
    "Density",
    "Finding",
    "Lane",
    "Link",
    "Mark",
    "NumberedStep",
    "Picture",
    "Point",
    "Progress",
    "Span",
    "picture_of",
    "stamp",
]
