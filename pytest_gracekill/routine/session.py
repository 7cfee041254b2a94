"""One routine from the start of its VM to its clean-up, whatever its form.

A plain routine is called. A manager (a generator with the parameter ``child``, or an `External`
with ``start``) first starts the VM; what it yields, or its ``stop`` command, is what is called
then; in the end it cleans up. Coroutines of all three steps run in one event loop.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, cast

from pytest_gracekill.child.launch import READY_WITHIN
from pytest_gracekill.child.unstarted import SHOWS_WITHIN
from pytest_gracekill.errors import StartError, UsageError
from pytest_gracekill.routine.adapt import MANAGERS, Adapted, form_of
from pytest_gracekill.routine.command import Command
from pytest_gracekill.routine.external import External

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping

    from pytest_gracekill.child.handle import FakeQemu
    from pytest_gracekill.child.unstarted import Unstarted

_ENDED = object()


class Session:
    """A routine in use. ``begin``, then ``call`` (or ``call_async``) by each caller, then ``end``.

    ``unstarted`` is the fake that it starts, None where one runs already. ``given`` are the names
    whose values override a parameter's default. ``runner``: an event loop that several share.
    """

    def __init__(
        self,
        adapted: Adapted,
        unstarted: Unstarted | None,
        given: frozenset[str],
        runner: asyncio.Runner | None = None,
    ) -> None:
        self.adapted = adapted
        self.asynchronous = adapted.asynchronous
        self._unstarted = unstarted
        self._given = given
        self._offered: Mapping[str, object] = {}
        self._steps: Generator[object, None, None] | AsyncGenerator[object, None] | None = None
        self._stop: Callable[[], object] | None = None
        self._status: Callable[[], object] | None = None
        self._runner = runner
        self._shares_runner = runner is not None
        self._command: Command | None = None

    @property
    def runner(self) -> asyncio.Runner:
        """The event loop of this routine, made at its first use."""
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner

    # -- the start

    def begin(self, offered: Mapping[str, object]) -> None:
        """Let a manager start the VM, and wait until it is ready; nothing for other routines.

        :raises UsageError: the adapter has no step that stops, or never started the fake.
        :raises StartError: it raised, or the fake that it started is not ready in time.
        """
        self._offered = offered
        routine, unstarted = self.adapted.routine, self._unstarted
        if isinstance(routine, External):
            self._command = Command(routine, unstarted, self.adapted.source)
            self._command.begin(cast("FakeQemu | None", offered.get("vm")))
        elif self.adapted.form in MANAGERS:
            self._take_stop(self._first_step())
        else:
            return
        if unstarted is not None:
            self._ready(unstarted)

    def _first_step(self) -> object:
        steps = self.adapted.call(self._offered, self._given)
        try:
            if self.adapted.form == "generator":
                self._steps = cast("Generator[object, None, None]", steps)
                yielded = next(self._steps, _ENDED)
            else:
                self._steps = cast("AsyncGenerator[object, None]", steps)
                yielded = self.runner.run(_next(self._steps))
        except Exception as error:
            self._steps = None
            raise StartError(
                f"the adapter {self.adapted.name} raised before its yield:"
                f" {type(error).__name__}: {error}"
            ) from error
        if yielded is _ENDED:
            self._steps = None
            raise UsageError(
                f"the adapter {self.adapted.name} never yields: it starts the fake, yields what"
                " stops it, and cleans up",
                source=self.adapted.source,
            )
        return yielded

    def _take_stop(self, yielded: object) -> None:
        match yielded:
            case (stop, status):
                pass
            case stop:
                status = None
        if not callable(stop) or not (status is None or callable(status)):
            raise UsageError(
                f"the adapter {self.adapted.name} yields {yielded!r}: a callable that stops the VM"
                " is needed, or a pair of it and one that says whether the VM runs",
                source=self.adapted.source,
            )
        self._stop, self._status = stop, status
        if form_of(stop) == "coroutine":
            self.asynchronous = True

    def _ready(self, unstarted: Unstarted) -> None:
        deadline = time.monotonic() + SHOWS_WITHIN
        while not unstarted.wait_started(0.05):
            failed = None if self._command is None else self._command.failed_start()
            if failed is not None:
                raise failed
            if time.monotonic() > deadline:
                raise self.never_started()
        unstarted.ready_vm(READY_WITHIN)
        unstarted.check_started_once(self.adapted)

    def never_started(self) -> UsageError:
        """What is wrong with an adapter whose fake nobody has started."""
        if isinstance(self.adapted.routine, External):
            how = "start has to run {program}, or {argv}"
        else:
            how = (
                "run child.argv (a command as a list), child.cmdline (for a shell), child.program"
                " (an executable) or child.target (a callable, for multiprocessing)"
            )
        return UsageError(
            f"the adapter {self.adapted.name} never started the fake: {how}",
            source=self.adapted.source,
        )

    # -- the call

    def call(self) -> object:
        """What is judged, in the calling thread.

        :raises UsageError: it returned an awaitable that nobody can await any more.
        """
        result = self._called()
        if inspect.isawaitable(result):
            # a plain function that hands on what a coroutine function returned
            with asyncio.Runner() as runner:
                result = runner.run(_awaited(result))
        return self._settled(result)

    async def call_async(self) -> object:
        """What is judged, as a task of the routine's own loop."""
        result = self._called()
        if inspect.isawaitable(result):
            result = await result
        return self._settled(result)

    def _called(self) -> object:
        if self._command is not None:
            return self._command.stop()
        if self._stop is not None:
            return self._stop()
        return self.adapted.call(self._offered, self._given)

    def _settled(self, result: object) -> object:
        if not inspect.isawaitable(result):
            return result
        if inspect.iscoroutine(result):
            result.close()
        raise UsageError(
            f"the routine {self.adapted.name} returned a {type(result).__name__} that nobody"
            " awaited: it has to await what it calls",
            source=self.adapted.source,
        )

    def status(self) -> bool | None:
        """Whether the manager says that the VM runs; None when it was not asked for a status.

        :raises UsageError: it said neither True nor False.
        """
        if self._status is None:
            return None
        says = self._status()
        if inspect.isawaitable(says):
            says = self.runner.run(_awaited(says))
        if not isinstance(says, bool):
            raise UsageError(
                f"the status that {self.adapted.name} yields returned {says!r}: True (the VM runs)"
                " or False is needed",
                source=self.adapted.source,
            )
        return says

    def free(self) -> None:
        """End what a call of an external command waits for; from any thread."""
        if self._command is not None:
            self._command.free()

    # -- the end

    def end(self) -> None:
        """Let the manager clean up. Idempotent.

        :raises UsageError: the adapter yields a second time.
        """
        steps, self._steps = self._steps, None
        try:
            if steps is not None and self._last_step(steps) is not _ENDED:
                raise UsageError(
                    f"the adapter {self.adapted.name} yields twice: after its yield it cleans up,"
                    " and ends",
                    source=self.adapted.source,
                )
        finally:
            if self._command is not None:
                self._command.end()
            if self._runner is not None and not self._shares_runner:
                self._runner.close()

    def _last_step(self, steps: Generator[object] | AsyncGenerator[object]) -> object:
        if inspect.isgenerator(steps):
            try:
                return next(steps, _ENDED)
            finally:
                steps.close()
        return self.runner.run(_next(cast("AsyncGenerator[object, None]", steps)))


async def _next(steps: AsyncGenerator[object, None]) -> object:
    return await anext(steps, _ENDED)


async def _awaited(awaitable: Awaitable[object]) -> object:
    return await awaitable
