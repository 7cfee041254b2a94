"""The program of `exploration` under frontrun, whose command starts this; prints what it says."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from .exploration import look_up, make_state, routine


def main(clock: str, seconds: float) -> None:
    """Explore, and print one line of JSON."""
    import frontrun

    explore: Any = frontrun.explore
    began = time.perf_counter()
    result = explore(
        make_state,
        [routine, look_up],
        lambda _state: True,
        clock=clock,
        total_timeout=seconds,
        reproduce_on_failure=0,
    )
    rate = result.num_explored / (time.perf_counter() - began)
    says = 'says "holds"' if result.property_holds else "a deadlock"
    print(json.dumps([rate, f"{says} after {result.num_explored}"]))  # noqa: T201 - the answer


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
