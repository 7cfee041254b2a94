"""Compare the fake with the installed QEMU, and write the tables of `docs/agreement.md`.

``python tests/real/agreement_figures.py``: what was seen goes into `docs/agreement.json`, from
which `docs/generate.py` makes the page's tables. A difference that is not declared is an error.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import agreement  # noqa: E402 - this is a script

from docs import generate  # noqa: E402
from pytest_gracekill.child import real_programs  # noqa: E402

FIGURES = ROOT / "docs" / "agreement.json"
PAGE = ROOT / "docs" / "agreement.md"


def version() -> str:
    """Of the installed QEMU, with what its packager calls it."""
    program = real_programs.find(real_programs.SYSTEM)[real_programs.SYSTEM]
    said = subprocess.run([program, "-version"], capture_output=True, text=True, check=True).stdout
    return said.splitlines()[0].removeprefix("QEMU emulator version ")


def main() -> int:
    """Run every scenario, and write what was seen."""
    try:
        of = version()
    except real_programs.MissingQemuError as error:
        _say(error.what)
        return 2
    rows, wrong = [], 0
    for name in agreement.SCENARIOS:
        seen = agreement.observe(name)
        differing = agreement.differing(seen)
        undeclared = set(differing) ^ set(agreement.declared(name))
        wrong += len(undeclared)
        reasons = {
            fact: agreement.DIFFERENCES.get(agreement.Fact(name, fact)) for fact in differing
        }
        rows.append({"scenario": name, **seen, "differences": reasons})
        _say(f"{name}: {', '.join(differing) or 'agree'}")
    FIGURES.write_text(json.dumps({"qemu": of, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(generate.with_regions(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    _say(f"written: {FIGURES.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}; {wrong} undeclared")
    return 1 if wrong else 0


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the command's output, a line as soon as it is known


if __name__ == "__main__":
    sys.exit(main())
