"""Text of objects that are not ours: escaped, cut, and never an exception."""

from __future__ import annotations

import pytest

from pytest_gracekill.legible import error_text, escape, single_line, text_of
from pytest_gracekill.report import Call, Verdict


def no_name(_cls: type) -> str:
    raise RuntimeError("no name")


Meta = type("Meta", (type,), {"__name__": property(no_name)})


class Hostile(metaclass=Meta):  # type: ignore[metaclass]
    @property  # type: ignore[misc] # as a proxy without its object
    def __class__(self) -> type:
        raise RuntimeError("no class")

    def __bool__(self) -> bool:
        raise RuntimeError("no truth")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no equal")

    __hash__ = None  # type: ignore[assignment] # as Python does

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class HostileError(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


class NoTextError(Exception):
    def __str__(self) -> str:
        return None  # type: ignore[return-value] # noqa: PLE0307 - hostile


class EmptyError(Exception):
    """One that holds others, as a multi-error does, and is false without any."""

    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain, ü, 漢, \N{PARTY POPPER}, a\tb\nc", "plain, ü, 漢, \N{PARTY POPPER}, a\tb\nc"),
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x00\x07\x08\x0b\x0c\r\x7f", r"\x00\x07\x08\x0b\x0c\r\x7f"),
        ("\x9b31m\x85", r"\x9b31m\x85"),
        ("\u202eback\u2066\u2028", r"\u202eback\u2066\u2028"),
        ("\udcff", r"\udcff"),
    ],
)
def test_control_characters_are_escaped_once(text: str, escaped: str) -> None:
    assert escape(text) == escaped
    assert escape(escaped) == escaped
    assert text_of(text) == escaped
    escaped.encode()


def test_long_texts_keep_both_ends() -> None:
    text = text_of("a" * 10_000 + "z" * 10_000)
    assert text == f"{'a' * 700} ... (19,000 more characters) ... {'z' * 300}"
    assert text_of("x" * 1000) == "x" * 1000
    assert len(error_text(ValueError("\x00" * 1_000_000))) < 5_000


def test_what_has_no_text_is_named() -> None:
    assert text_of(Hostile()) == "<Hostile whose text raises RuntimeError>"
    assert error_text(HostileError()) == "HostileError: <HostileError whose text raises SystemExit>"
    assert error_text(NoTextError()) == "NoTextError: <NoTextError whose text raises TypeError>"
    assert error_text(EmptyError("two", 1)) == "EmptyError: ('two', 1)"
    assert error_text(KeyboardInterrupt()) == "KeyboardInterrupt"


def test_calls_and_verdicts_are_legible() -> None:
    returned = Call(success=True, result=Hostile(), error=None, elapsed=0.1)
    assert str(returned) == "returned <Hostile whose text raises RuntimeError>"
    raised = Call(success=False, result=None, error=EmptyError("\x1b]0;title\x07"), elapsed=0.1)
    assert str(raised) == r"raised EmptyError: \x1b]0;title\x07"
    verdict = Verdict(
        name="outcome",
        status="broken",
        word="RAISED",
        evidence="\x1b[2J",
        detail=("at \x07",),
        advice="\x1b[1m",
        summary="(\x1b)",
    )
    assert (verdict.evidence, verdict.detail) == (r"\x1b[2J", (r"at \x07",))
    assert (verdict.advice, verdict.summary) == (r"\x1b[1m", r"(\x1b)")


def test_a_single_line() -> None:
    assert single_line("a\n  b\tc", 10) == "a b c"
    assert single_line("abcdefghij", 8) == "abcde..."
