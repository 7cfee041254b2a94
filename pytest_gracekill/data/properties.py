"""Names of properties that pytest's report of a test has of its trials, as in the JUnit file."""

from __future__ import annotations

#: Why the first run of a trial could not be judged, so that there was a second.
RUN_TWICE = "gracekill_run_twice"
