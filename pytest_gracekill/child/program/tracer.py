"""A tracer that keeps the VM for a while after SIGKILL, as a driver in the kernel does (state D).

It seizes the VM with PTRACE_O_TRACEEXIT (ptrace(2)): a process that was killed stops on its way
out, with its files, locks and sockets still there, and goes on when it is let go. A pidfd is not
readable meanwhile, and another SIGKILL changes nothing. An exit of its own is not held up. When the
tracer dies, the kernel lets the VM go.
"""

import ctypes
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .lifeline import Lifeline
    from .record import Record

PR_SET_PTRACER = 0x59616D61
PTRACE_CONT, PTRACE_SEIZE, PTRACE_GETEVENTMSG, PTRACE_LISTEN = 7, 0x4206, 0x4201, 0x4208
PTRACE_O_TRACEEXIT, PTRACE_EVENT_EXIT, PTRACE_EVENT_STOP = 0x40, 6, 128
STOPS = (19, 20, 21, 22)  # SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU
WALL = 0x40000000
SIGKILL = 9


def trace(seconds: float, lifeline: "Lifeline | None", record: "Record | None") -> int:
    """Have the calling process traced; return 0, or the errno by which the kernel refuses.

    Without lifeline and record it is only a question whether that can be had.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    vm = os.getpid()
    told, telling = os.pipe()
    allowed, allowing = os.pipe()
    tracer = os.fork()
    if tracer == 0:
        os.close(told)
        os.close(allowing)
        os.read(allowed, 1)  # end of file: we may
        os.close(allowed)
        if lifeline is not None:
            lifeline.hold()
        _trace(libc, vm, seconds, telling, record)
    os.close(telling)
    os.close(allowed)
    # a descendant that attaches to its ancestor needs its leave where Yama is on
    libc.prctl(PR_SET_PTRACER, tracer, 0, 0, 0)
    os.close(allowing)
    answer = os.read(told, 16)
    os.close(told)
    return int(answer or b"1")


def _trace(
    libc: ctypes.CDLL, vm: int, seconds: float, telling: int, record: "Record | None"
) -> "NoReturn":
    ptrace = libc.ptrace
    ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    ptrace.restype = ctypes.c_long
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)  # a routine may read them to their end
    seized = ptrace(PTRACE_SEIZE, vm, None, ctypes.c_void_p(PTRACE_O_TRACEEXIT)) == 0
    os.write(telling, b"0" if seized else b"%d" % ctypes.get_errno())
    os.close(telling)
    while seized:
        try:
            status = os.waitpid(vm, WALL)[1]
        except ChildProcessError:
            break
        if not os.WIFSTOPPED(status):
            break
        deliver = os.WSTOPSIG(status)
        event = status >> 16
        if event == PTRACE_EVENT_EXIT:
            deliver = 0
            code = ctypes.c_ulong()
            ptrace(PTRACE_GETEVENTMSG, vm, None, ctypes.addressof(code))
            if code.value & 0x7F == SIGKILL:
                if record is not None:
                    record.write("held", signal=SIGKILL)
                time.sleep(seconds)
        elif event == PTRACE_EVENT_STOP and deliver in STOPS:
            ptrace(PTRACE_LISTEN, vm, None, None)  # it stays stopped until somebody sends SIGCONT
            continue
        elif event:
            deliver = 0
        ptrace(PTRACE_CONT, vm, None, ctypes.c_void_p(deliver))
    os._exit(0)
