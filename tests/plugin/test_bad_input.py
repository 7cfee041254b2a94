"""One clear error before any process is started: the value, its source, and what would be right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import RunPytest

# spawn is made to fail: whatever starts a process shows as another error
TRIAL = """
import pytest
import pytest_gracekill.lab, pytest_gracekill.child.handle
from pytest_gracekill import *

@pytest.fixture(autouse=True)
def no_process(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a process was started")
    monkeypatch.setattr("pytest_gracekill.lab.spawn", refuse)
    monkeypatch.setattr("pytest_gracekill.child.handle.spawn", refuse)

def no_first(vm): ...
def no_parameter(): ...
def wants_more(pid, colour): ...
async def coroutine(pid): ...
def takes_pid(pid): ...
def takes_popen(popen): ...

{marker}
def test_it(gracekill, fake_qemu):
    {call}
"""

CALLS = {
    "gracekill(flush_time=-1)": ("flush_time=-1", "0 or more"),
    "gracekill(flush_time=float('nan'))": ("flush_time=nan",),
    "gracekill(flush_tim=1)": ("'flush_tim'", "did you mean 'flush_time'?"),
    "gracekill(on_term='explode')": ("on_term='explode'", "'flush'"),
    "gracekill(topology='tree')": ("topology='tree'", "'reaped'"),
    "gracekill(on_term=Crash(at=64, exit=1))": ("64", "63"),
    "gracekill(blocks=0)": ("blocks=0",),
    "gracekill(block_size=1000)": ("block_size=1000", "512"),
    "gracekill(policy=KillPolicy(grace=0.1, wait='poll'))": ("grace", "poll"),
    "gracekill(policy=3)": ("policy=3", "KillPolicy"),
    "gracekill(flags=8)": ("flags=8", "FORCE"),
    "gracekill(slack=-0.1)": ("slack=-0.1", "0 or more"),
    "gracekill(survive='long')": ("survive='long'", "seconds"),
    "gracekill(contenders=-1)": ("contenders=-1",),
    "gracekill(contenders=('some',))": ("'some'", "other, same, list, define"),
    "gracekill(lookup='quick')": ("lookup='quick'", "'coupled'"),
    "gracekill(budget=0)": ("budget=0", "above 0"),
    "gracekill(no_first)": ("no_first", "'vm'", "pid", "popen", "process", "driver"),
    "gracekill(no_parameter)": ("no_parameter", "no parameter"),
    "gracekill(wants_more)": ("wants_more", "'colour'", "flags"),
    "gracekill(coroutine)": ("coroutine", "plain callable"),
    "gracekill(42)": ("42", "callable"),
    "gracekill(takes_pid, flags=1)": ("takes_pid", "no flags", "force=True"),
    "gracekill(takes_pid, policy=KillPolicy())": ("takes_pid", "no policy"),
    "gracekill(takes_popen, topology='reaped')": ("topology='reaped'", "'popen'", "child"),
    "gracekill(vm=12)": ("vm=12", "FakeQemu"),
    "gracekill().check('date')": ("started",),
    "fake_qemu(linger=-2)": ("linger=-2", "0 or more"),
    "fake_qemu(helper={'session'})": ("helper",),
    "fake_qemu(slack=1)": ("'slack'",),
}


@pytest.mark.parametrize("call", [call for call in CALLS if "check" not in call])
def test_in_the_call(run_pytest: RunPytest, call: str) -> None:
    result = run_pytest(TRIAL.format(marker="", call=call))
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "a process was started" not in text
    assert "UsageError" in text
    for part in CALLS[call]:
        assert part in text, text
    if "KillPolicy(grace" not in call:
        assert "(from the call)" in text


@pytest.mark.parametrize(
    ("marker", "parts"),
    [
        ("flush_time=-1", ("flush_time=-1",)),
        ("slack='a'", ("slack='a'",)),
        ("colour=1", ("'colour'",)),
    ],
)
def test_in_the_marker(run_pytest: RunPytest, marker: str, parts: tuple[str, ...]) -> None:
    result = run_pytest(
        TRIAL.format(marker=f"@pytest.mark.gracekill({marker})", call="gracekill()")
    )
    result.assert_outcomes(failed=1)
    text = result.stdout.str()
    assert "a process was started" not in text
    assert "(from marker gracekill of test_in_the_marker.py::test_it)" in text, text
    for part in parts:
        assert part in text


OUTSIDE = [
    ("slack", "-1", "slack=-1.0: a time in seconds"),
    ("slack", "soon", "slack='soon': a time in seconds"),
    ("survive", "nan", "survive=nan: a time in seconds"),
    ("stall_limit", "0", "stall_limit=0.0: a time in seconds"),
    ("budget", "0", "budget=0.0: a time in seconds"),
    ("contenders", "same,some", "contenders=('same', 'some'): a number"),
    ("contenders", "-3", "contenders=-3: a number"),
]


@pytest.mark.parametrize(("name", "value", "error"), OUTSIDE)
@pytest.mark.parametrize("where", ["option", "variable", "ini"])
def test_from_outside(
    run_pytest: RunPytest,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    name: str,
    value: str,
    error: str,
) -> None:
    arguments: tuple[str, ...] = ()
    if where == "option":
        option = f"--gracekill-{name.replace('_', '-')}"
        arguments, source = (f"{option}={value}",), option
    elif where == "variable":
        source = f"GRACEKILL_{name.upper()}"
        monkeypatch.setenv(source, value)
    else:
        source = f"gracekill_{name}"
        pytester.makeini(f"[pytest]\n{source} = {value}\n")
    result = run_pytest("def test_nothing(): pass", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    text = result.stderr.str()
    assert error in text, text
    assert source in text
    assert "Traceback" not in text


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
