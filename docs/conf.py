"""Sphinx: MyST pages under the furo theme. Nothing is generated here: see generate.py."""

from __future__ import annotations

project = "pytest-gracekill"
author = "The pytest-gracekill developers"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "pytest-gracekill"
myst_heading_anchors = 3
exclude_patterns = ["_build"]
