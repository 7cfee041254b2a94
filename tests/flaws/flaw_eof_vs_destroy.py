"""The end-of-file handler cleans up what is being destroyed: 5547d2b81c."""

from pytest_gracekill import Domain, Driver, KillFlags, KillResult, process_kill

CAUGHT = {"identity": "TWICE"}
NAMES = ("again after eof-at", "{line}")
TRIAL = {
    "flush_time": 0.1,
    "flags": KillFlags.FORCE,
    "contenders": ("other", "same"),
    "at": {"before the relock": "eof"},
}
EXPLORE = {"flags": KillFlags.FORCE, "flush_time": 0.1, "contenders": "eof"}
EXPLORED = {"identity": "TWICE"}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    domain.ref()
    result = process_kill(driver, domain, flags)
    if result.dead:
        domain.tear_down()  # FLAW eof-vs-destroy: no flag has told the handler to keep off
    domain.unref()
    return result
