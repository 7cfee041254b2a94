"""What the routine under test promises, how it is asked, and which cases do not apply to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_gracekill.conformance.around import around, around_death
from pytest_gracekill.errors import StartError, UsageError
from pytest_gracekill.fixtures import REPORTS, arguments_of, folders, routine_of
from pytest_gracekill.routine.adapt import MANAGERS, Adapted, adapt
from pytest_gracekill.routine.flags import KillFlags
from pytest_gracekill.routine.policy import KillPolicy
from pytest_gracekill.routine.process_kill import process_kill
from pytest_gracekill.trial import default_topology

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import NoReturn

    from pytest_gracekill.child.handle import FakeQemu
    from pytest_gracekill.child.journal import Journal
    from pytest_gracekill.child.unstarted import Child
    from pytest_gracekill.fixtures import Judge, StartFake
    from pytest_gracekill.judgement import Judgement
    from pytest_gracekill.report import Report
    from pytest_gracekill.routine.external import External

#: What is not judged where the VM cannot be saved: its data are lost, its helpers may be left.
_SAVED_ONLY = ("data", "leftovers")

#: What can be explored, by the routine's first parameter, and the seconds that a case may take.
EXPLORED_KINDS = ("driver", "pid", "popen", "process")
_EXPLORED = 5.0

#: What a case has to tell beside its reports, in order.
REMARKS = pytest.StashKey[list[str]]()
#: The routine of a case, and what it promises, as people read it.
ROUTINE = pytest.StashKey[str]()


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """The routine, and what it promises; ``survive`` and ``slack`` in seconds.

    ``force``: whether it sends SIGKILL, where neither flags nor an option say so None. ``folder``
    makes a folder that is gone after the test; ``reports`` are those of the test's trials,
    ``remarks`` what else is to be told of a case that passes.
    """

    adapted: Adapted
    survive: float
    force: bool | None
    slack: float
    gracekill: Judge
    fake_qemu: StartFake
    folder: Callable[[], Path]
    reports: list[Judgement]
    remarks: list[str]

    def __str__(self) -> str:
        return f"{self.adapted}, survives {self.survive:g} s"

    @property
    def kind(self) -> str:
        """The name of its first parameter, or ``external``."""
        return self.adapted.kind

    @property
    def flagged(self) -> bool:
        """Whether each call says by flags what is asked for."""
        return self.adapted.takes("flags")

    @property
    def has_own_child(self) -> bool:
        """Whether the VM is a child of the process that the routine runs in."""
        return default_topology(self.adapted) == "child"

    @property
    def policy(self) -> KillPolicy | None:
        """The promised time as a policy, for a routine that can be told it."""
        told = any(self._asks_for(name) for name in ("policy", "grace", "timeout"))
        if not told and self.adapted.routine is not process_kill:
            return None
        return KillPolicy(grace=self.survive, reap=max(self.survive / 2, 1.0))

    def _asks_for(self, name: str) -> bool:
        """Whether it has to be told: a default of its own is what it promises."""
        parameter = self.adapted.parameters.get(name)
        return parameter is not None and parameter.default is parameter.empty

    def trial(
        self,
        routine: Callable[..., object] | External | None = None,
        *,
        flags: KillFlags = KillFlags.FORCE,
        contenders: int | Sequence[str] = 8,
        **more: Any,
    ) -> Report:
        """One trial of the routine (or of ``routine`` in its place), asked as it can be asked."""
        # survive, and as much again for the wait after SIGKILL; what takes longer hangs
        arguments = {"survive": self.survive, "budget": 2 * self.survive + 10, **more}
        if self.flagged:
            arguments["flags"] = flags
        if self.policy is not None:
            arguments["policy"] = self.policy
        return self.gracekill(routine or self.adapted.routine, contenders=contenders, **arguments)

    def vm(self, **knobs: object) -> FakeQemu:
        """A VM that runs already, for a routine that does not start it."""
        return self.fake_qemu(**{"topology": default_topology(self.adapted), **knobs})

    def trial_within(
        self,
        context: Callable[[Journal], AbstractContextManager[object]],
        *,
        graceful: bool = False,
        **knobs: Any,
    ) -> Report:
        """A trial in which the call is made within ``context(journal of the VM)``.

        ``graceful``: SIGKILL is not asked for, and not promised.
        """
        asked: dict[str, Any] = {}
        if graceful:
            asked = {"flags": KillFlags(0)} if self.flagged else {"force": None}
        if self.adapted.starts_the_vm:

            def of_child(child: object) -> AbstractContextManager[object]:
                return context(_started(child).journal)

            return self.trial(around(self.adapted, of_child), **asked, **knobs)
        vm = self.vm(**knobs)
        wrapped = around(self.adapted, lambda _first: context(vm.journal))
        return self.trial(wrapped, vm=vm, **asked)

    def trial_after_death(self) -> Report:
        """A trial of a routine that starts its VM, which has died by itself before its call."""
        self.needs_python("when it has started the VM is its own business")
        if self.adapted.form not in MANAGERS:
            pytest.skip("the routine starts its VM in the same call")
        return self.trial(around_death(self.adapted))

    def explore(self, *contenders: str) -> None:
        """Explore the routine beside these (without a driver: alone); none of its schedules fails.

        Skips where it cannot be explored, or not far enough: then the case says nothing.
        """
        why = "an exploration takes a plain function of driver, pid, popen or process"
        if self.kind not in EXPLORED_KINDS or self.adapted.form != "function":
            pytest.skip(f"{why}: the routine is {self.adapted}")
        asked: dict[str, Any] = {"survive": self.survive}
        if self.flagged:
            asked["flags"] = KillFlags.FORCE
        if self.policy is not None:
            asked["policy"] = self.policy
        if self.kind == "driver":
            asked["contenders"] = contenders
        try:
            routine = cast("Callable[..., object]", self.adapted.routine)
            found = self.gracekill.explore(
                routine, flush_time=0.1, preemptions=1, seconds=_EXPLORED, **asked
            )
        except (UsageError, StartError) as error:
            pytest.skip(f"the routine cannot be explored: {error}")
        if found.status == "incomplete":
            pytest.skip(f"{found.headline().removeprefix('gracekill: ')}: {found.limit}")
        if found.failures and not any(" sends SIG" in str(step) for step in found.steps):
            pytest.skip("the routine cannot be explored: how it signals the VM is not simulated")
        found.check()
        self.remarks.append(found.headline().removeprefix("gracekill: "))

    def note(self, report: Judgement) -> None:
        """Take a report of another process as one of this test's."""
        self.reports.append(report)

    def check_unsaved(self, report: Report) -> None:
        """All verdicts but those on a VM that was saved: this one could not be."""
        report.check(*(name for name in report.verdicts if name not in _SAVED_ONLY))

    def check_saved(self, report: Report) -> None:
        """All verdicts, and that every caller was told: this VM ends within the promised time."""
        report.check()
        self._check_told(report)

    def check_ended(self, report: Report) -> None:
        """The same for a VM that ends without having been saved."""
        self.check_unsaved(report)
        self._check_told(report)

    def _check_told(self, report: Report) -> None:
        for call in report.calls:
            if not call.success:
                raise AssertionError(
                    f"gracekill: FAILED (the routine {call}; the VM ends within the promised"
                    f" {self.survive:g} s)\n{report}"
                )

    # -- what does not apply

    def needs_flags(self) -> None:
        """Skip unless the routine takes flags."""
        if not self.flagged:
            pytest.skip("the routine takes no flags")

    def needs_force(self) -> None:
        """Skip where it was promised that SIGKILL never comes."""
        if not self.flagged and self.force is False:
            pytest.skip("the routine promises to send no SIGKILL")

    def needs_graceful(self) -> None:
        """Skip unless the routine can be asked to send no SIGKILL."""
        if not self.flagged and self.force is not False:
            pytest.skip("the routine takes no flags, and does not promise to send no SIGKILL")

    def needs_driver(self) -> None:
        """Skip unless others could come to the routine's driver meanwhile."""
        if self.kind != "driver":
            pytest.skip("the routine takes no driver that others could come to")

    def needs_python(self, why: str) -> None:
        """Skip for a command: ``why`` says what cannot be done to one."""
        if self.kind == "external":
            pytest.skip(f"the routine is a command: {why}")

    def needs_running_vm(self, why: str) -> None:
        """Skip for a routine that starts its VM itself."""
        if self.adapted.starts_the_vm:
            pytest.skip(f"the routine starts its VM itself: {why}")


def _started(child: object) -> Child:
    from pytest_gracekill.child.unstarted import Child  # noqa: PLC0415 - for those who start it

    assert isinstance(child, Child)
    return child


def not_judged(why: str) -> NoReturn:
    """Fail a case that could not be put to the test: unknown is not ok."""
    raise AssertionError(f"gracekill: UNKNOWN ({why})")


@pytest.fixture
def contract(
    request: pytest.FixtureRequest,
    kill_routine: object,  # noqa: ARG001 - by name, so that one with params works
    gracekill: Judge,
    fake_qemu: StartFake,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Contract]:
    """What the routine promises: ``--gracekill-survive``, or the built-in one's grace."""
    __tracebackhide__ = True
    routine, source = routine_of(request)
    settled = arguments_of(request, {})
    survive = settled["survive"].value
    if survive is None:
        if routine is not process_kill:
            raise UsageError(
                "the suite must know what the routine promises to survive:"
                " --gracekill-survive=SECONDS, the flush time in seconds",
                source="the conformance suite",
            )
        survive = KillPolicy().grace
    force = settled["force"].value
    assert force is None or isinstance(force, bool)
    adapted = adapt(routine, source)
    built_in = ", the built-in one" if routine is process_kill else ""
    told = f"{adapted.name}{built_in}, survives {float(str(survive)):g} s"
    request.node.stash[ROUTINE] = told
    with folders(tmp_path_factory) as folder:
        yield Contract(
            adapted=adapted,
            survive=float(str(survive)),
            slack=float(str(settled["slack"].value)),
            force=force,
            gracekill=gracekill,
            fake_qemu=fake_qemu,
            folder=folder,
            reports=request.node.stash[REPORTS],
            remarks=request.node.stash.setdefault(REMARKS, []),
        )
