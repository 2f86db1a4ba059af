"""Runs alone, in a network of its own: lets programs use every port there, then becomes the one that is named.

What started it is the first argument, a process id: if that is killed, this ends with it. bubblewrap's own
--die-with-parent begins too late for one that is killed in this moment.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the collector is gone")
try:
    with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", "w") as setting:
        setting.write("0")
except OSError:
    pass  # then a program that tries port 80 says so
os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606
