"""Signal dispositions and mask as a parent would have left them to its child."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
else:
    import _signal

SIGTERM = 15
LEFT_ALONE = (9, 13, 19, 25)
"""SIGKILL and SIGSTOP cannot be set; Python ignores SIGPIPE and SIGXFSZ, and QEMU SIGPIPE."""


def settle(inherit: str) -> None:
    """Set dispositions and mask as a parent would have left them.

    Everything is set, since the real parent may run under nohup, as a job of a shell's
    background, or block what it likes.
    """
    for signal in range(1, 32):
        if signal not in LEFT_ALONE:
            _signal.signal(signal, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, (SIGTERM,) if inherit == "blocked" else ())
    if inherit == "ignored":
        _signal.signal(SIGTERM, _signal.SIG_IGN)
