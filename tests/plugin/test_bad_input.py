"""One clear error before any process is started: the value, its source, and what would be right."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill import settings, trial
from pytest_gracekill.child.knobs import Crash, Stall
from pytest_gracekill.errors import UsageError
from pytest_gracekill.routine.policy import KillPolicy
from pytest_gracekill.routine.process_kill import process_kill
from pytest_gracekill.settings import SETTINGS, Value

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import RunPytest


def no_first(vm: object) -> None: ...
def no_parameter() -> None: ...
def wants_more(pid: int, colour: str) -> None: ...
async def coroutine() -> None: ...
def takes_pid(pid: int) -> None: ...
def takes_popen(popen: object) -> None: ...
async def async_act(driver: object, domain: object) -> None: ...


ARGUMENTS: list[tuple[dict[str, object], tuple[str, ...]]] = [
    ({"flush_time": -1}, ("flush_time=-1", "seconds from 0")),
    ({"flush_time": float("nan")}, ("flush_time=nan", "finite")),
    ({"flush_tim": 1}, ("'flush_tim'", "did you mean 'flush_time'?")),
    ({"on_term": "explode"}, ("on_term='explode'", '"flush"', "Crash")),
    ({"topology": "tree"}, ("topology='tree'", '"reaped"')),
    ({"on_term": Crash(at=64, exit=1)}, ("Crash(at=64", "blocks=64", "blocks - 1")),
    ({"flush_profile": Stall(at=2, seconds=-1)}, ("Stall", "seconds from 0")),
    ({"blocks": 0}, ("blocks=0", "from 1")),
    ({"block_size": 1000}, ("block_size=1000", "512")),
    ({"helper": {"session"}}, ("helper", "helpers=1")),
    ({"policy": 3}, ("policy=3", "KillPolicy")),
    ({"flags": 8}, ("flags=8", "FORCE")),
    ({"flags": True}, ("flags=True", "FORCE")),
    ({"force": 1}, ("force=1", "True or False")),
    ({"slack": -0.1}, ("slack=-0.1", "0 or more")),
    ({"survive": "long"}, ("survive='long'", "seconds")),
    ({"contenders": -1}, ("contenders=-1", "0 or more")),
    ({"contenders": ("some",)}, ("'some'", "other, same, list, define")),
    ({"lookup": "quick"}, ("lookup='quick'", "'coupled'")),
    ({"budget": 0}, ("budget=0", "above 0")),
    ({"contend": [1]}, ("contend=[1]", "callables without parameters")),
    ({"contend": [len]}, ("contend=[<built-in function len>]", "without parameters")),
    ({"succeeded": 1}, ("succeeded=1", "callable")),
    ({"vm": 12}, ("vm=12", "FakeQemu")),
    ({"at": "exit"}, ("at='exit'", "a dict", "'eof'")),
    ({"at": {"at exit": "eof"}}, ("'at exit' is no point", "'before the relock'")),
    ({"at": {"exit": "restarts"}}, ("at 'exit' one of 'eof', 'destroy'", "callable")),
    ({"at": {"exit": ["eof"]}}, ("at 'exit' one of 'eof'",)),
    ({"at": {"exit": None}}, ("at 'exit' one of 'eof'",)),
]


def refuse() -> Path:
    raise AssertionError("a folder for a process was made")


def plan(routine: object, arguments: dict[str, object], source: str = "the call") -> None:
    values = {name: Value(value=value, source=source) for name, value in arguments.items()}
    defaults = settings.from_outside({}, {}, {})
    trial.plan(
        routine,
        {**defaults, **values},
        source="the call",
        directory=refuse,
        deadline=None,
    )


@pytest.mark.parametrize(
    ("arguments", "parts"), ARGUMENTS, ids=[str(arguments) for arguments, _ in ARGUMENTS]
)
def test_argument(arguments: dict[str, object], parts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        plan(process_kill, arguments, source="marker gracekill of a test")
    for part in (*parts, "(from marker gracekill of a test)"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("routine", "arguments", "parts"),
    [
        (no_first, {}, ("no_first", "'vm'", "pid:", "popen:", "process:", "driver:")),
        (no_parameter, {}, ("no_parameter", "no parameter")),
        (wants_more, {}, ("wants_more", "'colour'", "flags", "grace")),
        (takes_pid, {"contend": [coroutine]}, ("coroutine", "event loop", "takes_pid")),
        (42, {}, ("42", "callable")),
        (takes_pid, {"flags": 1}, ("takes_pid", "no flags", "force=True")),
        (takes_pid, {"policy": KillPolicy()}, ("takes_pid", "no policy")),
        (takes_popen, {"topology": "reaped"}, ("topology='reaped'", "'popen'", "child")),
        (takes_pid, {"at": {"exit": "eof"}}, ("at={'exit': 'eof'}", "takes_pid", "no driver")),
        (process_kill, {"at": {"exit": takes_pid}}, ("takes_pid cannot be called so",)),
        (process_kill, {"at": {"exit": async_act}}, ("(driver, domain)", "async_act cannot")),
        (
            process_kill,
            {"at": {"exit": "restart"}, "callers": 2},
            ("at='restart' with callers=2", "would stop the new VM"),
        ),
        (
            process_kill,
            {"at": {"exit": "undefine"}, "callers": 2},
            ("at='undefine' with callers=2", "no reference of their own"),
        ),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_routine(
    routine: Callable[..., object], arguments: dict[str, object], parts: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as caught:
        plan(routine, arguments)
    for part in (*parts, "(from the call)"):
        assert part in str(caught.value)


RUNS_ALREADY = """
import os
import pytest
from pytest_gracekill import KillPolicy

def test_call(gracekill, FIXTURE):
    gracekill(vm=FIXTURE(), flush_time=2)

def test_slip(gracekill, FIXTURE):
    gracekill(vm=FIXTURE(), flush_tim=2)

def test_not_called(gracekill, FIXTURE):
    gracekill(vm=FIXTURE)

def test_not_its_child(gracekill, FIXTURE):
    gracekill(lambda popen: popen.kill(), vm=FIXTURE(topology="reaped"))

@pytest.mark.gracekill(flush_time=5, blocks=7)
def test_marker(gracekill, FIXTURE):
    vm = FIXTURE(flush_time=0.1)  # the marker is read here, and the call is stronger
    report = gracekill(lambda pid: (os.kill(pid, 15), vm.wait(20)), vm=vm)
    report.check("data")
    assert report.disk.acknowledged == list(range(7))
"""
NOT_OF_QEMU = """
def test_gate(gracekill, real_qemu):
    gracekill(vm=real_qemu(), gate="held")

def test_helpers(gracekill, real_qemu):
    gracekill(vm=real_qemu(), helpers=1)

@pytest.mark.gracekill(on_term="ignore")
def test_only_of_a_fake(gracekill, real_qemu):
    gracekill(vm=real_qemu())
"""
NEEDS_QEMU = pytest.mark.skipif(shutil.which("qemu-io") is None, reason="QEMU is not installed")


@pytest.mark.parametrize(
    ("fixture", "own"),
    [
        ("fake_qemu", "child, wrapped, leaderless"),
        pytest.param("real_qemu", "child, wrapped", marks=NEEDS_QEMU),
    ],
)
def test_a_vm_that_runs_already_is_what_it_is(
    run_pytest: RunPytest, fixture: str, own: str
) -> None:
    result = run_pytest(RUNS_ALREADY.replace("FIXTURE", fixture), "--tb=short")
    result.assert_outcomes(passed=1, failed=4)
    text = result.stdout.str()
    made = "that VM runs already; say it where the VM is made:"
    for said in (
        f"flush_time=2 with vm=...: {made} {fixture}(flush_time=2) (from the call)",
        "unknown argument 'flush_tim'; did you mean 'flush_time'?",
        f"that is the fixture, which starts a VM when it is called: vm={fixture}()",
        f'of its own: {own}; say it where the VM is made: {fixture}(topology="child")',
    ):
        assert said in text


@NEEDS_QEMU
def test_a_real_qemu_has_not_all_knobs_of_a_fake(run_pytest: RunPytest) -> None:
    result = run_pytest(f"import pytest\n{NOT_OF_QEMU}", "--tb=short")
    result.assert_outcomes(failed=3)
    text = result.stdout.str()
    assert "say it where the VM is made: real_qemu(gate='held') (from the call)" in text
    for said in ("helpers=1", "on_term='ignore'"):
        assert f"{said} with vm=...: real_qemu has no such knob" in text
    assert "(from marker gracekill of test_a_real" in text


def test_right_values_are_no_error() -> None:
    with pytest.raises(AssertionError, match="a folder for a process was made"):
        plan(
            process_kill,
            {
                "flush_time": 0,
                "contenders": ("same", "list"),
                "flags": 3,
                "at": {"exit": "eof", "unlocked": print},
            },
        )


OUTSIDE = [
    ("slack", "-1", "slack=-1.0: a time in seconds"),
    ("slack", "soon", "slack='soon': a time in seconds"),
    ("survive", "nan", "survive=nan: a time in seconds"),
    ("stall_limit", "0", "stall_limit=0.0: a time in seconds"),
    ("budget", "0", "budget=0.0: a time in seconds"),
    ("contenders", "same,some", "contenders=('same', 'some'): a number"),
    ("contenders", "-3", "contenders=-3: a number"),
]


@pytest.mark.parametrize(("name", "text", "error"), OUTSIDE)
def test_setting_from_outside(name: str, text: str, error: str) -> None:
    setting = SETTINGS[name]
    for options, environment, ini, source in (
        ({name: text}, {}, {}, setting.option),
        ({}, {setting.variable: text}, {}, f"variable {setting.variable}"),
        ({}, {}, {name: text}, f"ini option {setting.ini}"),
        # also one that another would override
        ({name: "1"}, {setting.variable: text}, {}, f"variable {setting.variable}"),
    ):
        with pytest.raises(UsageError, match=re.escape(error)) as caught:
            settings.from_outside(options, environment, ini)
        assert f"(from {source})" in str(caught.value)


@pytest.mark.parametrize("where", ["option", "variable", "ini"])
def test_a_session_with_a_wrong_setting_does_not_start(
    run_pytest: RunPytest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    arguments = ("--gracekill-stall-limit=0",) if where == "option" else ()
    if where == "variable":
        monkeypatch.setenv("GRACEKILL_STALL_LIMIT", "0")
    if where == "ini":
        pytester.makeini("[pytest]\ngracekill_stall_limit = 0\n")
    result = run_pytest("def test_nothing(): pass", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = result.stderr.str()
    assert "stall_limit=0.0: a time in seconds" in text
    assert {
        "option": "--gracekill-stall-limit",
        "variable": "GRACEKILL_STALL_LIMIT",
        "ini": "gracekill_stall_limit",
    }[where] in text
    assert "Traceback" not in text


def test_a_test_shows_the_users_line_and_one_error(run_pytest: RunPytest) -> None:
    source = """
    import pytest

    @pytest.mark.gracekill(slack="a")
    def test_marker(gracekill):
        gracekill()

    @pytest.mark.gracekill(2.4)
    def test_position(gracekill):
        gracekill()

    def test_call(gracekill):
        gracekill(flush_tim=2)

    def test_fake(fake_qemu):
        fake_qemu(slack=1)

    def test_verdict(gracekill):
        gracekill(flush_time=0).check("date")
    """
    result = run_pytest(source)
    result.assert_outcomes(failed=5)
    text = result.stdout.str()
    for error in (
        "slack='a': a time in seconds is needed",
        "(2.4,): the marker takes keyword arguments",
        "unknown argument 'flush_tim'; did you mean 'flush_time'? (from the call)",
        "unknown argument 'slack'",
        "there is no verdict 'date'; those that are judged: data, escalation",
    ):
        assert error in text
    assert "(from marker gracekill of test_a_test_shows_the_users_line_and_one_error.py::" in text
    assert "pytest_gracekill/" not in re.sub(r"pytest_gracekill/errors.py", "", text), text


def test_the_closer_source_wins(
    run_pytest: RunPytest, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeini("[pytest]\ngracekill_slack = 0.1\ngracekill_budget = 11\n")
    monkeypatch.setenv("GRACEKILL_SLACK", "0.2")
    monkeypatch.setenv("GRACEKILL_BUDGET", "12")
    source = """
    import pytest
    from pytest_gracekill import trial, KillPolicy

    seen = {}

    @pytest.fixture(autouse=True)
    def spy(monkeypatch):
        plan = trial.plan
        def keep(*args, **kwargs):
            seen["plan"] = plan(*args, **kwargs)
            return seen["plan"]
        monkeypatch.setattr(trial, "plan", keep)

    pytestmark = pytest.mark.gracekill(slack=0.3, contenders=0, flush_time=0.01, blocks=3)

    @pytest.mark.gracekill(slack=0.4)
    def test_marker(gracekill):
        gracekill(blocks=4)
        plan = seen["plan"]
        assert (plan.slack, plan.budget, plan.contenders) == (0.4, 13.0, ())
        assert (plan.knobs.flush_time, plan.knobs.blocks) == (0.01, 4)

    def test_call(gracekill, fake_qemu):
        gracekill(slack=0.5, contenders="same")
        assert (seen["plan"].slack, seen["plan"].contenders) == (0.5, ("same",))
        assert fake_qemu().knobs.blocks == 3
        assert fake_qemu(blocks=5).knobs.blocks == 5
    """
    run_pytest(source, "--gracekill-budget=13").assert_outcomes(passed=2)
