"""Where libvirt is missing its tests are skipped, with the line that installs it, or they fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from libvirt_daemon import INSTALL

HERE = Path(__file__).parent


def run_without_libvirt(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The libvirt tests, by a Python that cannot import `libvirt`."""
    (folder / "libvirt.py").write_text('raise ImportError("not here")\n', encoding="utf-8")
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    plain = ["-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={folder}/tmp", "-rs"]
    # what is required of this run is not required of that one
    theirs = {n: v for n, v in os.environ.items() if not n.startswith("GRACEKILL_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plain, *options, str(HERE / "test_libvirt.py")],
        cwd=HERE,
        env=theirs | {"PYTHONPATH": path, "COLUMNS": "400", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(("options", "status"), [((), 0), (("--gracekill-require-qemu",), 1)])
def test_without_the_bindings(tmp_path: Path, options: tuple[str, ...], status: int) -> None:
    done = run_without_libvirt(tmp_path, *options)
    assert done.returncode == status, done.stdout
    assert INSTALL in done.stdout
    last = done.stdout.splitlines()[-1]
    assert "passed" not in last
    assert ("error" in last, "skipped" in last) == (bool(status), not status)
