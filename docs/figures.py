"""Makes two outputs of one command comparable: what differs from run to run gets a placeholder.

Only figures that time decides are masked, each in the words around it, so that another word,
verdict, row or setting is a difference. Lines that were wrapped are joined first: where the text
breaks depends on the figures in it.
"""

from __future__ import annotations

import re

_CONTINUED = re.compile(r"\n(?:E  )? {16,}(?=\S)")

_BEFORE = "returned after <seconds> s, in its budget; the VM had not exited"
_AFTER = "<ms> ms after the exit"

_MASKS = (
    # a moment, a span, the run time of pytest
    (r"t[+-]\d+\.\d{3}\b", "<moment>"),
    (r"\b\d+\.\d{3} s\b", "<seconds> s"),
    (r"\b\d+(\.\d)? ms\b", "<ms> ms"),
    (r"\bthe grace was \d+\.\d\d s\b", "the grace was <seconds> s"),
    (r"\b(passed|failed|deselected|collected) in \d+\.\d\ds\b", r"\1 in <seconds>s"),
    # how far the flush had come
    (r"\b\d+ of (\d+) blocks( lost)?: [\d, -]*", r"<count> of \1 blocks\2: <blocks>"),
    (r"\bblocks \d+-(\d+) acknowledged", r"blocks <block>-\1 acknowledged"),
    (r"\blast durable: \d+", "last durable: <block>"),
    # which of two callers came first
    (
        r"outcome     EARLY  (caller-2: )?returned None; the VM still ran",
        "outcome     EARLY  <caller> returned None; the VM still ran",
    ),
    (
        rf"{_BEFORE}; caller-2: {_AFTER}|{_AFTER}; caller-2: {_BEFORE}",
        "<of two callers one returned before the exit, one after it>",
    ),
    # how many schedules there was time for
    (r"\b\d+\s+schedules\b", "<count> schedules"),
    # how often
    (r"\b\d+ acquisitions\b", "<count> acquisitions"),
    # whether the handler of the monitor's end of file has come to it before the trial was over
    (r"\bwas (not cleaned up|cleaned up once);", "was <cleaned up>;"),
    # who of several that stood still for the same time is told of
    (r"\bstood still; [a-z]+-\d ", "stood still; <contender> "),
    (r"\b[a-z]+-\d (waited for driver from <moment>, held by the routine)", r"<contender> \1"),
    (r"\b(waited: |waited for |held by )(other|same|list|define|eof)-\d\b", r"\1\2-<number>"),
    # pytest 8 says it with -q, too, later ones do not
    (r"(?m)^-+ generated xml file: \S+ -+\n", ""),
    # pids, and lines of our own code
    (r"\bpid \d+\b", "pid <pid>"),
    (r"\bhelper \d+\b", "helper <pid>"),
    (r"\bto \d+ \(", "to <pid> ("),
    (r"\.py:\d+ in \b", ".py:<line> in "),
)


def masked(text: str) -> str:
    """The text with a placeholder for every figure that the next run prints differently."""
    text = _CONTINUED.sub(" ", text)
    for pattern, placeholder in _MASKS:
        text = re.sub(pattern, placeholder, text)
    # rules are drawn to the width of what they enclose
    return re.sub(r"([=_-])\1{4,}", r"\1" * 5, text)
