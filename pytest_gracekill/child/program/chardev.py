"""Character devices as the command line asks for them: where a monitor's client is to come from.

UNIX and TCP sockets, listening or connecting, descriptors that are handed over, standard input and
output. Other kinds are accepted, and nothing comes of them.
"""

import os

LONGEST_PATH = 108  # bytes, with the zero at its end


class Unusable(Exception):  # noqa: N818  # what QEMU says before it exits with 1
    """QEMU would not start so; the text is what it says."""


class Chardev:
    """What one character device is to be; the address is as the command line has it."""

    def __init__(self, label: str, kind: str, spelled: str) -> None:
        self.label, self.kind, self.spelled = label, kind, spelled
        self.path = self.host = self.port = ""
        self.fd = -1
        self.server = self.wait = self.abstract = False
        self.in_use = self.speaks_qmp = self.pretty = False

    @classmethod
    def asked_for(cls, asked: dict[str, str], spelled: str) -> "Chardev":
        """Make what `-chardev backend,id=...` asks for.

        :raises Unusable: QEMU would not take it.
        """
        if not asked.get("id"):
            raise Unusable(f"{spelled}: chardev: no id specified")
        found = cls(asked["id"], asked.get("backend", ""), spelled)
        if found.kind == "socket":
            found._be_socket(asked)
        return found

    def _be_socket(self, asked: dict[str, str]) -> None:
        self.path, self.host, self.port = (asked.get(name, "") for name in ("path", "host", "port"))
        self.abstract = self._switch(asked, "abstract", default=False)
        self.server = self._switch(asked, "server", default=False)
        self.wait = self._switch(asked, "wait", default=self.server)
        if self.wait and not self.server:
            raise Unusable(
                f"{self.spelled}: 'wait' option is incompatible with socket in client connect mode"
            )
        if not self.path and not self.port:
            number = asked.get("fd", "")
            if not number.isdecimal():
                raise Unusable(f"{self.spelled}: Unable to parse FD number {number}")
            self.fd = int(number)
        elif len(os.fsencode(self.path)) >= LONGEST_PATH:
            raise Unusable(
                f"{self.spelled}: UNIX socket path '{self.path}' is too long\n"
                f"Path must be less than {LONGEST_PATH} bytes"
            )

    def _switch(self, asked: dict[str, str], name: str, *, default: bool) -> bool:
        word = asked.get(name, "on" if default else "off")
        if word not in ("on", "off", "yes", "no", "true", "false", "y", "n"):
            raise Unusable(f"{self.spelled}: Parameter '{name}' expects 'on' or 'off'")
        return word in ("on", "yes", "true", "y")


def compatible(value: str) -> str | None:
    """Return the short form of `-qmp` and `-serial` as `-chardev` has it; None for no device."""
    kind, _, rest = value.partition(":")
    if kind == "unix":
        return f"socket,path={rest}"
    if kind in ("tcp", "telnet"):
        address, comma, more = rest.partition(",")
        host, colon, port = address.rpartition(":")
        return f"socket,host={host.strip('[]')},port={port}{comma}{more}" if colon else None
    word = kind.partition(",")[0]
    if word in ("stdio", "null", "vc", "pty", "msmouse", "file", "pipe", "udp"):
        return word
    return None
