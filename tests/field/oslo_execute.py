"""oslo.concurrency: how OpenStack's services run commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .shipped import Shipped
from .stdlib_idioms import up

if TYPE_CHECKING:
    from pytest_gracekill.child.unstarted import Child


def execute(child: Child) -> None:
    from oslo_concurrency import processutils

    processutils.execute(*child.argv, timeout=up())


SHIPPED = (
    Shipped(
        key="oslo",
        call="oslo.concurrency execute(timeout=)",
        routine=execute,
        steps=(),
        source="oslo_concurrency/processutils.py: execute",
        package="oslo.concurrency",
        force=True,
        remark="raises TimeoutExpired and leaves the process to itself",
    ),
)
