"""The fixtures ``gracekill``, ``fake_qemu``, ``real_qemu``, ``kill_routine``: values, handed on."""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

import pytest

from pytest_gracekill import looks, saving, settings
from pytest_gracekill.errors import StartError, UnsupportedError, UsageError
from pytest_gracekill.looks import Looks

T = TypeVar("T")

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from types import FrameType

    from pytest_gracekill.arguments import Returns
    from pytest_gracekill.child.handle import FakeQemu
    from pytest_gracekill.child.real_managed import RealChild
    from pytest_gracekill.child.real_qemu import RealQemu
    from pytest_gracekill.choreography import Point
    from pytest_gracekill.explorations import Asking
    from pytest_gracekill.explore.exploration import Exploration
    from pytest_gracekill.explore.findings import Findings
    from pytest_gracekill.judgement import Judgement
    from pytest_gracekill.progress_line import ProgressLine
    from pytest_gracekill.report import Report
    from pytest_gracekill.routine.external import External
    from pytest_gracekill.routine.flags import KillFlags
    from pytest_gracekill.routine.model import Domain, Driver
    from pytest_gracekill.routine.named import Named
    from pytest_gracekill.routine.policy import KillPolicy
    from pytest_gracekill.settings import Value
    from pytest_gracekill.witness.class_order import SessionOrder

#: The settings of the session, by name; made once in pytest_configure.
SETTLED: pytest.StashKey[dict[str, Value]] = pytest.StashKey()
#: The routine that was named by option, variable or ini file, and which of them; or not there.
NAMED: pytest.StashKey[Named] = pytest.StashKey()
#: When pytest-timeout will end this test, in CLOCK_MONOTONIC seconds.
DEADLINE = pytest.StashKey[float]()
#: In which order locks were taken in the trials of this session.
ORDER: pytest.StashKey[SessionOrder] = pytest.StashKey()
#: Whether a test is a case of the conformance suite.
IN_SUITE = pytest.StashKey[bool]()
#: What this test's trials have found, in order.
REPORTS = pytest.StashKey[list["Judgement"]]()
#: The line on the terminal of this session; not there where it has none.
LINE: pytest.StashKey[ProgressLine] = pytest.StashKey()
#: The explorations of this test, in order; None stands for one that is still going on.
EXPLORED = pytest.StashKey[list["Findings | None"]]()
#: What of that this test has looked at.
LOOKS = pytest.StashKey[Looks]()

MARKER_HELP = (
    "gracekill(*, flags, policy, force, survive, slack, stall_limit, contenders, contend,"
    " locks, at, lookup, callers, succeeded, returns, raises, settle, budget, lock_order, **knobs):"
    " defaults for the trials of this test; knobs are those of fake_qemu, such as flush_time=2.4"
)


class StartFake(Protocol):
    """What the ``fake_qemu`` fixture is."""

    def __call__(self, **knobs: object) -> FakeQemu: ...


class StartReal(Protocol):
    """What the ``real_qemu`` fixture is. ``start``: who starts QEMU, if it is not the fixture."""

    def __call__(
        self, *, start: Callable[[RealChild], object] | None = ..., **knobs: object
    ) -> RealQemu: ...


class Judge(Protocol):
    """What the ``gracekill`` fixture is; the defaults come from marker, options and settings."""

    def __call__(
        self,
        routine: Callable[..., object] | External | None = None,
        *,
        vm: FakeQemu | None = ...,
        flags: KillFlags | int = ...,
        policy: KillPolicy | None = ...,
        force: bool | None = ...,
        survive: float | None = ...,
        slack: float = ...,
        stall_limit: float = ...,
        contenders: int | str | Sequence[str] = ...,
        contend: Sequence[Callable[[], object]] = ...,
        locks: Sequence[tuple[object, str]] = ...,
        at: Mapping[Point, str | Callable[[Driver, Domain], object]] = ...,
        lookup: str = ...,
        callers: int = ...,
        succeeded: Callable[[object], bool] | None = ...,
        returns: Returns = ...,
        raises: type[Exception] | tuple[type[Exception], ...] = ...,
        settle: float = ...,
        budget: float | None = ...,
        lock_order: str = ...,
        **knobs: object,
    ) -> Report: ...

    def explore(
        self,
        routine: Callable[..., object] | None = None,
        *,
        contenders: int | str | Sequence[str] = ...,
        clock: str = ...,
        preemptions: int | None = ...,
        seconds: float = ...,
        seed: int = ...,
        all_failures: bool = ...,
        locks: Sequence[tuple[object, str]] = ...,
        **knobs: object,
    ) -> Exploration:
        """Ask the same question over every schedule of the threads, in virtual time.

        Arguments of a trial are taken as there. ``contenders`` are threads that do their work once
        each: those of a trial, and its acts (eof, destroy, restart, undefine). ``clock``:
        ``"jump"``, time passes when nobody can go on; ``"explore"``, it may pass at any step;
        ``"both"``. ``preemptions``: so many are looked at exhaustively; ``None``, any number.
        ``seconds`` of CPU time at most, and five times that of real time. ``seed`` for the
        schedules at random. ``all_failures``: go on after the first.
        """

    def explore_threads(
        self,
        setup: Callable[[], T],
        *bodies: Callable[[T], object],
        check: Callable[[T], object] | None = None,
        clock: str = ...,
        preemptions: int | None = ...,
        seconds: float = ...,
        seed: int = ...,
        all_failures: bool = ...,
        locks: Sequence[tuple[object, str]] = ...,
    ) -> Exploration:
        """Run ``body(state)`` each in a thread, in every schedule; ``check(state)`` at the end.

        ``setup()`` makes a new state for each schedule. A failure is a deadlock, an exception of a
        body, or of the check (or that it returns False).
        """


@pytest.fixture
def kill_routine(request: pytest.FixtureRequest) -> Callable[..., object] | External:
    """The routine under test: override it, or name one by ``--gracekill-routine`` (or ``-stop``).

    By default libvirt's of 2012, ``process_kill``. The name of its first parameter says what it
    gets: driver (then domain, flags), pid, popen, process, or child (the fake, not yet started). A
    fixture of your own that overrides this one comes before every option.
    """
    named = request.config.stash.get(NAMED, None)
    if named is not None:
        return named.routine
    from pytest_gracekill.routine.process_kill import process_kill  # noqa: PLC0415 - see STYLE

    return process_kill


@contextmanager
def folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Path]]:
    """Folders for fakes; gone with the test."""
    made: list[Path] = []

    def make() -> Path:
        made.append(tmp_path_factory.mktemp("gracekill"))
        return made[-1]

    yield make
    for folder in made:
        # another process may have deleted it, of which the trial's report tells
        with suppress(FileNotFoundError):
            shutil.rmtree(folder)


def _needs_linux() -> None:
    if sys.platform != "linux":
        pytest.skip(f"the fake needs Linux (pidfd, FIFO marks); this is {sys.platform}")


@pytest.fixture
def fake_qemu(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartFake]:
    """Start fakes: ``fake_qemu(flush_time=2.4)`` returns a running one, ready to be killed.

    A fake is a child process that behaves like QEMU at shutdown: acknowledged writes sit in its own
    memory, and on SIGTERM, SIGINT or SIGHUP it flushes them to its disk file over ``flush_time``
    seconds. ``.pid`` is whom to kill, ``.wait()`` and ``.exit`` say how it ended,
    ``.disk.audit()`` says what was lost. It ends with the test at the latest.
    """
    _needs_linux()
    from pytest_gracekill import trial  # noqa: PLC0415 - loaded when it is used
    from pytest_gracekill.child.handle import spawn  # noqa: PLC0415
    from pytest_gracekill.child.knobs import Knobs  # noqa: PLC0415

    def start(**knobs: object) -> FakeQemu:
        __tracebackhide__ = True
        try:
            return begin(knobs)
        except UnsupportedError as error:
            pytest.skip(error.what)
        except UsageError as error:
            # the user's line is what is wrong, not ours
            raise error.with_traceback(None) from None

    def begin(knobs: dict[str, object]) -> FakeQemu:
        merged = arguments_of(request, knobs)
        names = trial.knob_names()
        for name, value in merged.items():
            if name not in names and value.source == "the call":
                raise settings.unknown(name, names, value.source)
        chosen = {name: value for name, value in merged.items() if name in names}
        values = {name: value.value for name, value in chosen.items()}
        sources = {name: value.source for name, value in chosen.items()}
        fake = spawn(Knobs.from_values(values, sources), folder())
        stack.callback(fake.close)
        return fake

    with folders(tmp_path_factory) as folder, ExitStack() as stack:
        yield start


@pytest.fixture
def real_qemu(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    kill_routine: object,  # noqa: ARG001 - as above: it decides on the topology
) -> Iterator[StartReal]:
    """Start real QEMUs: ``gracekill(vm=real_qemu(flush_time=2.4))`` judges a routine on one.

    It is ``qemu-system-x86_64 -machine none`` (or, with ``program="storage-daemon"``, that) with a
    qcow2 image on a disk that takes ``flush_time`` seconds for what QEMU writes when it is stopped,
    or for ever (``gate="held"``). The handle is that of a fake, with a ``.gate`` besides. With
    ``start=callable`` a manager starts it: the callable gets ``program``, to run in QEMU's place,
    and ``disk``, the UNIX socket at which an NBD server has the qcow2 disk. Where QEMU is not
    installed the test is skipped, or fails with ``--gracekill-require-qemu``.
    """
    _needs_linux()
    from pytest_gracekill import trial  # noqa: PLC0415 - loaded when it is used
    from pytest_gracekill.child import real_knobs  # noqa: PLC0415
    from pytest_gracekill.child.real_managed import spawn_by  # noqa: PLC0415
    from pytest_gracekill.child.real_programs import MissingQemuError  # noqa: PLC0415
    from pytest_gracekill.child.real_qemu import spawn  # noqa: PLC0415

    def begin(*, start: Callable[[RealChild], object] | None = None, **knobs: object) -> RealQemu:
        __tracebackhide__ = True
        try:
            return spawned(start, knobs)
        except MissingQemuError as error:
            required = request.config.stash[SETTLED]["require_qemu"]
            if required.value:
                what = f"{error.what}; it is required by {required.source}"
                # from None: else the text would be there twice
                raise pytest.fail.Exception(what, pytrace=False) from None
            pytest.skip(error.what)
        except UsageError as error:
            # the user's line is what is wrong, not ours
            raise error.with_traceback(None) from None

    def spawned(start: Callable[[RealChild], object] | None, knobs: dict[str, object]) -> RealQemu:
        merged = arguments_of(request, knobs)
        names = real_knobs.names()
        for name, value in merged.items():
            if name not in names and value.source == "the call":
                raise settings.unknown(name, names, value.source)
        chosen = {name: value for name, value in merged.items() if name in names}
        if "topology" not in chosen and start is None:
            chosen["topology"] = trial.topology_for(*routine_of(request))
        values = {name: value.value for name, value in chosen.items()}
        sources = {name: value.source for name, value in chosen.items()}
        checked = real_knobs.RealKnobs.from_values(values, sources)
        vm = spawn(checked, folder()) if start is None else spawn_by(start, checked, folder())
        stack.callback(vm.close)
        return vm

    with folders(tmp_path_factory) as folder, ExitStack() as stack:
        yield begin


@pytest.fixture
def gracekill(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    kill_routine: object,  # noqa: ARG001 - by name, so that one with params works
) -> Iterator[Judge]:
    """Run a kill routine on a fake QEMU under contending threads, and judge it.

    ``report = gracekill(flush_time=2.4, flags=KillFlags.FORCE)`` runs ``kill_routine`` (or the
    routine that is handed in first) once; ``report.check()`` fails with a table of what was lost,
    why, and what to change. Arguments: routine, vm, flags, policy, force, survive, slack,
    stall_limit, contenders, contend, locks, at, lookup, callers, succeeded, returns, raises,
    settle, budget, lock_order, and every knob of ``fake_qemu``.
    """
    _needs_linux()
    from pytest_gracekill import again, lab, trial  # noqa: PLC0415 - loaded when it is used
    from pytest_gracekill.report import Report  # noqa: PLC0415
    from pytest_gracekill.underway import TrialUnderway  # noqa: PLC0415
    from pytest_gracekill.witness.class_order import SessionOrder, TrialOrder  # noqa: PLC0415

    reports = request.node.stash.setdefault(REPORTS, [])
    order = request.config.stash.setdefault(ORDER, SessionOrder())

    def judge(
        routine: Callable[..., object] | External | None = None, **arguments: object
    ) -> Report:
        __tracebackhide__ = True
        source = "the call"
        if routine is None:
            routine, source = routine_of(request)
        try:
            plan = trial.plan(
                routine,
                arguments_of(request, arguments),
                source=source,
                directory=folder,
                deadline=request.node.stash.get(DEADLINE, None),
                session_order=TrialOrder(order, request.node.nodeid),
                in_suite=request.node.stash.get(IN_SUITE, False),
            )
        except UsageError as error:
            # the user's line is what is wrong, not ours
            raise error.with_traceback(None) from None
        going_on = TrialUnderway()
        try:
            with telling(request, going_on):
                found = again.judged(plan, lambda plan: lab.run(plan, going_on), folder)
        except UnsupportedError as error:
            pytest.skip(error.what)
        except (UsageError, StartError) as error:
            # the same for what is wrong with an adapter
            raise error.with_traceback(None) from error.__cause__
        reports.append(found)
        request.node.user_properties.extend(trial.properties(found))
        save = request.config.stash[SETTLED]["save"].value
        root, every = trial.evidence_root(save, request.config.invocation_params.dir)
        if save is not None and (every or not found.ok):
            nodeid = request.node.nodeid
            place = trial.evidence_folder(root, nodeid, len(reports))
            saving.attempt(
                request.config, root, lambda: found.save(place, title=nodeid), found, nodeid
            )
        return Report(found, _looking(request, found, looks.caller()))

    judging = cast("Judge", judge)
    # a function has attributes, too
    judging.explore, judging.explore_threads = _explorers(request)  # type: ignore[method-assign]
    with folders(tmp_path_factory) as folder:
        yield judging
    _check_replayed(request)
    handed = request.node.stash.setdefault(LOOKS, Looks())
    if handed.called:
        # what other fixtures have run in their clean-up, after the test itself
        looks.fail(handed.settle())


def _looking(
    request: pytest.FixtureRequest, found: Judgement | Findings, frame: FrameType
) -> Callable[[], None] | None:
    """What a test calls by looking at what it is handed; None where there is no need to look."""
    if found.ok:
        return None
    handed: Looks = request.node.stash.setdefault(LOOKS, Looks())
    return handed.hand(found, frame).look


def _explorers(
    request: pytest.FixtureRequest,
) -> tuple[Callable[..., Exploration], Callable[..., Exploration]]:
    """``gracekill.explore`` and ``gracekill.explore_threads`` of a test."""

    def explore(routine: Callable[..., object] | None = None, **arguments: object) -> Exploration:
        __tracebackhide__ = True
        from pytest_gracekill import explorations  # noqa: PLC0415 - loaded when it is used

        named = (routine, "the call") if routine is not None else routine_of(request)
        values = arguments_of(request, arguments)
        found = explored(lambda asking: explorations.explore(asking, *named, values))
        return handed(found, looks.caller())

    def explore_threads(
        setup: Callable[[], object],
        *bodies: Callable[[object], object],
        check: Callable[[object], object] | None = None,
        **arguments: object,
    ) -> Exploration:
        __tracebackhide__ = True
        from pytest_gracekill import explorations  # noqa: PLC0415 - loaded when it is used

        found = explored(
            lambda asking: explorations.explore_threads(asking, setup, bodies, check, arguments)
        )
        return handed(found, looks.caller())

    def handed(found: Findings, frame: FrameType) -> Exploration:
        from pytest_gracekill.explore.exploration import Exploration  # noqa: PLC0415 - see above

        return Exploration(found, _looking(request, found, frame))

    def explored(ask: Callable[[Asking], Findings]) -> Findings:
        __tracebackhide__ = True
        from pytest_gracekill import explorations, trial  # noqa: PLC0415 - loaded when it is used
        from pytest_gracekill.underway import SearchUnderway  # noqa: PLC0415

        node, config = request.node, request.config
        so_far = node.stash.setdefault(EXPLORED, [])
        so_far.append(None)
        going_on = SearchUnderway()
        asking = explorations.Asking(
            test=node.nodeid,
            number=len(so_far),
            replay=config.stash[SETTLED]["replay"],
            deadline=node.stash.get(DEADLINE, None),
            on_progress=going_on.note if LINE in config.stash else None,
        )
        try:
            with telling(request, going_on):
                found = so_far[asking.number - 1] = ask(asking)
        except (UsageError, StartError) as error:
            # the user's line is what is wrong, not ours
            raise error.with_traceback(None) from error.__cause__
        root, _ = trial.evidence_root(
            config.stash[SETTLED]["save"].value, config.invocation_params.dir
        )
        if config.stash[SETTLED]["save"].value is not None and found.failure is not None:
            name = f"exploration-{asking.number}"
            folder = trial.evidence_folder(root, node.nodeid, asking.number).with_name(name)
            saving.attempt(
                config,
                root,
                lambda: found.save(folder, title=node.nodeid),
                found.failure,
                node.nodeid,
            )
        return found

    return explore, explore_threads


def telling(request: pytest.FixtureRequest, going_on: object) -> AbstractContextManager[None]:
    """Tell on the terminal what is going on, where there is one and it takes long."""
    line = request.config.stash.get(LINE, None)
    return nullcontext() if line is None else line.during(going_on.__str__)


def _check_replayed(request: pytest.FixtureRequest) -> None:
    """A token of an exploration that the test has not come to has replayed nothing."""
    replay = request.config.stash[SETTLED]["replay"]
    explored = request.node.stash.get(EXPLORED, [])
    if replay.value is None or not explored:
        return
    from pytest_gracekill.explore.token import parse  # noqa: PLC0415 - loaded when it is used

    number = parse(str(replay.value), replay.source).number
    if number > len(explored):
        raise UsageError(
            f"{replay.value}: a token of exploration {number} of its test, and this test has"
            f" {len(explored)}",
            source=replay.source,
        )


def routine_of(request: pytest.FixtureRequest) -> tuple[Callable[..., object] | External, str]:
    """The routine of ``kill_routine``, and where it was named."""
    routine = request.getfixturevalue("kill_routine")
    named = request.config.stash.get(NAMED, None)
    if named is not None and named.routine is routine:
        return routine, named.source
    return routine, "fixture kill_routine"


def arguments_of(request: pytest.FixtureRequest, arguments: dict[str, object]) -> dict[str, Value]:
    """Every argument of a trial with its source: call > marker > the session's settings."""
    source = f"marker gracekill of {request.node.nodeid}"
    markers = list(request.node.iter_markers("gracekill"))
    for marker in markers:
        if marker.args:
            raise UsageError(f"{marker.args!r}: the marker takes keyword arguments", source=source)
    session = request.config.stash[SETTLED]
    return settings.layered(session, [marker.kwargs for marker in markers], source, arguments)
