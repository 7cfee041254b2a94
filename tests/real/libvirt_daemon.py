"""libvirt's daemon, started by hand: without systemd, without /etc, and with nothing left of it.

It runs as a user's own does (``qemu:///session``): configuration, sockets, state and cache are in
one folder. Root becomes `nobody` for it, who may still open files as root does, since libvirt reads
/etc/libvirt for root and nothing else. It runs below a warden, for two reasons. The warden reaps
what has ended at once: libvirt takes a zombie for a living VM, and where pid 1 is no real init
every `destroy` takes seconds longer. And nothing below the warden outlives the run, however that
ends: neither the daemon nor a VM that it has started.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pytest_gracekill.child.warden import Guarded

if TYPE_CHECKING:
    import libvirt

PACKAGES = "libvirt-daemon libvirt-daemon-driver-qemu qemu-system-x86 qemu-utils"
BINDINGS = "libvirt-dev gcc pkg-config"
INSTALL = (
    f"apt-get install -y --no-install-recommends {PACKAGES} {BINDINGS}"
    " && pip install libvirt-python"
)

QEMU = "/usr/bin/qemu-system-x86_64"
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_NOBODY = 65534
_AS_NOBODY = (
    *("setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"),
    *("--inh-caps=+dac_override", "--ambient-caps=+dac_override"),
)
_READY_WITHIN = 30.0

DAEMON_CONF = """\
unix_sock_dir = "{dir}"
auth_unix_rw = "none"
log_outputs = "2:file:{dir}/libvirtd.log"
"""
QEMU_CONF = """\
security_driver = "none"
stdio_handler = "file"
# what root's files need where libvirt runs as nobody
clear_emulator_capabilities = 0
"""

#: The emulator of every domain: the program that the domain's environment names. What libvirt asks
#: of a binary has no domain, and a real QEMU answers that.
EMULATOR = f"""\
#!/bin/sh
exec "${{VM_PROGRAM:-{QEMU}}}" "$@"
"""


def missing() -> str | None:
    """What there is not, with the line that installs it; None when everything is there."""
    for program in ("libvirtd", "qemu-system-x86_64", "qemu-img", "setpriv"):
        if shutil.which(program, path=_PATH) is None:
            return f"there is no {program}: {INSTALL}"
    try:
        import libvirt
    except ImportError:
        return f"there is no module libvirt: {INSTALL}"
    # what it raises is enough: it prints everything, too
    libvirt.registerErrorHandler(lambda *_: None, None)
    return None


class Libvirtd:
    """A daemon of our own, ready when this returns; `uri` is how it is reached."""

    def __init__(self) -> None:
        # short: libvirt puts sockets below it, and their paths may have 107 bytes
        self.dir = Path(tempfile.mkdtemp(prefix="gracekill-libvirt-", dir="/tmp"))
        self._janitor = _remove_when_we_end(self.dir)
        self.uri = f"qemu+unix:///session?socket={self.dir}/libvirt-sock"
        self.emulator = self.dir / "emulator"
        self._write()
        where = {
            "HOME": self.dir,
            "XDG_CONFIG_HOME": self.dir,
            "XDG_RUNTIME_DIR": self.dir / "run",
            "XDG_CACHE_HOME": self.dir / "cache",
            "XDG_DATA_HOME": self.dir / "data",
        }
        # it returns when the daemon is ready, which stays below the warden
        self._guarded = Guarded(
            [
                *("env", "-i", f"PATH={_PATH}", *(f"{name}={at}" for name, at in where.items())),
                *(_AS_NOBODY if os.geteuid() == 0 else ()),
                *("libvirtd", "--daemon"),
                *("-f", str(self.dir / "libvirtd.conf"), "-p", str(self.dir / "pid")),
            ],
            self.dir,
            "start",
        )
        try:
            self._await_ready()
        except BaseException:
            self.close()
            raise

    def _await_ready(self) -> None:
        status = self._guarded.wait(_READY_WITHIN)
        if status:
            raise RuntimeError(f"libvirtd: exit {status}: {self._guarded.tail()}")

    def connect(self) -> libvirt.virConnect:
        """A connection of its own; whoever gets it closes it."""
        import libvirt

        return libvirt.open(self.uri)

    def log(self) -> str:
        """What the daemon has warned of."""
        return (self.dir / "libvirtd.log").read_text(encoding="utf-8")

    def close(self) -> None:
        """End the daemon and every VM of it, and take its folder away."""
        self._guarded.end()
        assert self._janitor.stdin is not None
        self._janitor.stdin.close()
        if self._janitor.wait():
            raise OSError(0, "it is still there", str(self.dir))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self) -> None:
        files: dict[Path, str] = {
            self.dir / "libvirtd.conf": DAEMON_CONF.format(dir=self.dir),
            self.dir / "libvirt" / "qemu.conf": QEMU_CONF,
            self.emulator: EMULATOR,
        }
        for path, text in files.items():
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        self.emulator.chmod(0o755)
        if os.geteuid() == 0:
            for path in (self.dir, *self.dir.rglob("*")):
                os.chown(path, _NOBODY, _NOBODY)


def _remove_when_we_end(folder: Path) -> subprocess.Popen[bytes]:
    """Start who takes a folder away when its standard input ends, as it does with this process.

    Those who write there may still be about to end: it tries again.
    """
    script = """\
        read -r _
        for try in $(seq 100); do rm -rf -- "$0" 2>/dev/null && exit; sleep 0.1; done
        exit 1"""
    return subprocess.Popen(
        ["sh", "-c", script, str(folder)], stdin=subprocess.PIPE, start_new_session=True
    )
