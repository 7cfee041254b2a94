"""Measure what the installed libvirt does to a VM, and write the tables of `docs/libvirt.md`.

``python tests/real/libvirt_figures.py``: each case in a process and with a daemon of its own, some
at once, since nearly all of it is waiting. The figures go into `docs/libvirt.json`, from which
`docs/generate.py` makes the page's tables.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from libvirt_daemon import QEMU, Libvirtd, missing  # noqa: E402 - this is a script

from docs import generate  # noqa: E402
from pytest_gracekill import lab, settings, trial  # noqa: E402
from pytest_gracekill.child.real_knobs import RealKnobs  # noqa: E402
from pytest_gracekill.child.real_managed import spawn_by  # noqa: E402

if missing() is None:
    import libvirt_domain

if TYPE_CHECKING:
    from collections.abc import Sequence

FIGURES = ROOT / "docs" / "libvirt.json"
PAGE = ROOT / "docs" / "libvirt.md"

BLOCKS = 32
#: By call: its flags, whether it may send SIGKILL, and the flush times in seconds.
CALLS: dict[str, tuple[int, bool, tuple[float, ...]]] = {
    "destroy": (0, True, (5.0, 14.0)),
    "destroy --graceful": (1, False, (14.0, 30.0)),
}
VMS = ("real", "fake")
LONGEST = 120.0
SOURCE = "python tests/real/libvirt_figures.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one trial said; times in seconds, ``longest`` by what other clients have asked.

    ``log``: what the daemon has said of a VM that it could not end.
    """

    call: str
    vm: str
    flush_time: float
    returned: float
    result: str
    lost: int
    words: str
    sequence: str
    longest: dict[str, float]
    text: str
    log: list[str]

    def __str__(self) -> str:
        return (
            f"{self.call}, {self.vm} QEMU, {self.flush_time:g} s: {self.result} after"
            f" {self.returned:.1f} s, {self.lost} of {BLOCKS} lost; {self.words}; {self.sequence}"
        )


def measure(call: str, vm: str, flush_time: float, folder: Path) -> Cell:
    """Run one trial in this process."""
    flags, force, _ = CALLS[call]
    with Libvirtd() as daemon, ExitStack() as stack:
        clients = stack.enter_context(libvirt_domain.other_clients(daemon))
        asked: dict[str, object] = {"force": force, "contend": clients.work}
        routine: object
        if vm == "fake":
            routine = libvirt_domain.destroy_fake(daemon, flags)
            asked |= {"flush_time": flush_time, "blocks": BLOCKS}
        else:
            routine = libvirt_domain.destroy_real(daemon, flags)
            knobs = RealKnobs(flush_time=flush_time, blocks=BLOCKS)
            started = spawn_by(libvirt_domain.start_real(daemon), knobs, folder / "vm")
            stack.callback(started.close)
            asked["vm"] = started
        values = settings.from_outside({}, {}, {}) | {
            name: settings.Value(value=value, source=SOURCE) for name, value in asked.items()
        }
        plan = trial.plan(
            routine, values, source=SOURCE, directory=lambda: folder / "vm", deadline=None
        )
        report = lab.run(plan)
        said = re.findall(r"error : \w+:\d+ : (.*terminate process.*)", daemon.log())
    return Cell(
        call=call,
        vm=vm,
        flush_time=flush_time,
        returned=round(report.elapsed, 1),
        result=str(report.calls[0]),
        lost=len(report.disk.lost),
        words=report.headline().removeprefix("gracekill: "),
        sequence=report.verdicts["escalation"].evidence,
        longest={name: round(seconds, 3) for name, seconds in clients.longest.items()},
        text=str(report),
        log=[re.sub(r"\bprocess \d+", "process PID", line) for line in said],
    )


def versions() -> dict[str, str]:
    """Of libvirt, and of QEMU, with what their packagers call them."""
    with Libvirtd() as daemon:
        daemon.connect().close()  # it says so in its log as soon as there is something to log
        found = re.search(r"libvirt version: (\S+?)(?:, package: (\S+))?( |$)", daemon.log())
    assert found is not None
    said = subprocess.run([QEMU, "-version"], capture_output=True, text=True, check=True).stdout
    libvirt = found[1] + (f" ({found[2]})" if found[2] else "")
    return {"libvirt": libvirt, "qemu": said.splitlines()[0].removeprefix("QEMU emulator version ")}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure everything, and write it."""
    parser = argparse.ArgumentParser(prog=SOURCE, description=__doc__)
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="trials at once (4)")
    # one trial, as this command starts itself for each
    parser.add_argument(
        "--cell", nargs=3, metavar=("CALL", "VM", "SECONDS"), help=argparse.SUPPRESS
    )
    chosen = parser.parse_args(arguments)
    if (reason := missing()) is not None:
        _say(reason)
        return 2
    if chosen.cell:
        call, vm, seconds = chosen.cell
        with tempfile.TemporaryDirectory(prefix="gracekill-figures-") as folder:
            cell = measure(call, vm, float(seconds), Path(folder))
        _say(json.dumps(dataclasses.asdict(cell)))
        return 0
    of = versions()
    wanted = [
        (call, vm, time) for call, (_, _, times) in CALLS.items() for time in times for vm in VMS
    ]
    with ThreadPoolExecutor(chosen.jobs) as pool:
        # those that take longest first
        order = sorted(wanted, key=lambda case: -case[2])
        cells = dict(zip(order, pool.map(_started, order), strict=True))
    kept = {
        "blocks": BLOCKS,
        "versions": of,
        "rows": [dataclasses.asdict(cells[case]) for case in wanted],
    }
    FIGURES.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(generate.with_regions(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    _say(f"written: {FIGURES.relative_to(ROOT)}, {PAGE.relative_to(ROOT)}")
    return 0


def _started(case: tuple[str, str, float]) -> Cell:
    command = [sys.executable, __file__, "--cell", *map(str, case)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, check=False)
    if done.returncode:
        raise RuntimeError(f"{case}: exit {done.returncode}\n{done.stderr}")
    cell = Cell(**json.loads(done.stdout.splitlines()[-1]))
    _say(str(cell))
    return cell


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the command's output, a line as soon as it is known


if __name__ == "__main__":
    sys.exit(main())
