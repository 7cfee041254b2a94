"""The fake and a real QEMU are the same to who looks from outside, or it is said where not."""

from __future__ import annotations

import json
import sys

import agreement
import agreement_figures
import pytest

from pytest_gracekill.child import real_programs
from pytest_gracekill.fixtures import SETTLED

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a real QEMU needs pidfds")


@pytest.fixture(autouse=True)
def qemu(request: pytest.FixtureRequest) -> None:
    """Skip where it is not installed, or fail with ``--gracekill-require-qemu``."""
    try:
        real_programs.find(real_programs.SYSTEM, real_programs.IMG, real_programs.IO)
    except real_programs.MissingQemuError as error:
        required = request.config.stash[SETTLED]["require_qemu"].value
        (pytest.fail if required else pytest.skip)(error.what)


@pytest.mark.parametrize("scenario", agreement.SCENARIOS)
def test_fake_and_real_agree(scenario: str) -> None:
    seen = agreement.observe(scenario)
    differing = agreement.differing(seen)
    shown = {kind: {name: of.get(name) for name in differing} for kind, of in seen.items()}
    assert differing == agreement.declared(scenario), (
        f"QEMU {agreement_figures.version()}; what differs: {json.dumps(shown, indent=1)}"
    )


def test_facts_that_differ_are_found() -> None:
    fake: dict[str, object] = {"same": 1, "other": ["a"], "fake's": 0}
    real: dict[str, object] = {"same": 1, "other": ["b"], "real's": 0}
    assert agreement.differing({"fake": fake, "real": real}) == ["other", "fake's", "real's"]


def test_each_declared_difference_is_of_a_scenario() -> None:
    assert {fact.scenario for fact in agreement.DIFFERENCES} <= set(agreement.SCENARIOS)
