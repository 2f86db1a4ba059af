"""A real rsync client whose connection runs through a Transfer stream of a real agent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from pyrsyncbackup.v1 import agent_pb2 as pb

from tests.support.agent import Session

# What rsync runs in place of ssh: it passes its standard streams to the inherited socket, and half-closes.
_BRIDGE = """
import os, socket, sys, threading
channel = socket.socket(fileno=int(sys.argv[1]))
def up():
    while data := os.read(0, 65536):
        channel.sendall(data)
    channel.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := channel.recv(65536):
    view = memoryview(data)
    while view:
        view = view[os.write(1, view):]
"""


def fetch(
    session: Session, root: int, names: Sequence[bytes], incoming: Path, *options: str, timeout: float = 60
) -> tuple[subprocess.CompletedProcess[bytes], pb.DaemonExit | None]:
    """Fetch `names` of a root into `incoming`; returns how the client and the agent's daemon ended."""
    incoming.mkdir(exist_ok=True)
    listed = incoming.parent / f"{incoming.name}.list"
    listed.write_bytes(b"".join(name + b"\0" for name in names))
    bridge = incoming.parent / "bridge.py"
    bridge.write_text(_BRIDGE)
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            shell = f"{sys.executable} -IS {bridge} {theirs.fileno()}"
            argv = ["rsync", f"--files-from={listed}", "--from0", "-I", "-S", "--chmod=D700,F600", "--blocking-io"]
            argv += ["--timeout=30", *options, "-e", shell, "x::m/", f"{incoming}/"]
            # The path of the bridge's descriptor number holds neither blanks nor quotes: rsync splits at blanks.
            client = subprocess.Popen(
                argv,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            done = pump(session, root, ours)
            output, _ = client.communicate(timeout=timeout)
        finally:
            if client.returncode is None:
                # The bridge too: it holds the pipe whose end is waited for.
                os.killpg(client.pid, signal.SIGKILL)
                client.communicate()
            # Wakes gRPC's thread, which may still be reading the requests.
            ours.shutdown(socket.SHUT_RDWR)
    return subprocess.CompletedProcess(argv, client.returncode, output), done


def pump(session: Session, root: int, channel: socket.socket) -> pb.DaemonExit | None:
    """Pass bytes between `channel` and a Transfer until both are done."""

    def requests() -> Iterator[pb.TransferRequest]:
        yield pb.TransferRequest(session=session.token, root=root)
        while data := channel.recv(256 * 1024):
            yield pb.TransferRequest(data=data)

    done = None
    broken = threading.Event()
    for message in session.stub.Transfer(requests()):
        if message.data and not broken.is_set():
            try:
                channel.sendall(message.data)
            except OSError:
                broken.set()
        if message.HasField("exit"):
            done = message.exit
            channel.shutdown(socket.SHUT_WR)
    return done


def arrived(incoming: Path) -> dict[bytes, bytes]:
    """Relative path and content of all files below `incoming`."""
    top = os.fsencode(incoming)
    found = {}
    for directory, _, files in os.walk(top):
        for name in files:
            path = os.path.join(directory, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, top)] = file.read()
    return found
