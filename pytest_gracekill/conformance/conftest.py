"""What the cases share, where the suite is collected as it is; ``import *`` brings it by name."""

from __future__ import annotations

from pytest_gracekill.conformance.terms import contract

__all__ = ["contract"]
