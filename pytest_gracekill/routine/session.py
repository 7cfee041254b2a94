"""One routine from the start of its VM to its clean-up, whatever its form.

A plain routine is called. A manager (a generator with the parameter ``child``, or an `External`
with ``start``) first starts the VM; what it yields, or its ``stop`` command, is what is called
then; in the end it cleans up. Coroutines of all three steps run in one event loop.
"""

from __future__ import annotations

import asyncio
import inspect
from types import FrameType
from typing import TYPE_CHECKING, TypeGuard, cast

from pytest_gracekill import clock
from pytest_gracekill.child.launch import READY_WITHIN
from pytest_gracekill.child.unstarted import SHOWS_WITHIN
from pytest_gracekill.errors import StartError, UsageError
from pytest_gracekill.legible import error_text
from pytest_gracekill.passing import is_outcome, passes_through
from pytest_gracekill.routine.adapt import MANAGERS, Adapted, form_of
from pytest_gracekill.routine.command import Command
from pytest_gracekill.routine.external import External
from pytest_gracekill.witness import event_loop
from pytest_gracekill.witness.cut_off import CutOff
from pytest_gracekill.witness.history import Frame
from pytest_gracekill.witness.sites import line_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping

    from pytest_gracekill.child.handle import FakeQemu
    from pytest_gracekill.child.unstarted import Unstarted
    from pytest_gracekill.witness.process_tree import CommandSeen

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
        self._begun: Generator[object, None, None] | AsyncGenerator[object, None] | None = None
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
        __tracebackhide__ = True
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
        __tracebackhide__ = True
        steps = self.adapted.call(self._offered, self._given)
        try:
            if self.adapted.form == "generator":
                self._begun = begun = cast("Generator[object, None, None]", steps)
                yielded = next(begun, _ENDED)
            else:
                self._begun = waiting = cast("AsyncGenerator[object, None]", steps)
                yielded = self.runner.run(_next(waiting))
        except BaseException as error:
            # pytest.skip() before there is a trial is a skip of the test
            if isinstance(error, CutOff) or passes_through(error) or is_outcome(error):
                raise
            raise StartError(
                f"the adapter {self.adapted.name} raised before its yield, where it starts the"
                f" fake: {error_text(error)} (from {self.adapted.source});"
                f" raised{line_of(error)}"
            ) from error
        if yielded is _ENDED:
            raise UsageError(
                f"the adapter {self.adapted.name} never yields: it starts the fake, yields what"
                " stops it, and cleans up",
                source=self.adapted.source,
            )
        # only now: what was interrupted on its way has no clean-up that it could come to
        self._steps = self._begun
        return yielded

    @property
    def awaits_in(self) -> Frame | None:
        """The adapter's own line that it awaits something in; no stack shows that."""
        frame = getattr(self._begun, "ag_frame", None)
        if not isinstance(frame, FrameType):
            return None
        code = frame.f_code
        return Frame(file=code.co_filename, line=frame.f_lineno, function=code.co_qualname)

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
            self._needs_a_loop()
            clock.check_loop()

    def _ready(self, unstarted: Unstarted) -> None:
        deadline = clock.monotonic() + SHOWS_WITHIN
        while not unstarted.wait_started(0.05):
            self.check_start(None)
            if clock.monotonic() > deadline:
                raise self.never_started()
        try:
            unstarted.ready_vm(READY_WITHIN)
        except StartError as error:
            # two that are started on one disk: that is what is wrong, not that one has ended
            unstarted.check_started_once(self.adapted)
            if self._command is not None:
                raise StartError(f"{error}\n{self._command.told_by_start()}") from error.__cause__
            raise
        unstarted.check_started_once(self.adapted)
        self.check_start(unstarted.pid)

    def check_start(self, vm_pid: int | None) -> None:
        """:raises StartError: the start command of an `External` has failed."""
        if self._command is not None:
            self._command.check_start(vm_pid)

    def start_failed_meanwhile(self, vm_pid: int, stamp: Callable[[int], str]) -> str | None:
        """How the start command has failed since; None without one, or when it has not."""
        return None if self._command is None else self._command.failed_meanwhile(vm_pid, stamp)

    def never_started(self) -> UsageError:
        """What is wrong with an adapter whose fake nobody has started."""
        if isinstance(self.adapted.routine, External):
            told = "" if self._command is None else f"; {self._command.told_by_start()}"
            how = f"start has to run {{program}}, or {{argv}}{told}"
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
        if _is_awaitable(result):
            self._needs_a_loop(result)
            # a plain function that hands on what a coroutine function returned
            with asyncio.Runner() as runner:
                result = runner.run(_awaited(result))
        return self._settled(result)

    async def call_async(self) -> object:
        """What is judged, as a task of the routine's own loop."""
        result = self._called()
        if _is_awaitable(result):
            result = await result
        return self._settled(result)

    def _called(self) -> object:
        if self._command is not None:
            return self._command.stop()
        if self._stop is not None:
            return self._stop()
        return self.adapted.call(self._offered, self._given)

    def _needs_a_loop(self, result: object = None) -> None:
        """:raises UsageError: one runs here already, so that there can be none for the routine."""
        if asyncio._get_running_loop() is None:  # noqa: SLF001 - the only one that does not raise
            return
        if inspect.iscoroutine(result):
            result.close()
        raise UsageError(
            f"the routine {self.adapted.name} has to be awaited, and an event loop runs here"
            " already: call gracekill from a plain test function",
            source=self.adapted.source,
        )

    def _settled(self, result: object) -> object:
        """The result, when there is nothing left to be done with it."""
        if not _is_awaitable(result):
            if self._stop is None and self.adapted.kind == "child":
                self._check_no_step(result)
            return result
        if inspect.iscoroutine(result):
            result.close()
        raise UsageError(
            f"the routine {self.adapted.name} returned a {type(result).__name__} that nobody"
            " awaited: it has to await what it calls",
            source=self.adapted.source,
        )

    def _check_no_step(self, result: object) -> None:
        """What starts the VM in the same call has nothing to hand out afterwards."""
        name = self.adapted.name
        if inspect.isgenerator(result) or inspect.isasyncgen(result):
            wrong = (
                f"the adapter {name} returned a generator: hand in the generator function itself"
            )
        elif callable(result) or (
            isinstance(result, tuple) and result and all(map(callable, result))
        ):
            wrong = f"the adapter {name} returned {result!r}: what stops the VM is to be yielded"
        else:
            return
        raise UsageError(
            f"{wrong}; it starts the fake, yields what stops it, and cleans up",
            source=self.adapted.source,
        )

    def status(self) -> bool | None:
        """Whether the manager says that the VM runs; None when it was not asked for a status.

        :raises UsageError: it said neither True nor False.
        :raises StartError: it raised.
        """
        __tracebackhide__ = True
        if self._status is None:
            return None
        try:
            says = self._status()
            if _is_awaitable(says):
                says = self.runner.run(_awaited(says))
        except BaseException as error:
            if isinstance(error, CutOff) or passes_through(error):
                raise
            raise StartError(
                f"the status that {self.adapted.name} yields raised {error_text(error)};"
                f" True (the VM runs) or False is needed (from {self.adapted.source});"
                f" raised{line_of(error)}"
            ) from error
        if not isinstance(says, bool):
            raise UsageError(
                f"the status that {self.adapted.name} yields returned {says!r}: True (the VM runs)"
                " or False is needed",
                source=self.adapted.source,
            )
        return says

    def command_seen(self, actor: str) -> CommandSeen | None:
        """The stop command that a thread waits for; None where there is no command."""
        return None if self._command is None else self._command.seen(actor)

    @property
    def wardens(self) -> frozenset[int]:
        """The processes of ours below which the commands of an `External` run."""
        return frozenset() if self._command is None else self._command.wardens

    def free(self) -> None:
        """End what a call of an external command waits for; from any thread."""
        if self._command is not None:
            self._command.free()

    # -- the end

    def end(self) -> None:
        """Let the manager clean up. Idempotent.

        :raises UsageError: the adapter yields a second time.
        """
        __tracebackhide__ = True
        steps, self._steps = self._steps, None
        try:
            if steps is not None and self._last_step(steps) is not _ENDED:
                raise UsageError(
                    f"the adapter {self.adapted.name} yields twice: after its yield it cleans up,"
                    " and ends",
                    source=self.adapted.source,
                )
        finally:
            try:
                if self._command is not None:
                    self._command.end()
            finally:
                if self._runner is not None and not self._shares_runner:
                    runner, self._runner = self._runner, None
                    event_loop.close(runner)

    def _last_step(self, steps: Generator[object] | AsyncGenerator[object]) -> object:
        __tracebackhide__ = True
        if inspect.isgenerator(steps):
            try:
                return next(steps, _ENDED)
            finally:
                steps.close()
        return self.runner.run(_next(cast("AsyncGenerator[object, None]", steps)))


def _is_awaitable(value: object) -> TypeGuard[Awaitable[object]]:
    """As inspect has it; False where the object's own ``__class__`` raises, as a proxy's may."""
    try:
        return inspect.isawaitable(value)
    except Exception:  # noqa: BLE001 - an object of the user's
        return False


async def _next(steps: AsyncGenerator[object, None]) -> object:
    return await anext(steps, _ENDED)


async def _awaited(awaitable: Awaitable[object]) -> object:
    return await awaitable
