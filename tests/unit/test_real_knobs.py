"""What a real QEMU may be asked for, and what a trial expects of it: no QEMU is needed here."""

from __future__ import annotations

import math
import pickle
from dataclasses import fields

import pytest

from pytest_gracekill.child.real_knobs import MEANINGS, RealKnobs, names
from pytest_gracekill.child.real_programs import MissingQemuError, find
from pytest_gracekill.errors import UsageError


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"flush_time": -1}, "flush_time=-1: it has to be seconds from 0"),
        ({"flush_time": math.nan}, "flush_time=nan: it has to be seconds"),
        ({"flush_time": "2"}, "flush_time='2': it has to be seconds"),
        ({"blocks": 257}, "blocks=257: it has to be an int from 1 to 256"),
        ({"blocks": True}, "blocks=True: it has to be an int"),
        ({"blocks": 1.0}, r"blocks=1\.0: it has to be an int"),
        ({"flushed": -1}, "flushed=-1: it has to be an int from 0 to 256"),
        ({"flushed": 65}, "flushed=65 with blocks=64: more than were written"),
        ({"flushed": 64, "flush_time": 1}, "flush_time=1 with flushed=64 of 64 blocks: nothing"),
        ({"gate": "shut"}, 'gate=\'shut\': it has to be one of "open", "held"'),
        ({"gate": True}, "gate=True: it has to be one of"),
        ({"program": "kvm"}, 'program=\'kvm\': it has to be one of "qemu", "storage-daemon"'),
        ({"topology": "leaderless"}, "topology='leaderless': it has to be one of \"child\""),
        ({"lazy_refcounts": "on"}, "lazy_refcounts='on': it has to be True or False"),
        ({"qmp": 1}, "qmp=1: it has to be True or False"),
        ({"reuse_pid": True, "topology": "child"}, "reuse_pid=True with topology='child'"),
        ({"flush": 1}, "unknown knob flush of a real QEMU: did you mean flushed"),
        ({"on_term": "flush"}, "unknown knob on_term of a real QEMU: there are flush_time"),
    ],
)
def test_what_cannot_be_is_refused_with_its_source(values: dict[str, object], says: str) -> None:
    sources = dict.fromkeys(values, "marker")
    with pytest.raises(UsageError, match=says) as raised:
        RealKnobs.from_values(values, sources)
    assert raised.value.source == "marker"
    with pytest.raises((UsageError, TypeError)):
        RealKnobs(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("knobs", "seconds"),
    [
        (RealKnobs(), 1.0),
        (RealKnobs(flush_time=2), 2.0),
        (RealKnobs(gate="held"), 0.0),
        (RealKnobs(gate="held", flush_time=0.5), 0.5),
        (RealKnobs(flushed=64), 0.0),
        (RealKnobs(flushed=63), 1.0),
    ],
)
def test_how_long_the_flush_takes(knobs: RealKnobs, seconds: float) -> None:
    assert knobs.seconds == seconds


def test_a_trial_expects_what_it_would_of_a_fake() -> None:
    knobs = RealKnobs(flush_time=2, blocks=10, topology="zombie", reaper_delay=0.5, qmp=True)
    fake = knobs.as_fake(held=False, stood=0.0)
    assert (fake.flush_total, fake.ends_by_itself) == (2.0, True)
    assert (fake.blocks, fake.topology, fake.reaper_delay, fake.qmp) == (10, "zombie", 0.5, True)
    held = knobs.as_fake(held=True, stood=0.0)
    assert (held.flush_total, held.ends_by_itself) == (math.inf, False)
    # what it has stood before the gate it could not flush
    assert knobs.as_fake(held=False, stood=1.5).flush_total == 3.5


def test_every_knob_has_its_meaning() -> None:
    assert set(MEANINGS) == names() == {field.name for field in fields(RealKnobs)}


def test_a_program_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingQemuError, match=r"qemu-io is not installed: apt-get") as raised:
        find("qemu-io")
    again = pickle.loads(pickle.dumps(raised.value))
    assert isinstance(again, MissingQemuError)
    assert str(again) == str(raised.value)
