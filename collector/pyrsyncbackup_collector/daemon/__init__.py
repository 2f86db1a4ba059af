"""Where everything is put together: the only package that knows all others."""

from __future__ import annotations

import signal

from pyrsyncbackup_collector.clock import Clock
from pyrsyncbackup_collector.config import Config
from pyrsyncbackup_collector.daemon.composition import Parts, looking, opened
from pyrsyncbackup_collector.daemon.service import Service
from pyrsyncbackup_collector.daemon.work import Checked, Ended, PullOrder, check_host, pull

__all__ = ["Checked", "Ended", "Parts", "PullOrder", "Service", "check_host", "looking", "opened", "pull", "run"]


def run(config: Config, *, clock: Clock | None = None) -> None:
    """The daemon, in the main thread: until SIGTERM or SIGINT ends it; SIGHUP reloads.

    Raises BackupError where it cannot start.
    """
    with opened(config, clock=clock, verify=True) as parts:
        service = Service(config, parts)
        before = {
            signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: service.stop()),
            signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: service.stop()),
            signal.SIGHUP: signal.signal(signal.SIGHUP, lambda *_: service.ask_reload()),
        }
        try:
            service.run()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
