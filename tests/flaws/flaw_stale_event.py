"""A late end of file of the old run cleans up the new one: 10.7.0's check of the domid."""

from pytest_gracekill import Domain, Driver, KillFlags, KillResult, process_kill


def _end_of_file(driver: Driver, old: Domain) -> None:
    """What the monitor's thread does with an event that has waited in its queue."""
    with driver.look_up(old.name) as domain:
        if domain is not None and domain.active and not domain.being_destroyed:
            domain.tear_down()  # FLAW stale-event: the event does not say which run has ended


CAUGHT = {"identity": "WRONG VM"}
NAMES = ("_end_of_file", "{line}")
TRIAL = {
    "flush_time": 0.1,
    "flags": KillFlags.FORCE,
    "at": {"unlocked": "restart", "before the relock": _end_of_file},
}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    run = domain.incarnation
    assert run is not None
    domain.ref()
    domain.being_destroyed = True
    result = process_kill(driver, domain, flags)
    if result.dead and domain.clean_up(run):
        domain.being_destroyed = False
    domain.unref()
    return result
