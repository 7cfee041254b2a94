"""What a terminal shows of saved evidence, for the page about it."""

from __future__ import annotations

from docs.blocks import ROOT
from pytest_gracekill.render.folder import load
from pytest_gracekill.render.picture import picture_of
from pytest_gracekill.render.terminal import terminal
from pytest_gracekill.render.terminal.ink import PLAIN

_SEED = ROOT / "tests" / "evidence" / "libvirt-0.9.10"


def seed() -> str:
    """What libvirt's kill routine of 2012 did to a slow flush."""
    return f"<!-- kept -->\n```text\n{terminal(picture_of(load(_SEED)), PLAIN)}\n```"
