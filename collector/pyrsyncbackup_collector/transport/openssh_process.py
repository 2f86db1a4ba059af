"""Runs OpenSSH's client: the only place that starts it.

A client that stays has a process group of its own, so that Ctrl-C reaches us first, and is kept on a leash: nothing is
left of it, nor of what it started, even if we are killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyrsyncbackup_collector.errors import BackupError
from pyrsyncbackup_collector.transport.openssh_command import environment
from pyrsyncbackup_collector.transport.openssh_messages import Messages, Refusal, Said

# Milliseconds after which a condition that the client does not speak of is looked at again.
_LOOK = 50
_CHUNK = 65536
_READS = 16


@dataclass(frozen=True, slots=True)
class Ran:
    """How a short run of the client ended, and what it said."""

    code: int
    output: str
    said: Said


def run(argv: Sequence[str], timeout: float) -> Ran:
    """Run the client to its end, which comes by force after `timeout` seconds; it talks to nobody outside."""
    messages = Messages()
    with _started(argv, stdout=subprocess.PIPE) as process:
        try:
            output, said = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            output, said = process.communicate()
            said += b"no answer in time\n"
    messages.feed(said)
    messages.finish()
    return Ran(process.returncode, output.decode("utf-8", "surrogateescape"), messages.said)


class Client:
    """A running client. Close it: no process is left of it then, nor when we are killed. Thread-safe."""

    def __init__(self, argv: Sequence[str]) -> None:
        """Raises BackupError if there is no such program, OSError if there is no room for one more."""
        self._messages = Messages()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._look: int | None = _LOOK
        with contextlib.ExitStack() as undo:
            self._process = undo.enter_context(_started(argv, stdout=subprocess.DEVNULL))
            undo.callback(self._process.kill)
            self._end = os.pidfd_open(self._process.pid)
            undo.callback(os.close, self._end)
            self._leash = _Leash(self._process)
            undo.pop_all()
        assert self._process.stderr is not None  # noqa: S101 - a pipe was asked for
        self._stderr = self._process.stderr
        os.set_blocking(self._stderr.fileno(), False)
        self._reader = threading.Thread(target=self._read, name="ssh-messages", daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return not self._ended

    def wait(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Whether `condition` became true within `timeout` seconds, before the client ended. Once only."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or condition(), timeout)
            self._look = None
            return not self._ended and condition()

    def said(self) -> Said:
        """What it said so far."""
        with self._changed:
            self._take()
            return self._messages.said

    def logged_in(self) -> None:
        """From here on its messages are its own."""
        with self._changed:
            self._take()
            self._messages.logged_in()

    def refusal(self, address: str, port: int) -> Refusal | None:
        """Why the last connection that was forwarded to there failed, if it did."""
        with self._changed:
            self._take()
            return self._messages.refusal(address, port)

    def close(self) -> None:
        """End it and all that it started, at once."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
        self._leash.kill()
        self._reader.join()
        self._stderr.close()
        os.close(self._end)

    def _read(self) -> None:
        """Keep the pipe empty until the client has ended; what it started may hold the pipe for longer."""
        stderr, poll = self._stderr.fileno(), select.poll()
        poll.register(stderr, select.POLLIN)
        poll.register(self._end, select.POLLIN)
        while not self._ended:
            ready = [descriptor for descriptor, _ in poll.poll(self._look)]
            with self._changed:
                if not self._take() and stderr in ready:
                    poll.unregister(stderr)
                if self._end in ready:
                    self._process.wait()
                    self._messages.finish()
                    self._ended = True
                self._changed.notify_all()

    def _take(self) -> bool:
        """Read what is there now; whether there may be more. The lock is held."""
        try:
            for _ in range(_READS):
                if self._closed or not (data := os.read(self._stderr.fileno(), _CHUNK)):
                    return False
                self._messages.feed(data)
        except BlockingIOError:
            pass
        return True


class _Leash:
    """Has the kernel kill a client's process group when we kill it, or are gone.

    A pipe whose two ends we hold: when one is closed, as all are at our end, the other signals to its owner, the group,
    what F_SETSIG says. PR_SET_PDEATHSIG would kill it with the thread that started it, and spare what it started; a
    pipe to its stdin is no help, since it puts /dev/null there. For the millisecond of its start nothing holds it.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._ends = os.pipe()
        for end in self._ends:
            fcntl.fcntl(end, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(end, fcntl.F_SETOWN, -process.pid)
            fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_ASYNC)

    def kill(self) -> None:
        """End the group at once."""
        for end in self._ends:
            os.close(end)


def _started(argv: Sequence[str], stdout: int) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=environment(os.environ),
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise BackupError(
            "OpenSSH's client, `ssh`, is not installed", 'install openssh-client, or set `transport = "sshtunnel"`'
        ) from error
