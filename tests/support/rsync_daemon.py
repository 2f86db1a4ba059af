"""A real rsync daemon for one connection, without an agent between: what an rsync client needs of a pump."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from pyrsyncbackup_collector.transport.offer import DaemonExit


class LocalPump:
    """Joins the client to `rsync --server --daemon` with `tree` as its module."""

    def __init__(self, tree: Path, work: Path, options: str = "") -> None:
        self._config = work / "rsyncd.conf"
        root = "uid = root\ngid = root\n" if os.geteuid() == 0 else ""
        self._config.write_text(
            f"use chroot = no\nmunge symlinks = no\n{root}{options}[m]\npath = {tree}\nread only = yes\n"
        )

    def run(
        self,
        ends: Callable[[], tuple[int, int] | None],
        on_data: Callable[[int], None] | None = None,
        on_failure: Callable[[], None] = lambda: None,
    ) -> DaemonExit | None:
        found = ends()
        if found is None:
            return None
        from_client, to_client = found
        ours, theirs = socket.socketpair()
        with theirs:
            daemon = subprocess.Popen(
                ["rsync", "--server", "--daemon", f"--config={self._config}", "."],
                stdin=theirs,
                stdout=theirs,
                stderr=subprocess.DEVNULL,
            )
        with socket.socket(fileno=from_client) as source, socket.socket(fileno=to_client) as sink, ours:
            up = threading.Thread(target=self._copy, args=(source, ours, None))
            up.start()
            try:
                self._copy(ours, sink, on_data)
            finally:
                for end in (source, ours):
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
                up.join()
                daemon.wait()
        return DaemonExit(daemon.returncode, "")

    def _copy(self, source: socket.socket, sink: socket.socket, on_data: Callable[[int], None] | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 18):
                if on_data is not None:
                    on_data(len(data))
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
