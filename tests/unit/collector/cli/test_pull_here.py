"""Pulls in the command's own process: what a signal does to the wait for them."""

from __future__ import annotations

import signal
import threading
from concurrent.futures import Future

import pytest
from pyrsyncbackup_collector.cli import _terminated
from pyrsyncbackup_collector.cli.pull_here import _finish
from pyrsyncbackup_collector.errors import Cancelled
from pyrsyncbackup_collector.pull.cancel import Cancel

from tests.support.waiting import until


def test_a_signal_that_another_thread_got_ends_the_pulls() -> None:
    job: Future[None] = Future()
    cancel = Cancel()

    def signalled() -> None:
        until(lambda: job._waiters)  # the main thread waits for it
        # To this thread, and the other is not woken by that.
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        with cancel.ends(lambda: job.set_result(None)):
            threading.Thread(target=signalled).start()
            with pytest.raises(Cancelled, match="asked to stop by SIGTERM"):
                _finish([job], cancel)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert cancel.is_set
