"""The driver lock is taken again under the domain lock: libvirt's THREADS.txt forbids it."""

from pytest_gracekill import Domain, Driver, KillFlags, KillPolicy, KillResult, process_kill

CAUGHT = {"deadlock": ("DEADLOCK", "LOCK ORDER")}
NAMES = ("driver", "domain vm", "{line}")
TRIAL = {"flush_time": 0.2, "flags": KillFlags.FORCE}
EXPLORE = {"flags": KillFlags.FORCE, "flush_time": 0.1, "contenders": "same"}
EXPLORED = {"deadlock": "DEADLOCK"}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    driver.lock.release()
    try:
        return process_kill(None, domain, flags, policy=KillPolicy(drop="none"))
    finally:
        driver.lock.acquire()  # FLAW lock-order-retake: the domain lock is still held
