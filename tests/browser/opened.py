"""A page that is open in the browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from needed import unmet

if TYPE_CHECKING:
    from selenium.webdriver import Chrome


class Opened:
    """A page in the browser: what it says, what it was asked for, what it has complained about."""

    def __init__(self, chrome: Chrome, path: Path, scheme: str) -> None:
        self.chrome = chrome
        chrome.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        self._log("browser")  # of the page before
        self._log("performance")
        # a page with the same address but for its fragment would not be loaded again
        chrome.get("about:blank")
        chrome.get(path.as_uri())

    def run(self, script: str, *arguments: object) -> Any:
        return self.chrome.execute_script(script, *arguments)

    def keys(self, *keys: str) -> None:
        """Type, wherever the focus is."""
        from selenium.webdriver import ActionChains

        ActionChains(self.chrome).send_keys(*keys).perform()

    @property
    def tip(self) -> str | None:
        """What the tooltip says; None when there is none to be seen."""
        said = self.run(
            "const t = document.getElementById('tip'); return t.hidden ? null : t.textContent"
        )
        assert said is None or isinstance(said, str)
        return said

    @property
    def focused(self) -> str:
        """The name of what has the focus."""
        return str(self.run("return document.activeElement.getAttribute('aria-label') ?? ''"))

    @property
    def shown(self) -> tuple[float, float]:
        """From when until when the timeline shows."""
        low, high = self.run(
            "const { from, to } = document.getElementById('gk').dataset; return [from, to]"
        )
        return float(low), float(high)

    def item(self, beginning: str) -> Any:
        """The first thing in the timeline whose name begins so."""
        found = self.run(
            "return [...document.querySelectorAll('#gk .i')]"
            ".find((item) => item.getAttribute('aria-label').startsWith(arguments[0]))",
            beginning,
        )
        assert found is not None, f"nothing is called {beginning}..."
        return found

    @property
    def complaints(self) -> list[str]:
        """What the browser's console has."""
        return self._log("browser")

    def _log(self, kind: str) -> list[str]:
        """What has come into a log of the browser's since it was read last."""
        log: list[dict[str, Any]] = self.chrome.get_log(kind)  # type: ignore[no-untyped-call, unused-ignore]
        return [str(entry["message"]) for entry in log]

    @property
    def requests(self) -> list[str]:
        """Every address that was asked for since the page was opened, apart from data in it."""
        messages = [json.loads(entry)["message"] for entry in self._log("performance")]
        asked = [
            m["params"]["request"]["url"]
            for m in messages
            if m["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked if not url.startswith(("data:", "about:"))]


def axe_finds(page: Opened) -> list[tuple[str, str, list[str]]]:
    """What axe-core takes for serious or critical: the rule, what it asks for, where it fails."""
    try:
        import selenium_axe_python
    except ImportError:
        unmet("axe-core")
    folder = Path(selenium_axe_python.__file__).parent
    page.run((folder / "axe-core" / "axe.min.js").read_text(encoding="utf-8"))
    found = page.chrome.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run(document).then((r) => done(r.violations), (e) => done(String(e)))"
    )
    assert isinstance(found, list), found
    return [
        (row["id"], row["help"], [node["html"][:200] for node in row["nodes"]][:5])
        for row in found
        if row["impact"] in ("serious", "critical")
    ]
