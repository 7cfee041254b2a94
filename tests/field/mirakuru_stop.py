"""mirakuru: its executors are behind many fixtures for databases and brokers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .shipped import KILL, Shipped, term

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_gracekill.child.unstarted import Child


def stop(child: Child) -> Iterator[tuple[Callable[[], object], Callable[[], bool]]]:
    from mirakuru import SimpleExecutor

    executor = SimpleExecutor(child.argv).start()
    yield executor.stop, executor.running


def stop_after(seconds: float) -> Callable[[Child], Iterator[Callable[[], object]]]:
    def stop(child: Child) -> Iterator[Callable[[], object]]:
        from mirakuru import SimpleExecutor

        executor = SimpleExecutor(child.argv, timeout=seconds).start()
        yield executor.stop

    return stop


SHIPPED = (
    Shipped(
        key="mirakuru",
        call="mirakuru SimpleExecutor.stop()",
        routine=stop,
        steps=(term(3600), KILL),
        source="mirakuru/base.py: SimpleExecutor.stop",
        package="mirakuru",
        force=True,
        remark="the docstring says 10 s, the default is 3600 s",
    ),
    Shipped(
        key="mirakuru-timeout",
        call="mirakuru SimpleExecutor(timeout=10).stop()",
        routine=stop_after(10),
        timed=stop_after,
        steps=(term(10), KILL),
        source="mirakuru/base.py: SimpleExecutor.stop",
        package="mirakuru",
        force=True,
        remark="returns as usual after SIGKILL",
    ),
)
