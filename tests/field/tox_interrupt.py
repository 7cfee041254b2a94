"""tox 4: what Ctrl-C does to a command that runs."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from .shipped import KILL, Shipped, Step, term

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_gracekill.child.unstarted import Child


class Defaults(dict[str, object]):
    """The part of a tox environment's configuration that is asked for: tox's own defaults."""

    def add_config(self, *, keys: Sequence[str], default: object, **_: object) -> None:
        self.update(dict.fromkeys(keys, default))


def interrupt_with(**chosen: float) -> Callable[[Child], Iterator[Callable[[], None]]]:
    def interrupt(child: Child) -> Iterator[Callable[[], None]]:
        from tox.execute.api import ExecuteOptions
        from tox.execute.local_sub_process import LocalSubProcessExecuteInstance
        from tox.execute.request import ExecuteRequest, StdinSource
        from tox.execute.stream import SyncWrite

        environment = SimpleNamespace(conf=Defaults(), options=SimpleNamespace())
        ExecuteOptions.register_conf(environment)  # type: ignore[arg-type]  # has what is read
        environment.conf.update(chosen)
        options = ExecuteOptions(environment)  # type: ignore[arg-type]
        here, variables = Path(child.dir), dict(os.environ)
        request = ExecuteRequest(child.argv, here, variables, StdinSource.OFF, "vm")
        out, err = SyncWrite("out", None), SyncWrite("err", None)
        with LocalSubProcessExecuteInstance(request, options, out, err) as status:
            yield status.interrupt

    return interrupt


SHIPPED = (
    Shipped(
        key="tox",
        call="tox: Ctrl-C",
        routine=interrupt_with(),
        timed=lambda seconds: interrupt_with(terminate_timeout=seconds),
        steps=(Step(send="SIGINT", wait=0.3), term(0.2), KILL),
        source="tox/execute/local_sub_process: LocalSubprocessExecuteStatus.interrupt",
        package="tox",
        force=True,
    ),
)
