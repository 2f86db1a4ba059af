"""Runs alone, in a network of its own: lets programs use every port there, then runs the one that is named.

What started it is the first argument, a process id: if that is killed, all of this ends. So the program is the first
process of a namespace, whose end is that of all in it; bubblewrap's own --die-with-parent begins too late for one that
is killed while the sandbox is made.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_CLONE_NEWPID = 0x20000000
_LIBC = ctypes.CDLL(None, use_errno=True)


def _run(argv: list[str]) -> int:
    """The exit code of `argv`, run as the first process of a namespace."""
    if _LIBC.unshare(_CLONE_NEWPID) != 0:
        sys.exit(f"no namespace of processes: {os.strerror(ctypes.get_errno())}")
    alive, held = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(held)
        _end_with_parent()
        # In there no process has a parent's number; but the other end of the pipe closes with it.
        os.set_blocking(alive, False)
        try:
            os.read(alive, 1)
        except BlockingIOError:
            os.execvp(argv[0], argv)  # noqa: S606
        os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


_end_with_parent()
if os.getppid() != int(sys.argv[1]):
    sys.exit("the collector is gone")
try:
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "w") as setting:
        setting.write("0")
except OSError:
    pass  # then a program that tries port 80 says so
sys.exit(_run(sys.argv[2:]))
