"""The stop and the end-of-file handler both tell the end of one run: LXD 8e66a4e70c."""

from pytest_gracekill import Domain, Driver, KillFlags, process_kill

CAUGHT = {"identity": "TWICE"}
NAMES = "{line}"
TRIAL = {"flush_time": 0.3, "flags": KillFlags.FORCE, "at": {"exit": "eof"}}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> bool:
    result = process_kill(driver, domain, flags)
    if result.ok:
        domain.tear_down()  # FLAW duplicate-events: the handler has told that it stopped
    return result.ok
