"""A small process supervisor, as somebody would write one: a daemon, a configuration, a control.

``supervise.py run CONF`` daemonises and runs the program that the configuration names, again when
it ends by itself; ``supervise.py stop CONF`` asks the daemon to stop it, and exits 0 when it says
that it has. It knows nothing of pytest-gracekill.
"""

from __future__ import annotations

import configparser
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path


def daemonise(home: Path) -> None:
    """Leave the session of whoever started us: fork, setsid, fork, as daemon(7) has it."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    log = os.open(home / "supervise.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for standard in (1, 2):
        os.dup2(log, standard)


def run(settings: configparser.SectionProxy) -> None:
    home = Path(settings["home"])
    control = socket.socket(socket.AF_UNIX)
    os.chdir(home)  # a socket's path must be short
    control.bind("control")
    control.listen()
    daemonise(home)
    wanted = threading.Event()
    wanted.set()
    program = subprocess.Popen(shlex.split(settings["program"]))
    here = threading.Lock()

    def keep() -> None:
        nonlocal program
        while wanted.is_set():
            program.wait()
            with here:
                if wanted.is_set() and settings.getboolean("restart", fallback=False):
                    program = subprocess.Popen(shlex.split(settings["program"]))
                else:
                    return

    keeper = threading.Thread(target=keep, daemon=True)
    keeper.start()
    while True:
        client, _ = control.accept()
        with client:
            if client.recv(16) != b"stop":
                continue
            with here:
                if not settings.getboolean("forget", fallback=False):
                    wanted.clear()
            program.send_signal(signal.Signals[settings.get("signal", "SIGTERM")])
            if settings.getboolean("background", fallback=False):
                client.sendall(b"stopping")
                continue
            keeper.join(settings.getfloat("stopwaitsecs", fallback=10.0))
            if keeper.is_alive():
                program.kill()
                keeper.join()
            client.sendall(b"stopped")


def stop(settings: configparser.SectionProxy) -> int:
    os.chdir(settings["home"])
    with socket.socket(socket.AF_UNIX) as control:
        control.connect("control")
        control.sendall(b"stop")
        sys.stdout.write(control.recv(16).decode())
    return 0


if __name__ == "__main__":
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(sys.argv[2])
    sys.exit({"run": run, "stop": stop}[sys.argv[1]](parser["program:vm"]))
