"""The page of a picture: one HTML file that needs nothing else."""

from __future__ import annotations

from pytest_gracekill.render.page.compose import html

__all__ = ["html"]
