"""A graceful end is reported as forced: libvirt 8fd3823117 looked at the wrong signal."""

from pytest_gracekill import Domain, Driver, KillFlags, KillResult, process_kill

CAUGHT = {"outcome": "LIED"}
NAMES = "it claims SIGKILL; the VM exited 0 at t+"
TRIAL = {"flush_time": 0.1, "flags": KillFlags.FORCE}


def destroy(driver: Driver, domain: Domain, flags: KillFlags) -> KillResult:
    result = process_kill(driver, domain, flags)
    # FLAW wrong-exit-class: FORCE allows SIGKILL, it does not say that there was one
    return KillResult(ok=True, dead=True, signal=9, elapsed=result.elapsed)
