"""Runs alone, in a network of its own: says what programs may do there, then runs the one that is named.

They may use every port, make no namespaces beside bubblewrap's two, and are the first to end when memory is short.

What started it is the first argument, a process id: if that is killed, all of this ends. So the program is the first
process of a namespace, whose end is that of all in it; bubblewrap's own --die-with-parent begins too late for one that
is killed while the sandbox is made.
"""

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNS = 0x00020000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_SLAVE = 2, 4, 8, 1 << 14, 1 << 19
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
        _show_own_processes()
        try:
            os.read(alive, 1)
        except BlockingIOError:
            os.execvp(argv[0], argv)  # noqa: S606
        os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def _show_own_processes() -> None:
    """Mount /proc of this namespace: bubblewrap looks there for the process that it starts.

    In the one of the collector that number is another's, or nobody's: then bubblewrap ends. Where it cannot be mounted
    bubblewrap could not mount its own either, and says so.
    """
    if _LIBC.unshare(_CLONE_NEWNS) == 0 and _LIBC.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None) == 0:
        _LIBC.mount(b"proc", b"/proc", b"proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, None)


def _end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def _set(path: str, value: str) -> None:
    """Where the kernel has no such thing it goes without: a program that tries port 80 says so itself."""
    with contextlib.suppress(OSError), open(path, "w") as setting:
        setting.write(value)


_end_with_parent()
if os.getppid() != int(sys.argv[1]):
    sys.exit("the collector is gone")
_set("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
_set("/proc/sys/user/max_user_namespaces", "2")
_set("/proc/self/oom_score_adj", "1000")
sys.exit(_run(sys.argv[2:]))
