"""What runs inside the fake's process: stdlib only, and before readiness only what costs nothing.

The fake's program file puts `child/` on `sys.path` and imports this package as `program`, so
that the modules below come from their `.pyc` caches; they import each other relatively. None of
them has `from __future__ import annotations` or imports `typing`: that is start-up time.
"""
