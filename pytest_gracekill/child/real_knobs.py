"""What a real QEMU is asked to be, in the fake's words as far as it has them."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

from pytest_gracekill.errors import UsageError

from .behaviour import Stall
from .knobs import MEANINGS as OF_THE_FAKE
from .knobs import Knobs
from .limits import fault, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_BLOCKS = 256
"""Each is in a table of its own, and as many tables stay in QEMU's cache."""

TOPOLOGIES = ("child", "reaped", "zombie", "daemon", "wrapped")
PROGRAMS = ("qemu", "storage-daemon")
GATES = ("open", "held")

_CALL = "the call"


@dataclass(frozen=True, slots=True, kw_only=True)
class RealKnobs:
    """All knobs of one real QEMU; `MEANINGS` says what each is."""

    flush_time: float | None = None
    blocks: int = 64
    flushed: int = 0
    gate: Literal["open", "held"] = "open"
    lazy_refcounts: bool = False
    program: Literal["qemu", "storage-daemon"] = "qemu"
    topology: Literal["child", "reaped", "zombie", "daemon", "wrapped"] = "reaped"
    reaper_delay: float = 1.5
    reuse_pid: bool = False
    qmp: bool = False

    def __post_init__(self) -> None:
        _check({field.name: getattr(self, field.name) for field in dataclasses.fields(self)}, {})

    @classmethod
    def from_values(
        cls, values: Mapping[str, object], sources: Mapping[str, str] = MappingProxyType({})
    ) -> Self:
        """Check `values` and build the knobs from them; `sources` says where each came from."""
        _check(values, sources)
        checked: dict[str, Any] = dict(values)
        return cls(**checked)

    @property
    def seconds(self) -> float:
        """How long the flush takes, once nothing holds it; what is durable needs none."""
        if self.flush_time is None:
            return 0.0 if self.gate == "held" or self.flushed == self.blocks else 1.0
        return float(self.flush_time)

    def as_fake(self, *, held: bool, stood: float) -> Knobs:
        """The knobs of a fake of which a trial would expect the same.

        ``held``: the flush would never end. ``stood``: seconds for which it stood at the gate.
        """
        profile: Literal["constant", "never"] | Stall = "constant"
        if held:
            profile = "never"
        elif stood:
            profile = Stall(at=0, seconds=stood)
        return Knobs(
            flush_time=self.seconds,
            blocks=self.blocks,
            flush_profile=profile,
            topology=self.topology,
            reaper_delay=self.reaper_delay,
            reuse_pid=self.reuse_pid,
            disk_lock=False,
            qmp=self.qmp,
        )


def names() -> frozenset[str]:
    """The names of the knobs."""
    return frozenset(field.name for field in dataclasses.fields(RealKnobs))


def _check(values: Mapping[str, object], sources: Mapping[str, str]) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(RealKnobs)}
    for name, value in values.items():
        source = sources.get(name, _CALL)
        if name not in defaults:
            close = difflib.get_close_matches(name, defaults, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(defaults)}"
            raise UsageError(f"unknown knob {name} of a real QEMU: {hint}", source=source)
        if (right := _fault(name, value)) is not None:
            raise UsageError(f"{name}={value!r}: it has to be {right}", source=source)
    merged = {**defaults, **values}
    flushed, blocks = merged["flushed"], merged["blocks"]
    assert isinstance(flushed, int)
    assert isinstance(blocks, int)
    if flushed > blocks:
        raise UsageError(
            f"flushed={flushed} with blocks={blocks}: more than were written",
            source=sources.get("flushed", _CALL),
        )
    if flushed == blocks and merged["flush_time"]:
        raise UsageError(
            f"flush_time={merged['flush_time']!r} with flushed={flushed} of {blocks} blocks:"
            " nothing is left to be flushed",
            source=sources.get("flush_time", _CALL),
        )
    if merged["reuse_pid"] and merged["topology"] != "reaped":
        raise UsageError(
            f"reuse_pid=True with topology={merged['topology']!r}: only a pid that somebody else"
            ' has reaped is free again: topology="reaped"',
            source=sources.get("reuse_pid", _CALL),
        )


def _fault(name: str, value: object) -> str | None:
    if name == "flush_time":
        return None if value is None else fault("flush_time", value)
    if name in _WORDS:
        words = _WORDS[name]
        right = isinstance(value, str) and value in words
        return None if right else f"one of {quoted(words)} for a real QEMU"
    if name in ("blocks", "flushed"):
        least = 1 if name == "blocks" else 0
        whole = isinstance(value, int) and not isinstance(value, bool)
        right = whole and least <= value <= MOST_BLOCKS  # type: ignore[operator] # it is an int
        return None if right else f"an int from {least} to {MOST_BLOCKS}"
    return fault(_LIKE.get(name, name), value)


_WORDS = {"gate": GATES, "program": PROGRAMS, "topology": TOPOLOGIES}
_LIKE = {"lazy_refcounts": "qmp"}  # a truth

MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "flush_time": (
            "seconds from the stop request to the last block on disk; default 1.0, and 0.0 behind"
            ' a gate that is "held", or where the guest has flushed everything'
        ),
        "blocks": f"number of clusters that the guest has written, 1 to {MOST_BLOCKS}",
        "flushed": "how many of them, the first ones, the guest has flushed itself since",
        "gate": (
            "open, or held: no write and no flush reaches the disk until the handle's `.gate` is"
            " opened, so that SIGKILL loses all and no clock matters"
        ),
        "lazy_refcounts": "the option of the qcow2 image",
        "program": "qemu (qemu-system-x86_64 -machine none) or storage-daemon",
        "topology": (
            "child, reaped, zombie, daemon or wrapped, as of a fake; default: as the routine of"
            " `kill_routine` needs it"
        ),
        "reaper_delay": OF_THE_FAKE["reaper_delay"],
        "reuse_pid": OF_THE_FAKE["reuse_pid"],
        "qmp": OF_THE_FAKE["qmp"],
    }
)
"""One line for each knob, for the reference."""
