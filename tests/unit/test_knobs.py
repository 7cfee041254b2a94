"""Every knob has its limits, and a wrong value is told by name, value, limit and source."""

import dataclasses
import math
import signal

import pytest

from pytest_gracekill.child.knobs import MEANINGS, Crash, Knobs, Stall, Stop
from pytest_gracekill.errors import UsageError

WRONG: list[tuple[str, object]] = [
    *(
        (name, bad)
        for name in ("flush_time", "linger", "ready_after", "reaper_delay")
        for bad in (-0.1, math.nan, math.inf, -math.inf, True, "1", None, 1e9, 10**400)
    ),
    *(
        (name, bad)
        for name in ("blocks", "exit_status", "helpers", "seed")
        for bad in (-1, 2**40, 1.0, True, "1", None)
    ),
    ("blocks", 0),
    ("blocks", 65537),
    ("exit_status", 256),
    ("helpers", 65),
    ("seed", 2**32),
    *(("block_size", bad) for bad in (0, 511, 513, 2 << 20, 4096.0, True, -512)),
    *((name, bad) for name in ("torn", "disk_lock") for bad in (0, 1, "yes", None)),
    *(
        (name, bad)
        for name in ("guest", "on_second_term", "inherit", "topology", "on_term", "flush_profile")
        for bad in ("", "Flush", "kill", 3, None, ["flush"], True)
    ),
    ("on_term", Crash(at=3)),
    ("on_term", Crash(at=3, exit=1, signal=9)),
    ("on_term", Crash(at=3, exit=256)),
    ("on_term", Crash(at=3, signal=0)),
    ("on_term", Crash(at=3, signal=999)),
    ("on_term", Crash(at=3, signal=int(signal.SIGCHLD))),
    ("on_term", Crash(at=3, signal=int(signal.SIGSTOP))),
    ("on_term", Crash(at=64, exit=1)),
    ("on_term", Crash(at=-1, exit=1)),
    ("on_term", Crash(at=True, exit=1)),
    ("on_term", Stop(at=64)),
    ("on_term", Stop(at="3")),  # type: ignore[arg-type]
    ("on_term", Stall(at=3, seconds=1)),
    ("flush_profile", Stall(at=64, seconds=1)),
    ("flush_profile", Stall(at=3, seconds=-1)),
    ("flush_profile", Stall(at=3, seconds=math.nan)),
    ("flush_profile", Stall(at=3.0, seconds=1)),  # type: ignore[arg-type]
    ("flush_profile", Stop(at=3)),
    *(("helper", bad) for bad in ({"sessions"}, "session", 3, None, [["session"]], {1})),
]

CONTRADICTIONS: list[dict[str, object]] = [
    {"helper": {"session"}},
    {"helper": {"holds_lock"}, "helpers": 1, "disk_lock": False},
    {"on_term": Crash(at=1, exit=1), "flush_profile": "never"},
    {"on_term": Stop(at=1), "flush_profile": "never"},
    {"on_second_term": "abort", "on_term": "ignore"},
    {"on_second_term": "restart", "on_term": "refuse"},
    {"ready_after": 0.1, "on_term": "default"},
    {"blocks": 8, "on_term": Stop(at=8)},
    {"blocks": 8, "flush_profile": Stall(at=8, seconds=1)},
]


@pytest.mark.parametrize(("name", "bad"), WRONG, ids=lambda part: f"{part}"[:30])
def test_a_wrong_value_is_a_usage_error_that_says_all(name: str, bad: object) -> None:
    source = "marker gracekill of test_x"
    with pytest.raises(UsageError) as raised:
        Knobs.from_values({"helpers": 1, name: bad}, {name: source})
    said = str(raised.value)
    assert name in said
    assert source in said
    assert (str(bad) if isinstance(bad, Crash | Stall | Stop) else repr(bad)[:40]) in said.replace(
        "{'", '{"'
    ).replace("'}", '"}') or isinstance(bad, set)
    with pytest.raises(UsageError, match=r"from the call"):
        Knobs(**{name: bad})  # type: ignore[arg-type]


@pytest.mark.parametrize("values", CONTRADICTIONS, ids=str)
def test_knobs_that_contradict_each_other_are_named_with_their_sources(
    values: dict[str, object],
) -> None:
    sources = dict.fromkeys(values, "gracekill.ini")
    with pytest.raises(UsageError, match=r"gracekill\.ini") as raised:
        Knobs.from_values(values, sources)
    assert len([name for name in values if f"{name}=" in str(raised.value)]) >= min(2, len(values))


def test_an_unknown_knob_is_answered_with_a_close_one() -> None:
    with pytest.raises(UsageError, match=r"flush_tme: did you mean flush_time\? \(from --x\)"):
        Knobs.from_values({"flush_tme": 1}, {"flush_tme": "--x"})
    with pytest.raises(UsageError, match="there are flush_time, blocks"):
        Knobs.from_values({"zzz": 1})


@pytest.mark.parametrize(
    "values",
    [
        {"flush_time": 0},
        {"blocks": 65536},
        {"block_size": 512},
        {"block_size": 1 << 20},
        {"on_term": Crash(at=63, signal=signal.SIGSEGV)},
        {"on_term": Crash(at=0, signal=int(signal.SIGRTMAX))},
        {"on_term": Crash(at=0, exit=0)},
        {"flush_profile": Stall(at=0, seconds=0)},
        {"helpers": 1, "helper": ["session", "holds_lock"]},
        {"seed": 2**32 - 1},
        {"exit_status": 255},
    ],
    ids=str,
)
def test_values_at_the_limits_are_right(values: dict[str, object]) -> None:
    knobs = Knobs.from_values(values)
    for name, value in values.items():
        assert getattr(knobs, name) == (frozenset(value) if isinstance(value, list) else value)


def test_times_are_floats_however_they_were_given() -> None:
    assert repr(Knobs(flush_time=2, linger=1).flush_time) == "2.0"


def test_every_knob_has_a_meaning_for_people() -> None:
    assert set(MEANINGS) == {field.name for field in dataclasses.fields(Knobs)}


def test_the_text_of_knobs_is_what_is_not_default() -> None:
    assert str(Knobs()) == "Knobs()"
    knobs = Knobs(flush_time=2.4, helpers=1, helper=frozenset({"session"}), on_term=Stop(at=3))
    assert str(knobs) == 'Knobs(flush_time=2.4, on_term=Stop(at=3), helpers=1, helper={"session"})'


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        ({}, True),
        ({"on_second_term": "restart", "torn": True, "exit_status": 3}, True),
        ({"flush_profile": Stall(at=1, seconds=1)}, True),
        ({"flush_profile": "slowing"}, True),
        ({"flush_profile": "never"}, False),
        ({"inherit": "ignored"}, True),
        ({"inherit": "ignored", "ready_after": 1}, False),
        ({"inherit": "blocked"}, False),
        ({"on_term": "ignore"}, False),
        ({"on_term": "default"}, False),
        ({"on_term": "exit"}, False),
        ({"on_term": "refuse"}, False),
        ({"on_term": Crash(at=1, exit=0)}, False),
        ({"on_term": Stop(at=1)}, False),
    ],
    ids=str,
)
def test_ends_by_itself(values: dict[str, object], ends: bool) -> None:  # noqa: FBT001  # a parameter
    assert Knobs.from_values(values).ends_by_itself is ends


def test_the_whole_flush_counts_the_stall_and_has_no_end_when_there_is_none() -> None:
    assert Knobs(flush_time=2).flush_total == 2
    assert Knobs(flush_time=2, flush_profile=Stall(at=1, seconds=3)).flush_total == 5
    assert Knobs(flush_profile="never").flush_total == math.inf
