"""What ssh starts as its ProxyCommand: connects to a Unix socket, hands the connection to ssh, and ends.

So no process copies bytes between two SSH connections. Runs with `python -IS`.
"""

import _socket
import sys

connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
try:
    connection.connect(sys.argv[1])
except OSError as error:
    sys.exit(f"the way to the SSH server is gone: {error.strerror}")
ssh = _socket.socket(fileno=1)
handed = connection.fileno().to_bytes(4, sys.byteorder)
ssh.sendmsg([b"\0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, handed)])
