"""The monitor's close callback takes the lock that its closer holds: 25f582e36a^, 36c1fc189d^."""

from collections.abc import Callable

from pytest_gracekill import Domain, Driver, KillFlags, KillResult, process_kill

CAUGHT = {"deadlock": "DEADLOCK"}
NAMES = ("holds domain vm and waits for domain vm", "{line}")
TRIAL = {"flush_time": 0.1, "flags": KillFlags.FORCE}


class _Monitor:
    def __init__(self, on_close: Callable[[], None]) -> None:
        self._on_close = on_close

    def close(self) -> None:
        self._on_close()


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    run = domain.incarnation
    assert run is not None

    def forget_monitor() -> None:
        with domain.lock:  # FLAW callback-relocks: who closes the monitor has it
            domain.clean_up(run)

    domain.ref()
    domain.being_destroyed = True
    result = process_kill(driver, domain, flags)
    try:
        if result.dead:
            _Monitor(forget_monitor).close()
    finally:
        domain.being_destroyed = False
        domain.unref()
    return result
