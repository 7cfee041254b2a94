"""Every routine of the table, in its order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import (
    asyncio_idiom,
    debian_commands,
    labgrid_qemu,
    mirakuru_stop,
    nox_shutdown,
    oslo_execute,
    pexpect_close,
    psutil_procs,
    stdlib_idioms,
    supervisor_stop,
    tox_interrupt,
    trio_cancelled,
    xprocess_terminate,
)

if TYPE_CHECKING:
    from .shipped import Shipped

MODULES = (
    stdlib_idioms,
    asyncio_idiom,
    psutil_procs,
    mirakuru_stop,
    xprocess_terminate,
    tox_interrupt,
    nox_shutdown,
    labgrid_qemu,
    trio_cancelled,
    pexpect_close,
    debian_commands,
    supervisor_stop,
    oslo_execute,
)

SHIPPED: dict[str, Shipped] = {
    shipped.key: shipped for module in MODULES for shipped in module.SHIPPED
}
