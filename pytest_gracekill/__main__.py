"""``python -m pytest_gracekill``."""

from __future__ import annotations

import sys

from pytest_gracekill.show import main

if __name__ == "__main__":
    sys.exit(main())
