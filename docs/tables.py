"""The generated tables, by name; where the code has no words for something, they are here."""

from __future__ import annotations

import dataclasses
import inspect
from importlib import import_module
from typing import TYPE_CHECKING

import pytest_gracekill
from docs import (
    agreement,
    cases,
    exhibits,
    flaws,
    outcomes,
    real_libvirt,
    timelines,
    todays_tools,
)
from docs.docstrings import described, markdown, shown
from pytest_gracekill import settings, verdicts
from pytest_gracekill.arguments import DEFAULTS
from pytest_gracekill.child import real_knobs
from pytest_gracekill.child.knobs import MEANINGS, Knobs
from pytest_gracekill.choreography import POINTS
from pytest_gracekill.data import words
from pytest_gracekill.driving import ACTS
from pytest_gracekill.fixtures import MARKER_HELP, Judge
from pytest_gracekill.report import VERDICTS
from pytest_gracekill.routine.adapt import FILLED, OFFERED
from pytest_gracekill.routine.policy import KillPolicy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Arguments of ``gracekill`` that are neither settings nor knobs.
ARGUMENTS = {
    "routine": "the routine under test; `None` is the fixture `kill_routine`",
    "vm": "a VM that runs already, from `fake_qemu()` or `real_qemu()`; its knobs are said"
    " there, and one in this call is a usage error",
    "flags": "what the call is asked for: `KillFlags.FORCE`, `KillFlags.NOWAIT`, both, or 0 for a"
    " graceful kill; only for a routine that takes `flags`",
    "policy": "a `KillPolicy`, for a routine that takes `policy`; one that takes `grace` or"
    " `timeout` gets the policy's grace",
    "force": "what a routine without `flags` promises: `True`, SIGKILL comes when the grace is"
    " over; `False`, it never comes; `None`, nothing is promised and nothing is judged",
    "contend": "callables of your own that work meanwhile, each in a thread of its own, or, if it"
    " is a coroutine function, in the routine's event loop; an exception, or a latency above"
    " `stall_limit` and above five times its own longest before the call, is STALLED",
    "locks": 'locks of your own, as pairs `(object, "attribute")`: each a `Lock`, `RLock` or'
    " `Condition` of `threading`; traced for the length of the trial, then put back",
    "at": "what else is done at a point of the call, as `{point: act}`; the routine is held there:"
    f" points are {', '.join(f'`{point!r}`' for point in POINTS)}; an act is"
    f" {', '.join(f'`{act!r}`' for act in ACTS)}, or a callable of yours `(driver, domain)`; only"
    " for a routine that takes `driver`",
    "callers": "how many call the routine at once, 1 to 32: the others in threads of their own, or"
    " all as tasks of the routine's event loop; each of them is judged",
    "lookup": 'how the model finds a domain: `"coupled"` locks it under the driver lock, as'
    ' libvirt did in 2012; `"referenced"` references it there and locks it after the driver lock'
    " was let go",
    "succeeded": "a callable that is handed what the routine returned and says, by `True` or"
    " `False`, whether that claims success",
    "returns": 'what success says: `"gone"`, the VM has ended; `"requested"`, its stop has been'
    " requested, and the request may come after the return: EARLY is not judged, and a VM that"
    " outlives `survive` is LEAKED",
    "raises": "an exception class, or a tuple of them, by which the routine reports a forced stop,"
    " as its API promises: success where the VM is dead by the routine's SIGKILL, elsewhere a"
    " failure like any other",
    "settle": "seconds, up to 60, for which the trial waits after a success that was reported while"
    " the VM lives and no request has reached it, and in which a VM that is started again is"
    " RESTARTED; the wait ends at the first request",
}

#: What each word says, by verdict.
WORDS = {
    verdict: {word.name: word.meaning for word in words.WORDS if verdict in word.verdicts}
    for verdict in VERDICTS
}


def knobs() -> str:
    """Every knob of the fake."""
    return _table(
        ("knob", "default", "meaning"),
        (
            (f"`{field.name}`", f"`{_default(field.default)}`", _cell(MEANINGS[field.name]))
            for field in dataclasses.fields(Knobs)
        ),
    )


def knobs_of_real() -> str:
    """Every knob of a real QEMU."""
    return _table(
        ("knob", "default", "meaning"),
        (
            (
                f"`{field.name}`",
                f"`{_default(field.default)}`",
                _cell(real_knobs.MEANINGS[field.name]),
            )
            for field in dataclasses.fields(real_knobs.RealKnobs)
        ),
    )


def options() -> str:
    """Every setting, in the forms in which it can be given."""
    return _table(
        ("argument", "option", "variable", "ini", "meaning"),
        (
            (
                f"`{name}`" if name not in settings.SESSION_ONLY else "",
                _spelled(setting),
                f"`{setting.variable}`",
                f"`{setting.ini}`",
                _cell(setting.help),
            )
            for name, setting in settings.SETTINGS.items()
        ),
    )


def _spelled(setting: settings.Setting) -> str:
    """The option, or the switches that stand in its place."""
    if setting.switches:
        return ", ".join(f"`{switch}`" for switch in setting.switches)
    return f"`{setting.option}={_cell(setting.metavar)}`"


def arguments() -> str:
    """What ``gracekill(...)`` takes beside the knobs."""
    rows = []
    for name, parameter in inspect.signature(Judge.__call__).parameters.items():
        if name == "self" or parameter.kind is parameter.VAR_KEYWORD:
            continue
        setting = settings.SETTINGS.get(name)
        default = setting.default if setting else DEFAULTS.get(name)
        meaning = setting.help if setting else ARGUMENTS[name]
        rows.append((f"`{name}`", f"`{shown(default)}`", _cell(meaning)))
    return _table(("argument", "default", "meaning"), rows)


def first_parameters() -> str:
    """What a routine may ask for."""
    table = _table(
        ("first parameter", "it gets"), ((f"`{name}`", what) for name, what in OFFERED.items())
    )
    return f"{table}\n\nFilled in by name after it: {', '.join(f'`{name}`' for name in FILLED)}."


def fixtures() -> str:
    """The docstrings of the fixtures, as ``pytest --fixtures`` shows them."""
    module = import_module("pytest_gracekill.fixtures")
    return "\n\n".join(
        f"### `{name}`\n\n{markdown(inspect.getdoc(_function(getattr(module, name))))}"
        for name in ("gracekill", "fake_qemu", "real_qemu", "kill_routine")
    )


def explorers() -> str:
    """The two calls that explore, with their docstrings."""
    judge = import_module("pytest_gracekill.fixtures").Judge
    return "\n\n".join(
        f"### `gracekill.{name}`\n\n{markdown(inspect.getdoc(getattr(judge, name)))}"
        for name in ("explore", "explore_threads")
    )


def marker() -> str:
    """The marker's help, as ``pytest --markers`` shows it."""
    usage, _, meaning = MARKER_HELP.partition(": ")
    return f"`@pytest.mark.{usage}`: {meaning}."


def judged() -> str:
    """A section for each verdict: what it asks, when it is broken, and its words."""
    sections = []
    for name in VERDICTS:
        asks = markdown(inspect.getdoc(import_module(f"{verdicts.__name__}.{name}")))
        broken = markdown(inspect.getdoc(verdicts.JUDGES[name]))
        words = _table(
            ("word", "meaning", "seen"),
            (
                (f"`{word}`", text, f"[picture](gallery/{exhibits.slug(word)}.md)")
                for word, text in WORDS[name].items()
            ),
        )
        sections.append(f"### `{name}`\n\n{asks}\n\n{broken}\n\n{words}")
    return "\n\n".join(sections)


def policies() -> str:
    """The constants beside the default."""
    named = {
        "LIBVIRT_0_9_10": pytest_gracekill.LIBVIRT_0_9_10,
        "LIBVIRT_0_9_11": pytest_gracekill.LIBVIRT_0_9_11,
        "KillPolicy()": KillPolicy(),
    }
    names = [field.name for field in dataclasses.fields(KillPolicy)]
    return _table(
        ("policy", *names),
        (
            (f"`{name}`", *(f"`{getattr(policy, field)!r}`" for field in names))
            for name, policy in named.items()
        ),
    )


def api() -> str:
    """Every public name."""
    return "\n\n".join(
        described(name, getattr(pytest_gracekill, name)) for name in pytest_gracekill.__all__
    )


#: Name of a region -> what stands in it.
REGIONS: dict[str, Callable[[], str]] = {
    "fixtures": fixtures,
    "arguments": arguments,
    "explorers": explorers,
    "first-parameters": first_parameters,
    "options": options,
    "marker": marker,
    "knobs": knobs,
    "real-knobs": knobs_of_real,
    "verdicts": judged,
    "outcomes": outcomes.table,
    "outcome-reasons": outcomes.reasons,
    "policies": policies,
    "api": api,
    "cases": cases.table,
    "flaws": flaws.wrong,
    "right-routines": flaws.right,
    "agreement-summary": agreement.summary,
    "agreement-table": agreement.table,
    "agreement-differences": agreement.differences,
    "agreement-details": agreement.details,
    "libvirt-versions": real_libvirt.versions,
    "libvirt-table": real_libvirt.table,
    "libvirt-stalls": real_libvirt.stalls,
    "libvirt-reports": real_libvirt.reports,
    "libvirt-daemon": real_libvirt.daemon,
    "libvirt-domains": real_libvirt.domains,
    "libvirt-with-fake": real_libvirt.with_the_fake,
    "libvirt-with-real": real_libvirt.with_the_real,
    "libvirt-clients": real_libvirt.clients,
    "seed-timeline": timelines.seed,
    "todays-tools": todays_tools.table,
    "todays-tools-sources": todays_tools.sources,
    "todays-tools-differences": todays_tools.differences,
}


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _default(value: object) -> str:
    return "frozenset()" if value == frozenset() else repr(value)


def _function(fixture: object) -> object:
    # pytest wraps a fixture's function, and the wrapper has no docstring of its own
    return getattr(fixture, "_fixture_function", fixture)
