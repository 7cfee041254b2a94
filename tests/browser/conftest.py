"""The fixtures of these tests. Their code is in `pages`: mypy takes one module named conftest."""

from pages import chromium, page, scheme

__all__ = ["chromium", "page", "scheme"]
