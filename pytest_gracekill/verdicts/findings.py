"""Several findings of one verdict, folded: the first gives the word and the advice."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from pytest_gracekill.report import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

#: A word, its evidence, and what to change.
Finding: TypeAlias = "tuple[str, str, str]"


def folded(name: str, findings: Iterable[Finding | None], before: str = "") -> Verdict | None:
    """The broken verdict of what was found, the worst first; None when nothing was.

    :param before: what the evidence begins with.
    """
    found = [finding for finding in findings if finding is not None]
    if not found:
        return None
    word, _, advice = found[0]
    return Verdict(
        name=name,
        status="broken",
        word=word,
        also=tuple(other for other, _, _ in found[1:]),
        evidence=before + "; ".join(text for _, text, _ in found),
        advice=advice,
    )
