"""Tell systemd how the service does (sd_notify): a datagram to the socket in NOTIFY_SOCKET.

A dozen lines of ours: the protocol is stable since 2010, and a dependency for it would be more to look after.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

from pyrsyncbackup_collector import logs


class Notifier:
    """Sends states to the service manager; does nothing where there is none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        meant = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "") if meant else ""
        # Half of what systemd allows, as sd_watchdog_enabled(3) advises.
        self.watchdog_every: float | None = int(microseconds) / 2e6 if microseconds.isdigit() else None

    def ready(self) -> None:
        """Started, or the reload is over."""
        self._send("READY=1")

    def reloading(self, monotonic: float) -> None:
        """A reload begins; `monotonic` in seconds of CLOCK_MONOTONIC, which Type=notify-reload wants."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={int(monotonic * 1e6)}")

    def stopping(self) -> None:
        """The end begins."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """The loop turns."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={text}")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
                channel.sendto(text.encode(), self._address)
        except OSError as error:
            # The service works without; systemd tells by itself that it heard nothing.
            logs.get().warning("cannot notify the service manager", cause=str(error))
