"""pytest-xprocess: processes that live for a whole test run, and `xkill`."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING

from .shipped import KILL, Shipped, term

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.child.unstarted import Child


def terminate_after(seconds: float) -> Callable[[Child], Iterator[Callable[[], int]]]:
    def terminate(child: Child) -> Iterator[Callable[[], int]]:
        import py
        from xprocess import ProcessStarter, XProcess

        class Starter(ProcessStarter):  # type: ignore[misc]  # xprocess has no types
            args = child.argv

            def startup_check(self) -> bool:
                child.wait_ready()
                return True

        folder = py.path.local(child.dir).mkdir("xprocess")  # noqa: PTH124 - what xprocess takes
        xprocess = XProcess(SimpleNamespace(), folder)
        xprocess.ensure("vm", Starter)
        yield lambda: xprocess.resources[0].info[0].terminate(timeout=seconds)
        xprocess._force_clean_up()

    return terminate


def xkill_after(seconds: float) -> Callable[[int], int]:
    def xkill(pid: int) -> int:
        import py
        from xprocess.xprocess import XProcessInfo

        with TemporaryDirectory() as folder:
            root = py.path.local(folder)  # noqa: PTH124 - what xprocess takes
            root.mkdir("vm").join("xprocess.PID").write(str(pid))
            done: int = XProcessInfo(root, "vm").terminate(timeout=seconds)
        return done

    return xkill


SHIPPED = (
    Shipped(
        key="xprocess",
        call="pytest-xprocess terminate()",
        routine=terminate_after(20),
        timed=terminate_after,
        steps=(term(20), KILL),
        source="xprocess/xprocess.py: XProcessInfo.terminate",
        package="pytest-xprocess",
        force=True,
        remark="returns 1, terminated, after SIGKILL as well",
    ),
    Shipped(
        key="xkill",
        call="pytest --xkill",
        routine=xkill_after(20),
        timed=xkill_after,
        steps=(term(20), KILL),
        source="xprocess/xprocess.py: XProcessInfo.terminate",
        package="pytest-xprocess",
        force=True,
        remark="of a process that an earlier run has started, by its pid file",
    ),
)
