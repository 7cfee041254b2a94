"""The history keeps what happened, in order, and comes back from a file as it was."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_gracekill.errors import UsageError
from pytest_gracekill.witness.history import (
    Event,
    Frame,
    History,
    Hold,
    Wait,
    current_stack,
)
from pytest_gracekill.witness.locks import LockTracer
from pytest_gracekill.witness.recording import load

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_events_are_sorted_by_time_and_stable() -> None:
    history = History()
    history.record("late", "x", at_ns=30)
    history.record("one", "x", at_ns=20, block=1)
    history.record("two", "y", at_ns=20)
    history.record("early", "y", at_ns=10)
    assert [event.kind for event in history.events()] == ["early", "one", "two", "late"]
    assert history.events()[1] == Event(at_ns=20, kind="one", actor="x", fields={"block": 1})


def test_record_takes_the_time_of_the_call() -> None:
    history = History()
    history.record("a", "x")
    history.record("b", "x")
    one, other = history.events()
    assert history.origin_ns <= one.at_ns <= other.at_ns


def test_holds_and_waits_of_traced_locks_say_where() -> None:
    tracer = LockTracer()
    lock = tracer.lock("a")

    def take_it() -> None:
        lock.acquire()

    take_it()
    (hold,) = tracer.history.holds
    assert hold.released_ns is None
    assert hold.actor == threading.current_thread().name
    line = take_it.__code__.co_firstlineno
    assert hold.site[0] == Frame(file=__file__, line=line + 1, function="take_it")
    assert hold.site[1].function == "test_holds_and_waits_of_traced_locks_say_where"
    assert str(hold.site[0]).endswith(f"{Path(__file__).name}:{line + 1} in take_it")
    lock.release()
    (hold,) = tracer.history.holds
    assert hold.released_ns is not None
    assert hold.released_ns >= hold.acquired_ns


def test_frames_of_contextlib_and_threading_are_left_out() -> None:
    tracer = LockTracer()
    lock = tracer.lock("a")

    @contextmanager
    def locked() -> Iterator[None]:
        with lock:
            yield

    def body() -> None:
        with locked():
            pass

    thread = threading.Thread(target=body)
    thread.start()
    thread.join(30)
    (hold,) = tracer.history.holds
    assert [(frame.file, frame.function) for frame in hold.site] == [
        (__file__, "locked"),
        (__file__, "body"),
    ]


def written(path: Path) -> LockTracer:
    tracer = LockTracer()
    lock, free = tracer.lock("a"), tracer.rlock("b")
    with lock:
        thread = threading.Thread(target=lambda: lock.acquire(timeout=0.001), name="waiter")
        thread.start()
        thread.join(30)
    free.acquire()
    tracer.history.record("signal", "main", signal=15, pid=7, nested={"blocks": [1, 2]})
    tracer.history.record("path", "main", file=path)
    tracer.history.write(path)
    return tracer


def test_a_written_history_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = written(path).history
    loaded = load(path)
    assert loaded.origin_ns == history.origin_ns
    assert loaded.holds == history.holds
    assert loaded.waits == history.waits
    assert [hold.released_ns is None for hold in loaded.holds] == [False, True]
    assert [(event.at_ns, event.kind, event.actor) for event in loaded.events()] == [
        (event.at_ns, event.kind, event.actor) for event in history.events()
    ]
    (sent,) = [event for event in loaded.events() if event.kind == "signal"]
    assert sent.fields == {"signal": 15, "pid": 7, "nested": {"blocks": [1, 2]}}
    again = tmp_path / "again.jsonl"
    loaded.write(again)
    assert again.read_text() == path.read_text()


def test_lines_tell_seconds_after_the_origin(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History()
    history.record("later", "x", at_ns=history.origin_ns + 1_000_001_000)
    history.record("before", "x", at_ns=history.origin_ns - 500_000_000)
    history.write(path)
    header, *lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert header == {
        "format": "gracekill-history",
        "version": 1,
        "origin_ns": history.origin_ns,
    }
    assert [line["t"] for line in lines] == [-0.5, 1.000001]
    assert [line["ns"] - history.origin_ns for line in lines] == [-500_000_000, 1_000_001_000]


def damage(text: str, how: str) -> bytes:
    header, *lines = text.splitlines(keepends=True)
    if how == "cut short":
        return text[: len(text) - 20].encode()
    if how == "other version":
        return text.replace('"version": 1', '"version": 99').encode()
    if how == "no origin":
        return ('{"format": "gracekill-history", "version": 1}\n' + "".join(lines)).encode()
    if how == "incomplete hold":
        return text.replace('"released_ns"', '"something"').encode()
    if how == "bad site":
        return text.replace('"function"', '"method"').encode()
    others = {
        "empty": b"",
        "no event": (header + '{"t": 1}\n').encode(),
        "a number": (header + "7\n").encode(),
        "foreign JSON": b'{"traceEvents": []}\n',
        "garbage": b"\xff\xfe\x00\x01" * 20,
        "text": b"Hello\n",
    }
    return others[how]


@pytest.mark.parametrize(
    "how",
    [
        "empty",
        "cut short",
        "other version",
        "no origin",
        "no event",
        "a number",
        "incomplete hold",
        "bad site",
        "foreign JSON",
        "garbage",
        "text",
    ],
)
def test_a_damaged_or_foreign_file_is_a_usage_error(tmp_path: Path, how: str) -> None:
    path = tmp_path / "history.jsonl"
    written(path)
    path.write_bytes(damage(path.read_text(), how))
    with pytest.raises(UsageError, match="is not a history") as raised:
        load(path)
    assert str(path) in str(raised.value)


def test_records_have_one_line() -> None:
    site = (Frame(file="f.py", line=3, function="g"),)
    records: list[object] = [
        Event(at_ns=1, kind="k", actor="a", fields={"x": 1}),
        Hold(lock="l", actor="a", acquired_ns=0, released_ns=1500, site=site),
        Wait(lock="l", actor="a", since_ns=0, until_ns=None, acquired=False, timed=True, site=site),
    ]
    assert [str(record) for record in records] == [
        "1 a k x=1",
        "a held l for 0.000002 s",
        "a waited for l until now",
    ]


def test_many_events_are_no_problem() -> None:
    tracer = LockTracer()
    lock = tracer.lock("a")
    for _ in range(75_000):
        lock.acquire()
        lock.release()
        tracer.history.record("tick", "x")
    events = tracer.history.events()
    assert len(events) == 150_000
    assert all(one.at_ns <= other.at_ns for one, other in pairwise(events))
    assert tracer.acquisitions == 75_000


def test_current_stack_shows_the_users_lines_innermost_first() -> None:
    taken, over = threading.Event(), threading.Event()
    lock = LockTracer().lock("a")

    def body() -> None:
        with lock:
            taken.set()
            over.wait(30)

    thread = threading.Thread(target=body, name="other")
    thread.start()
    assert taken.wait(30)
    assert thread.ident is not None
    stack = current_stack(thread.ident)
    over.set()
    thread.join(30)
    assert [(frame.file, frame.function) for frame in stack] == [(__file__, "body")]
    assert stack[0].line in range(
        body.__code__.co_firstlineno + 1, body.__code__.co_firstlineno + 4
    )
    mine = current_stack(threading.get_ident())
    assert mine[0].function == "test_current_stack_shows_the_users_lines_innermost_first"
    assert current_stack(-1) == ()
