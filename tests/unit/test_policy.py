"""Flags, policies and results: what is accepted, what is refused and in which words."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError

import pytest

from pytest_gracekill.errors import UsageError
from pytest_gracekill.routine.flags import KillFlags, parse_flags
from pytest_gracekill.routine.policy import LIBVIRT_0_9_10, LIBVIRT_0_9_11, KillPolicy
from pytest_gracekill.routine.result import KillResult


def test_flags_are_libvirts() -> None:
    assert [(flag.name, flag.value) for flag in KillFlags] == [("FORCE", 1), ("NOWAIT", 2)]
    assert str(KillFlags.FORCE | KillFlags.NOWAIT) == "FORCE|NOWAIT"
    assert str(KillFlags(0)) == "0"


@pytest.mark.parametrize("flags", [0, 1, 2, 3, KillFlags.FORCE])
def test_known_flags_pass(flags: int) -> None:
    parsed = parse_flags(flags)
    assert parsed == flags
    assert isinstance(parsed, KillFlags)


@pytest.mark.parametrize("flags", [4, -1, True, 1.0, "FORCE", None])
def test_other_flags_are_refused(flags: object) -> None:
    with pytest.raises(UsageError, match=r"flags=.*KillFlags\.FORCE, KillFlags\.NOWAIT") as caught:
        parse_flags(flags)
    assert repr(flags) in str(caught.value)


def test_default_policy() -> None:
    policy = KillPolicy()
    assert (policy.grace, policy.reap, policy.poll) == (10.0, 5.0, 0.2)
    assert (policy.wait, policy.drop) == ("pidfd", "both")


def test_history_as_constants() -> None:
    assert KillPolicy(grace=1.6, reap=1.4, wait="seed", drop="none") == LIBVIRT_0_9_10
    assert KillPolicy(grace=10.0, reap=5.0, wait="seed", drop="driver") == LIBVIRT_0_9_11


@pytest.mark.parametrize(
    ("field", "value", "right"),
    [
        ("grace", -1, "0 or more"),
        ("grace", float("nan"), "finite"),
        ("grace", float("inf"), "finite"),
        ("grace", True, "number of seconds"),
        ("grace", "10", "number of seconds"),
        ("reap", -0.1, "0 or more"),
        ("reap", None, "number of seconds"),
        ("poll", 0, "more than 0"),
        ("poll", -0.2, "more than 0"),
        ("poll", float("nan"), "more than 0"),
        ("wait", "sleep", '"pidfd", "poll", "seed"'),
        ("wait", None, '"pidfd", "poll", "seed"'),
        ("drop", "domain", '"none", "driver", "both"'),
        ("drop", [], '"none", "driver", "both"'),
    ],
)
def test_a_bad_value_is_named_with_what_is_right(field: str, value: object, right: str) -> None:
    with pytest.raises(UsageError) as caught:
        KillPolicy(**{field: value})  # type: ignore[arg-type]
    assert f"{field}={value!r}" in str(caught.value)
    assert right in str(caught.value)


@pytest.mark.parametrize("wait", ["poll", "seed"])
def test_a_grace_shorter_than_poll_is_refused_where_polls_are_counted(wait: str) -> None:
    with pytest.raises(UsageError, match=r"grace=0\.1.*shorter than poll=0\.2"):
        KillPolicy(grace=0.1, wait=wait)  # type: ignore[arg-type]
    assert KillPolicy(grace=0.1).grace == 0.1


@pytest.mark.parametrize(
    "policy", [KillPolicy(), KillPolicy(grace=3.0), KillPolicy(poll=0.1), LIBVIRT_0_9_10]
)
def test_str_of_a_policy_can_be_pasted(policy: KillPolicy) -> None:
    assert eval(str(policy)) == policy


def test_str_of_a_policy_is_short() -> None:
    assert str(KillPolicy()) == "KillPolicy()"
    assert str(KillPolicy(grace=3.0)) == "KillPolicy(grace=3.0)"


def test_records_are_frozen_and_can_be_pickled() -> None:
    policy, result = KillPolicy(grace=3.0), KillResult(ok=True, dead=True, signal=15)
    with pytest.raises(FrozenInstanceError):
        policy.grace = 1.0  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        result.ok = False  # type: ignore[misc]
    assert pickle.loads(pickle.dumps((policy, result))) == (policy, result)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (KillResult(ok=True, dead=True, signal=9, elapsed=1.604), "dead, by SIGKILL, 1.604 s"),
        (KillResult(ok=True, dead=True), "was not running"),
        (KillResult(ok=True, dead=None, sent=(15,)), "SIGTERM sent, not waited"),
        (KillResult(ok=True, dead=None, sent=(15, 9)), "SIGTERM, SIGKILL sent, not waited"),
        (KillResult(ok=True), "not waited"),
        (
            KillResult(ok=False, dead=False, elapsed=15.004, sent=(15,)),
            "alive after SIGTERM, 15.004 s",
        ),
        (
            KillResult(ok=False, dead=False, elapsed=15.0, sent=(15, 9, 9)),
            "alive after SIGTERM, SIGKILL, 15.000 s",
        ),
        (KillResult(ok=False, dead=False, errno=1), "failed: EPERM"),
        (KillResult(ok=False, dead=False, errno=1, sent=(15,)), "failed: EPERM after SIGTERM"),
        (KillResult(ok=False, errno=99999), "failed: errno 99999"),
        (KillResult(ok=False), "failed: not waited"),
    ],
)
def test_str_of_a_result(result: KillResult, text: str) -> None:
    assert str(result) == f"KillResult({text})"
