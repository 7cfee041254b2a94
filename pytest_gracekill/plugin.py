"""The pytest hooks: options, markers, header, the failure text. Logic lives elsewhere."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import pytest

from pytest_gracekill import clock, looks, saving, settings
from pytest_gracekill.conformance import cases
from pytest_gracekill.data.properties import RUN_TWICE
from pytest_gracekill.errors import UsageError
from pytest_gracekill.fixtures import (
    DEADLINE,
    EXPLORED,
    IN_SUITE,
    LINE,
    LOOKS,
    MARKER_HELP,
    NAMED,
    REPORTS,
    SETTLED,
    fake_qemu,
    gracekill,
    kill_routine,
    real_qemu,
)

# loaded here: there is one audit hook a process, also where pytester runs pytest within it
from pytest_gracekill.witness import bindings, signal_audit  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    import pytest_timeout

    from pytest_gracekill.underway import CasesUnderway

#: What the terminal can show, also of a worker of xdist, which has none itself.
ENCODING: pytest.StashKey[str | None] = pytest.StashKey()
#: Why no evidence of this run can be saved; not there where it can.
UNSAVED: pytest.StashKey[str] = pytest.StashKey()
#: How far the suite is, where that is told.
CASES: pytest.StashKey[CasesUnderway] = pytest.StashKey()

T = TypeVar("T")

__all__ = ["fake_qemu", "gracekill", "kill_routine", "real_qemu"]


class _Worker(Protocol):
    """A worker of xdist, as its controller has it."""

    config: pytest.Config
    workerinput: dict[str, object]


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option and one ini option per setting."""
    group = parser.getgroup("gracekill", "judging kill routines (pytest-gracekill)")
    for setting in settings.SETTINGS.values():
        for switch, value in setting.switches.items():
            group.addoption(
                switch,
                dest=setting.ini,
                action="append_const",
                const=switch,
                help=f"{setting.name}={value}: {setting.help}",
            )
        if not setting.switches:
            # text, not type=: the error then names the source in the same words as all others
            group.addoption(
                setting.option, dest=setting.ini, metavar=setting.metavar, help=setting.help
            )
        parser.addini(setting.ini, setting.help, default="")


def pytest_configure(config: pytest.Config) -> None:
    """Read the settings once; a value that is not right ends the run before any test."""
    config.addinivalue_line("markers", MARKER_HELP)
    names = settings.SETTINGS.values()
    try:
        config.stash[SETTLED] = settings.from_outside(
            {setting.name: config.getoption(setting.ini) for setting in names},
            os.environ,
            {setting.name: str(config.getini(setting.ini)) for setting in names},
        )
    except UsageError as error:
        raise pytest.UsageError(f"gracekill: {error}") from None
    _try_folder(config)
    own = getattr(sys.stdout, "encoding", None)
    config.stash[ENCODING] = getattr(config, "workerinput", {}).get("gracekill_encoding", own)


def _try_folder(config: pytest.Config) -> None:
    """Warn at once where the evidence of this run can be saved nowhere."""
    save = config.stash[SETTLED]["save"]
    if save.value is None or hasattr(config, "workerinput"):
        return
    root = config.invocation_params.dir / settings.saving(save.value)[0]
    why = saving.fault(root)
    if why is not None:
        config.stash[UNSAVED] = f"no evidence can be saved in {root}: {why} (from {save.source})"
        saving.warn(config, config.stash[UNSAVED])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: _Worker) -> None:
    """A worker of xdist is told what the terminal can show."""
    node.workerinput["gracekill_encoding"] = node.config.stash[ENCODING]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Find the routine that was named from outside, once: each test would tell the same error."""
    _open_line(session.config)
    settled = session.config.stash[SETTLED]
    if settled["routine"].value is None and settled["stop"].value is None:
        return
    from pytest_gracekill.routine.named import named  # noqa: PLC0415 - imports what was named

    try:
        session.config.stash[NAMED] = named(
            settled["routine"], settled["stop"], session.config.rootpath
        )
    except UsageError as error:
        raise pytest.UsageError(f"gracekill: {error}") from None


def _open_line(config: pytest.Config) -> None:
    """Have the line on the terminal, where this process writes to one by itself."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not reporter.isatty or hasattr(config, "workerinput"):
        return
    live = config.pluginmanager.hasplugin("logging-plugin") and (
        config.getoption("log_cli_level") is not None or config.getini("log_cli")
    )
    if live or config.pluginmanager.hasplugin("dsession"):
        # somebody else writes there whenever it likes
        return
    from pytest_gracekill.progress_line import on_terminal  # noqa: PLC0415 - for a terminal only

    line = on_terminal(os.environ, captured=config.getoption("capture") != "no")
    if line is not None:
        config.stash[LINE] = line
        config.add_cleanup(line.close)


def pytest_enter_pdb(config: pytest.Config) -> None:
    """A debugger has the terminal to itself."""
    if LINE in config.stash:
        config.stash[LINE].pause()


def pytest_leave_pdb(config: pytest.Config) -> None:
    """And gives it back."""
    if LINE in config.stash:
        config.stash[LINE].resume()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Tell how far the suite is, and fail a test that has not looked at a report that is not ok."""
    handed = item.stash.setdefault(LOOKS, looks.Looks())
    try:
        with _telling(item):
            result = yield
    finally:
        handed.called = True
        unseen = handed.settle()
    looks.fail(unseen)
    return result


@contextmanager
def _telling(item: pytest.Item) -> Iterator[None]:
    """Tell how far the suite is, while a case takes long."""
    line = item.config.stash.get(LINE, None)
    if line is None or not cases.is_case(getattr(item, "function", None)):
        yield
        return
    from pytest_gracekill.underway import CasesUnderway  # noqa: PLC0415 - for a terminal only

    suite = item.config.stash.setdefault(CASES, CasesUnderway())
    every = [i for i in item.session.items if cases.is_case(getattr(i, "function", None))]
    suite.begins(item.name.removeprefix("test_"), len(every))
    with line.during(suite.__str__, since=suite.began):
        try:
            yield
        finally:
            suite.done += 1


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown() -> Generator[None, object, object]:
    """Undo what a patch has bound again that was made in a trial, and undone after it."""
    try:
        return (yield)
    finally:
        bindings.put_back()


def pytest_report_header(config: pytest.Config) -> list[str]:
    """A line only when something is not as it is by default."""
    changed = [
        f"{name}={value}"
        for name, value in config.stash[SETTLED].items()
        if value.source != "the default"
    ]
    lines = [f"gracekill: {', '.join(changed)}"] if changed else []
    if UNSAVED in config.stash:
        lines.append(f"gracekill: warning: {config.stash[UNSAVED]}")
    return lines


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: pytest_timeout.Settings) -> None:
    """Note when pytest-timeout will fire, so that a trial's own budget ends before it."""
    item.stash[DEADLINE] = clock.monotonic() + settings.timeout


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """``assert report.ok`` fails with the same table as ``report.check()``."""
    report = yield
    if cases.is_case(getattr(item, "function", None)):
        from pytest_gracekill.conformance import outcome  # noqa: PLC0415 - for the suite only

        outcome.note(item, report, call)
    if call.when == "call":
        _add_to(report, item, call.excinfo)
    if call.when == "teardown":
        # pytest keeps its items to the end, and a history has a hundred thousand records
        _forget(item.stash, REPORTS)
        _forget(item.stash, EXPLORED)
        _forget(item.stash, LOOKS)
    return report


def _forget(stash: pytest.Stash, key: pytest.StashKey[T]) -> None:
    if key in stash:
        del stash[key]


def _add_to(
    report: pytest.TestReport,
    item: pytest.Item,
    excinfo: pytest.ExceptionInfo[BaseException] | None,
) -> None:
    """Add what the trials of a test have found to pytest's report of its call."""
    trials = item.stash.get(REPORTS, [])
    if item.config.getoption("htmlpath", None):
        from pytest_gracekill import extras  # noqa: PLC0415 - for who has pytest-html

        extras.add(report, trials)
    if report.passed and trials:
        from pytest_gracekill import passes  # noqa: PLC0415 - for tests with trials

        passes.note(report, trials)
    # only a failure with a traceback has sections; pytest names its class nowhere in public
    addsection = getattr(report.longrepr, "addsection", None)
    if report.failed and excinfo is not None and addsection is not None:
        for title, text in _sections(item, str(excinfo.value)):
            addsection(title, text)


def _sections(item: pytest.Item, shown: str) -> Iterator[tuple[str, str]]:
    """What a failure's text has beside what was ``shown`` by its exception."""
    trials, explored = item.stash.get(REPORTS, []), item.stash.get(EXPLORED, [])
    for trial in trials:
        # what check() has raised has the table already, a mere repr only the headline
        if not trial.ok and str(trial).splitlines()[1] not in shown:
            yield "gracekill", str(trial)
    for found in explored:
        if found is not None and found.status != "exhausted" and str(found) not in shown:
            yield "gracekill", str(found)
    if _draws(item.config):
        from pytest_gracekill import timelines  # noqa: PLC0415 - for a failure only

        failed = timelines.failed(trials, explored)
        for drawn in timelines.drawn(failed, item.config.stash[ENCODING]):
            yield "gracekill timeline", drawn


def _draws(config: pytest.Config) -> bool:
    """Whether a failure's text has the timeline."""
    asked = config.stash[SETTLED]["timeline"].value
    return bool(asked) or config.get_verbosity() > 0


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The suite's cases that wait for long start first, also when others have been shuffled."""
    places = [
        place for place, item in enumerate(items) if cases.is_case(getattr(item, "function", None))
    ]
    for place in places:
        items[place].stash[IN_SUITE] = True
    ordered = cases.longest_first([items[place] for place in places], _waits_long)
    for place, item in zip(places, ordered, strict=True):
        items[place] = item


def _waits_long(item: pytest.Item) -> bool:
    return cases.waits_long(getattr(item, "function", None))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """The index of all evidence, by the one process that comes after all others."""
    save = session.config.stash[SETTLED]["save"].value
    if save is None or hasattr(session.config, "workerinput"):
        return
    from pytest_gracekill.render import index  # noqa: PLC0415 - at the end of a run that saves

    folder, _ = settings.saving(save)
    root = session.config.invocation_params.dir / folder
    saving.attempt_index(session.config, root, index.write)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What passes left open; a row for each case of the suite, also of those in xdist's workers."""
    _summarize_passes(terminalreporter)
    twice = _run_twice(terminalreporter)
    _summarize_cases(terminalreporter)
    if twice:
        # pytest's last line has the number of what is in a category of ours, too
        terminalreporter.stats["run twice"] = twice


def _summarize_cases(reporter: pytest.TerminalReporter) -> None:
    rows = [
        report.gracekill_case
        for reports in reporter.stats.values()
        for report in reports
        if hasattr(report, "gracekill_case")
    ]
    if not rows:
        return
    from pytest_gracekill.render.cases import headline, table  # noqa: PLC0415 - for the suite only

    reporter.section(f"gracekill: {headline(rows)}")
    for line in table(rows):
        reporter.write_line(line)


def _run_twice(reporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    """Name the trials that were run twice because of the machine; returns their tests' reports."""
    twice = [
        (report, value)
        for reports in reporter.stats.values()
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == RUN_TWICE and report.when == "call"
    ]
    if twice:
        reporter.ensure_newline()
        reporter.section("gracekill: trials that were run twice")
    for report, why in twice:
        reporter.write_line(f"{report.nodeid}: the first run could not be judged: {why}")
    return [report for report, _ in twice]


def _summarize_passes(reporter: pytest.TerminalReporter) -> None:
    if reporter.config.get_verbosity() < 1 and not {"A", "P"} & set(reporter.reportchars):
        return
    passed = [
        report
        for report in reporter.stats.get("passed", ())
        if hasattr(report, "gracekill_open") and not hasattr(report, "gracekill_case")
    ]
    if not passed:
        return
    from pytest_gracekill import passes  # noqa: PLC0415 - for tests with trials

    lines = passes.summary(passed)
    if lines:
        reporter.ensure_newline()  # with -v the line of the last test is still open
        reporter.section("gracekill: what tests that passed have left open")
    for line in lines:
        reporter.write_line(line)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the conformance suite whatever the user's ``python_files`` says."""
    if not cases.is_module(file_path) or any(
        file_path.match(pattern) for pattern in parent.config.getini("python_files")
    ):
        return None
    return pytest.Module.from_parent(parent, path=file_path)
