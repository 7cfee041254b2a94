"""Kill routines that other projects ship, each behind a small adapter, and what they do to a VM."""
