"""Every routine of the table, in its order."""

from __future__ import annotations

from . import (
    debian_commands,
    mirakuru_stop,
    nox_shutdown,
    oslo_execute,
    psutil_procs,
    stdlib_idioms,
    tox_interrupt,
    trio_cancelled,
    xprocess_terminate,
)

MODULES = (
    stdlib_idioms,
    psutil_procs,
    mirakuru_stop,
    xprocess_terminate,
    tox_interrupt,
    nox_shutdown,
    trio_cancelled,
    debian_commands,
    oslo_execute,
)

SHIPPED = {shipped.key: shipped for module in MODULES for shipped in module.SHIPPED}
