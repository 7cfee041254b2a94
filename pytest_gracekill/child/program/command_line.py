"""QEMU's command line: what of it concerns a VM's stopping is understood, the rest is skipped.

Understood: `-qmp`, `-qmp-pretty`, `-mon`, `-monitor`, `-serial`, `-chardev`, `-pidfile`,
`-daemonize`, `-S`, `-no-shutdown`, `-no-reboot`, `-action`, `-name`, `-uuid`; each with one dash
or two. An option of which nothing is known here takes the next word with it, unless that begins
with a dash.
"""

from .chardev import Chardev, Unusable, compatible
from .stderr import NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Meaning = Callable[["Options", str, str], None]

# of QEMU 7.2; a value that looks like an option is none only behind one of these
_WITH_VALUE = """
M machine cpu accel smp numa add-fd set global boot m mem-path k audio audiodev device name uuid fda
fdb hda hdb hdc hdd cdrom blockdev drive mtdblock sd fsdev virtfs iscsi usbdevice display spice
rotate vga g vnc acpitable smbios netdev nic net chardev tpmdev bios pflash kernel append initrd dtb
compat fw_cfg serial parallel monitor qmp qmp-pretty mon debugcon pidfile overcommit gdb d dfilter D
L seed xen-domid action loadvm option-rom rtc icount watchdog-action echr incoming chroot runas
sandbox readconfig trace plugin msg dump-vmstate object semihosting-config prom-env bt tb-size
virtioconsole
"""
_ALONE = """
h help version audio-help mem-prealloc snapshot usb nographic portrait full-screen win2k-hack
no-fd-bootchk no-acpi no-hpet singlestep s enable-kvm xen-attach xen-domid-restrict no-reboot
no-shutdown daemonize only-migratable nodefaults no-user-config async-teardown enable-sync-profile S
semihosting old-param no-kvm
"""
WITH_VALUE, ALONE = frozenset(_WITH_VALUE.split()), frozenset(_ALONE.split())


class Options:
    """What was asked for; relative paths are relative to where the process was started."""

    def __init__(self) -> None:
        self.words: list[tuple[str, str]] = []
        self.pid_file = ""
        self.daemonize = self.paused = self.no_shutdown = self.no_reboot = False
        self.name = ""
        self.uuid = "00000000-0000-0000-0000-000000000000"
        self.chardevs: dict[str, Chardev] = {}

    @property
    def passed(self) -> list[int]:
        """Descriptors that the VM was handed for its own use, and for nobody else's."""
        return [chardev.fd for chardev in self.chardevs.values() if chardev.fd >= 0]


def words(arguments: "Sequence[str]") -> list[tuple[str, str]]:
    """Split into (option without dashes, value); a value of an option that has none is ''.

    :raises Unusable: the last option lacks its value.
    """
    found, left = [], list(arguments)
    while left:
        word = left.pop(0)
        if not word.startswith("-") or word == "-":
            continue  # a disk image
        name = word[2:] if word.startswith("--") else word[1:]
        value = ""
        if name in WITH_VALUE:
            if not left:
                raise Unusable(f"{word}: requires an argument")
            value = left.pop(0)
        elif name not in ALONE and left and not left[0].startswith("-"):
            value = left.pop(0)
        found.append((name, value))
    return found


def fields(text: str, implied: str = "") -> dict[str, str]:
    """Read `first,key=value,key,nokey`; a comma within a value is written twice."""
    found = {}
    for number, part in enumerate(text.replace(",,", "\0").split(",")):
        key, equals, value = part.replace("\0", ",").partition("=")
        if not equals:
            if number == 0 and implied:
                key, value = implied, key
            else:
                key, value = (key[2:], "off") if key.startswith("no") else (key, "on")
        if key:
            found[key] = value
    return found


def understand(arguments: "Sequence[str]") -> Options:
    """Return what was asked for.

    :raises Unusable: QEMU would not start with these words; the text is its own.
    """
    options = Options()
    options.words = words(arguments)
    # QEMU makes all chardevs before it makes any monitor
    for name, value in options.words:
        if name == "chardev":
            _add(options, Chardev.asked_for(fields(value, "backend"), f"-chardev {value}"))
    for name, value in options.words:
        if name in MEANINGS:
            MEANINGS[name](options, value, f"-{name} {value}")
    _check(options)
    return options


def _pid_file(options: Options, value: str, _spelled: str) -> None:
    options.pid_file = value


def _switch(attribute: str) -> "Meaning":
    def meaning(options: Options, _value: str, _spelled: str) -> None:
        setattr(options, attribute, True)

    return meaning


def _action(options: Options, value: str, _spelled: str) -> None:
    actions = fields(value)
    options.no_shutdown = actions.get("shutdown", "") == "pause" or options.no_shutdown
    options.no_reboot = actions.get("reboot", "") == "shutdown" or options.no_reboot


def _name(options: Options, value: str, _spelled: str) -> None:
    options.name = fields(value, "guest").get("guest", "")


def _uuid(options: Options, value: str, _spelled: str) -> None:
    options.uuid = value


def _qmp(options: Options, value: str, spelled: str) -> None:
    _compatible(options, value, spelled, "compat_monitor").speaks_qmp = True


def _qmp_pretty(options: Options, value: str, spelled: str) -> None:
    chardev = _compatible(options, value, spelled, "compat_monitor")
    chardev.speaks_qmp = chardev.pretty = True


def _serial(options: Options, value: str, spelled: str) -> None:
    """A line that nobody hears from: what matters is that one can connect to it."""
    if value.partition(":")[0] in ("unix", "tcp", "telnet", "chardev"):
        _compatible(options, value, spelled, "serial")


def _add(options: Options, chardev: Chardev) -> Chardev:
    if chardev.label in options.chardevs:
        raise Unusable(f"{chardev.spelled}: Duplicate ID '{chardev.label}' for chardev")
    options.chardevs[chardev.label] = chardev
    return chardev


def _compatible(options: Options, value: str, spelled: str, role: str) -> Chardev:
    """The short form of `-qmp` and `-serial`: a device, or one that has a name already."""
    if value.startswith("chardev:"):
        return _used(options, value.removeprefix("chardev:"), spelled)
    number = sum(label.startswith(role) for label in options.chardevs)
    long_form = compatible(value)
    if long_form is None:
        reason = f"{spelled}: '{value}' is not a valid char driver"
        raise Unusable(f"{reason}\n{NAME}: {spelled}: parse error: {value}")
    label = f"{role}{number}"
    asked = fields(long_form, "backend") | {"id": label}
    _add(options, Chardev.asked_for(asked, spelled))
    return _used(options, label, spelled)


def _mon(options: Options, value: str, spelled: str) -> None:
    asked = fields(value, "chardev")
    mode = asked.get("mode", "readline")
    if "chardev" not in asked:
        raise Unusable(f"{spelled}: Parameter 'chardev' is missing")
    if mode not in ("readline", "control"):
        raise Unusable(f"{spelled}: Parameter 'mode' does not accept value '{mode}'")
    chardev = _used(options, asked["chardev"], spelled)
    if mode == "control":
        chardev.speaks_qmp, chardev.pretty = True, asked.get("pretty") == "on"


def _used(options: Options, label: str, spelled: str) -> Chardev:
    """Return the device, which one monitor or guest device can have."""
    chardev = options.chardevs.get(label)
    if chardev is None:
        raise Unusable(f'{spelled}: chardev "{label}" not found')
    if chardev.in_use:
        raise Unusable(f"{spelled}: Device '{label}' is in use")
    chardev.in_use = True
    return chardev


def _check(options: Options) -> None:
    """Standard input and output are one device's; serial lines get theirs last."""
    users = [chardev.spelled for chardev in options.chardevs.values() if chardev.kind == "stdio"]
    lines = [name for name, value in options.words if (name, value) == ("serial", "stdio")]
    users += [f"-{name} stdio" for name in lines]
    if users and options.daemonize:
        raise Unusable(_unusable(users[0], "cannot use stdio with -daemonize"))
    if len(users) > 1:
        raise Unusable(_unusable(users[1], "cannot use stdio by multiple character devices"))


def _unusable(spelled: str, reason: str) -> str:
    """The reason, and what a serial line makes of it."""
    told = f"{spelled}: {reason}"
    if spelled.startswith("-serial"):
        what = "could not connect serial device to character backend 'stdio'"
        told += f"\n{NAME}: {spelled}: {what}"
    return told


MEANINGS: "dict[str, Meaning]" = {
    "qmp": _qmp,
    "qmp-pretty": _qmp_pretty,
    "mon": _mon,
    "monitor": _serial,
    "serial": _serial,
    "pidfile": _pid_file,
    "daemonize": _switch("daemonize"),
    "S": _switch("paused"),
    "no-shutdown": _switch("no_shutdown"),
    "no-reboot": _switch("no_reboot"),
    "action": _action,
    "name": _name,
    "uuid": _uuid,
}
