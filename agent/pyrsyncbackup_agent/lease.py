"""What is open, and ends with its stream: one lease per module, bound to the client's certificate.

A lease ends once, whatever ends it: its RPCs are cancelled, its processes killed and reaped, its `after` hooks run, its
directory removed. A thread of its own does that, so that it happens also when nobody waits for it any more.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from pyrsyncbackup_agent import memory
from pyrsyncbackup_agent.entries import Attributes, Tree
from pyrsyncbackup_agent.errors import (
    AgentError,
    ModuleBusy,
    RsyncFailed,
    SessionUnknown,
    ShuttingDown,
    TooManySessions,
)
from pyrsyncbackup_agent.hooks import Hooks
from pyrsyncbackup_agent.rsyncd import Daemon, serve

if TYPE_CHECKING:
    from pyrsyncbackup_agent.modules import DetectedModule

# How long opening waits for the `after` hooks of the same module's lease that ends just now.
CLOSING_WAIT: Final = 10.0
# RPCs of one session at a time: a listing, a few transfers and digests.
MAX_CALLS: Final = 8

log = structlog.get_logger(__name__)


class Lease:
    """An open module. `end` may come from any thread, also from gRPC's callbacks; it returns at once."""

    def __init__(
        self, module: DetectedModule, client: bytes, directory: Path, hook_directory: Path, rsync: str
    ) -> None:
        self.module = module
        self.client = client
        self.session = secrets.token_bytes(16)
        self.directory = directory
        self.hook_directory = hook_directory
        self.tree = Tree(module.roots, module.rules)
        self.attributes = Attributes()
        self.ended = threading.Event()
        self.closed = threading.Event()
        self.reason: AgentError = SessionUnknown("session ended")
        self._rsync = rsync
        self._hooks = Hooks(module.name, hook_directory)
        self._hooks_idle = threading.Event()
        self._hooks_idle.set()
        self._hooks_begun = False
        self._condition = threading.Condition()
        self._calls: dict[int, Callable[[], object]] = {}
        self._next_call = 0

    def prepare(self, detect: Callable[[], DetectedModule]) -> None:
        """Make the lease's directories and run the `before` hooks; then look with `detect` what they made.

        Raise HookFailed.
        """
        self.directory.mkdir(mode=0o700, parents=True)
        hooks = self.module.hooks
        if not hooks:
            return
        self.hook_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._condition:
            if self.ended.is_set():
                raise self.reason
            self._hooks_begun = True
            self._hooks_idle.clear()
        try:
            self._hooks.before(hooks.before, hooks.timeout)
            self.module = detect()
            self.tree = Tree(self.module.roots, self.module.rules)
        finally:
            self._hooks_idle.set()

    def end(self, reason: AgentError | None = None) -> None:
        """Begin the end. The first reason given is the one that running RPCs are told."""
        if reason is not None and not self.ended.is_set():
            self.reason = reason
        self.ended.set()

    @contextlib.contextmanager
    def call(self, cancel: Callable[[], object]) -> Iterator[None]:
        """Count a running RPC of this session; `cancel` is called when the lease ends first."""
        with self._condition:
            if self.ended.is_set():
                raise self.reason
            if len(self._calls) >= MAX_CALLS:
                raise TooManySessions(f"the session has {MAX_CALLS} calls open already")
            number = self._next_call
            self._next_call += 1
            self._calls[number] = cancel
        try:
            yield
        finally:
            with self._condition:
                del self._calls[number]
                self._condition.notify_all()

    @contextlib.contextmanager
    def daemon(self, root_id: int) -> Iterator[Daemon]:
        """Start an rsync daemon for one root; it is gone when the block ends."""
        root = next((root for root in self.module.roots if root.id == root_id), None)
        if root is None:
            raise RsyncFailed(f"the module has no root {root_id}")
        directory = self.directory / f"transfer-{secrets.token_hex(4)}"
        daemon = serve(self._rsync, root, self.module.rules, directory)
        try:
            yield daemon
        finally:
            daemon.close(0)
            shutil.rmtree(directory, ignore_errors=True)

    def close(self) -> None:
        """End everything, then run the `after` hooks. Called once, by the thread that `Leases` made for it."""
        self._hooks.stop()
        self._hooks_idle.wait()
        hooks = self.module.hooks
        with self._condition:
            deadline = time.monotonic() + 10
            while self._calls and time.monotonic() < deadline:
                for cancel in list(self._calls.values()):
                    # grpc raises a bare Exception for a call that has ended; the others are to be cancelled too.
                    with contextlib.suppress(Exception):
                        cancel()
                self._condition.wait(0.5)
        if self._hooks_begun:
            for failure in self._hooks.after(hooks.after, hooks.timeout):
                log.warning("after hook failed", module=self.module.name, reason=failure.cause)
            self._hooks.end_background()
            shutil.rmtree(self.hook_directory, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.closed.set()


def _fingerprint(certificate: bytes) -> str:
    # As pyrsyncbackup.identity writes it, which costs 10 MB to import.
    return "SHA256:" + base64.b64encode(hashlib.sha256(certificate).digest()).decode().rstrip("=")


class Leases:
    """All open leases. Thread-safe."""

    def __init__(self, runtime_dir: Path, limit: int, rsync: str) -> None:
        self._directory = runtime_dir / "sessions"
        # By the module's name, so that a definition can name what its hooks write.
        self._hook_directory = runtime_dir / "hooks"
        self._limit = limit
        self._rsync = rsync
        self._condition = threading.Condition()
        self._by_module: dict[str, Lease] = {}
        self._draining = False
        self._number = 0
        for directory in (self._directory, self._hook_directory):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(mode=0o700, parents=True)

    def open(self, module: DetectedModule, client: bytes) -> Lease:
        """Reserve the module for `client`. Raise ModuleBusy, TooManySessions, ShuttingDown."""
        with self._condition:
            self._condition.wait_for(lambda: self._draining or not self._closing(module.name), CLOSING_WAIT)
            if self._draining:
                raise ShuttingDown("the agent is shutting down")
            if module.name in self._by_module:
                raise ModuleBusy(f"module {module.name} is in use by another session", "try again when it has ended")
            if len(self._by_module) >= self._limit:
                raise TooManySessions(f"{self._limit} sessions are open, no more are allowed", "see max_sessions")
            self._number += 1
            directory = self._directory / f"{self._number}-{module.name}"
            lease = Lease(module, client, directory, self._hook_directory / module.name, self._rsync)
            self._by_module[module.name] = lease
        log.info("session opened", module=module.name, collector=_fingerprint(client))
        threading.Thread(target=self._close_at_end, args=(lease,), name=f"lease {module.name}", daemon=True).start()
        return lease

    def find(self, session: bytes, client: bytes) -> Lease:
        """Return the open lease of that token and client; raise SessionUnknown."""
        with self._condition:
            for lease in self._by_module.values():
                if secrets.compare_digest(lease.session, session) and lease.client == client:
                    if lease.ended.is_set():
                        raise lease.reason
                    return lease
        raise SessionUnknown("session unknown or ended", "open the module again")

    def end_of_clients(self, trusted: Callable[[bytes], bool]) -> None:
        """End the leases of clients that are not trusted any more."""
        with self._condition:
            leases = list(self._by_module.values())
        for lease in leases:
            if not trusted(lease.client):
                lease.end(SessionUnknown("certificate is not trusted any more"))

    def drain(self, grace: float) -> None:
        """Take no new ones, give the open ones `grace` seconds, end them, and wait until all are closed."""
        with self._condition:
            self._draining = True
            self._condition.notify_all()
            self._condition.wait_for(lambda: not self._by_module, grace)
            leases = list(self._by_module.values())
        for lease in leases:
            lease.end(ShuttingDown("the agent is shutting down"))
        for lease in leases:
            lease.closed.wait()

    def _closing(self, name: str) -> bool:
        lease = self._by_module.get(name)
        return lease is not None and lease.ended.is_set()

    def _close_at_end(self, lease: Lease) -> None:
        begin = time.monotonic()
        lease.ended.wait()
        try:
            lease.close()
        finally:
            with self._condition:
                del self._by_module[lease.module.name]
                self._condition.notify_all()
            lease.closed.set()
            log.info("session closed", module=lease.module.name, seconds=round(time.monotonic() - begin, 3))
            memory.give_back()
