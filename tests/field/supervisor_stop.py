"""supervisor: a daemon that starts programs, and its command that stops them."""

from __future__ import annotations

import sys
from pathlib import Path

from pytest_gracekill import External

from .shipped import KILL, Shipped, term

#: Its commands are beside the Python that it is installed for.
BIN = Path(sys.executable).parent

CONFIGURATION = """\
[supervisord]
nodaemon = true
logfile = /dev/null
logfile_maxbytes = 0
pidfile = {{dir}}/supervisord.pid

[unix_http_server]
file = {{dir}}/socket

[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl = unix://{{dir}}/socket

[program:vm]
command = {{program}}
redirect_stderr = true
stdout_logfile = /dev/null
stdout_logfile_maxbytes = 0
autorestart = false
{wait}
"""


def stop_after(seconds: float | None) -> External:
    wait = "" if seconds is None else f"stopwaitsecs = {round(seconds)}"
    text = CONFIGURATION.format(wait=wait)
    return External(
        start=f"{BIN}/supervisord -c {{dir}}/supervisord.conf",
        stop=f"{BIN}/supervisorctl -c {{dir}}/supervisord.conf stop vm",
        files={"supervisord.conf": text},
    )


SHIPPED = (
    Shipped(
        key="supervisor",
        call="supervisorctl stop",
        routine=stop_after(None),
        timed=stop_after,
        steps=(term(10), KILL),
        source="supervisor/process.py: Subprocess.stop",
        package="supervisor",
        force=True,
        remark="its configuration may say another `stopwaitsecs`",
    ),
)
