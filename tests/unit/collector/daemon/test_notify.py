"""What systemd is told, and how the loop is woken."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

from pyrsyncbackup_collector.daemon.notify import Notifier
from pyrsyncbackup_collector.daemon.wakeup import Wakeup


def test_states_arrive_at_the_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        notifier.ready()
        notifier.reloading(1.5)
        notifier.alive()
        notifier.status("3 hosts")
        notifier.stopping()
        received = [manager.recv(100) for _ in range(5)]
    expected = [b"READY=1", b"RELOADING=1\nMONOTONIC_USEC=1500000", b"WATCHDOG=1", b"STATUS=3 hosts", b"STOPPING=1"]
    assert received == expected


def test_an_abstract_address_works() -> None:
    name = f"pyrsyncbackup-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        Notifier({"NOTIFY_SOCKET": "@" + name}).ready()
        assert manager.recv(100) == b"READY=1"


def test_nobody_there_is_no_fault(tmp_path: Path) -> None:
    Notifier({}).ready()
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()


def test_the_watchdog_is_fed_twice_as_often_as_asked_and_only_by_the_one_it_is_for() -> None:
    assert Notifier({"WATCHDOG_USEC": "60000000"}).watchdog_every == 30
    assert Notifier({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}).watchdog_every == 30
    assert Notifier({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}).watchdog_every is None
    assert Notifier({}).watchdog_every is None


def test_a_wait_ends_when_it_is_woken_and_forgets_it_then() -> None:
    wakeup = Wakeup()
    threading.Timer(0.01, wakeup.set).start()
    assert wakeup.wait(60)
    assert not wakeup.wait(0)
    for _ in range(10_000):
        wakeup.set()
    assert wakeup.wait(0)
    assert not wakeup.wait(0)
    wakeup.close()
    wakeup.set()
