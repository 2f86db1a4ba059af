"""One rsync daemon for one transfer: its configuration (pure), and its process on one end of a socket pair.

The daemon serves one root, read-only, or takes a restore into one new directory, under one name. The client's options
never choose what is read or written: `path` and the rules do, and options beyond those that the collector uses are
refused.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pyrsyncbackup_agent.entries.entry import problem
from pyrsyncbackup_agent.entries.lookup import open_directory
from pyrsyncbackup_agent.errors import RsyncFailed
from pyrsyncbackup_agent.processes import Child

if TYPE_CHECKING:
    from pyrsyncbackup_agent.modules import Root
    from pyrsyncbackup_agent.patterns import Rules

# The name under which a daemon serves its root: rsync x::m/
MODULE: Final = "m"
# What the collector's command line becomes at the server: -IRSz --timeout --compress-choice --files-from --from0, and
# --bwlimit, which only slows it down.
ALLOWED_OPTIONS: Final = (
    "ignore-times",
    "relative",
    "no-implied-dirs",
    "dirs",
    "sparse",
    "timeout",
    "compress",
    "compress-choice",
    "compress-level",
    "checksum-choice",
    "bwlimit",
    "files-from",
    "from0",
)
# For a restore: -rlptHSAX --specials --modify-window --numeric-ids --chmod --timeout.
RECEIVING_OPTIONS: Final = (
    "recursive",
    "links",
    "specials",
    "perms",
    "times",
    "modify-window",
    "hard-links",
    "sparse",
    "acls",
    "xattrs",
    "numeric-ids",
    "dirs",
    "timeout",
    "checksum-choice",
    "bwlimit",
)
# What rsync puts before the target of a link that it was sent, so that the link leads nowhere while others are written.
MUNGED: Final = b"/rsyncd-munged/"
# Messages that travel in one piece: above 64 KiB gRPC moves data at full rate, and 512 kB is the protocol's limit.
CHUNK: Final = 256 * 1024
MESSAGE_LINES: Final = 25
_LINE_LIMIT: Final = 500
_SAYS_NOTHING: Final = ("connect from ", "rsync on ", "building file list", "sent ")


def configuration(root_fd: int, rules_fd: int, uid: int) -> str:
    """Return rsyncd.conf for one root. Running as root it must stay root: it would become `nobody` by itself.

    Root and rules are named by descriptors that the daemon inherits: the directory is the one that was opened without
    following links, whatever lies at its path by now, and no name needs quoting.
    """
    allowed = ["munge symlinks = no", "read only = yes", _refusing(ALLOWED_OPTIONS)]
    module = [f"path = /proc/self/fd/{root_fd}", f"filter = merge /proc/self/fd/{rules_fd}"]
    return _text([*allowed, *_staying(uid), f"[{MODULE}]", *module])


def receiving(target_fd: int, arriving: str, uid: int) -> str:
    """Return rsyncd.conf that takes a restore into the directory that is open as `target_fd`.

    Links are munged: none that is sent leads anywhere while rsync writes. Files grow in the directory `arriving` of it:
    what a killed rsync leaves is there, and nowhere among what was restored.
    """
    allowed = ["read only = no", "write only = yes", "munge symlinks = yes", "incoming chmod = ug-s"]
    refusing = _refusing(RECEIVING_OPTIONS)
    module = [f"path = /proc/self/fd/{target_fd}", f"temp dir = {arriving}"]
    return _text([*allowed, refusing, *_staying(uid), f"[{MODULE}]", *module])


def _refusing(allowed: tuple[str, ...]) -> str:
    return "refuse options = * " + " ".join("!" + option for option in allowed)


def _staying(uid: int) -> list[str]:
    return ["uid = 0", "gid = 0"] if uid == 0 else []


def _text(lines: list[str]) -> str:
    common = [
        "use chroot = no",
        "list = no",
        "max verbosity = 0",
        "transfer logging = no",
        "log file = /proc/self/fd/2",
    ]
    return "\n".join([*common, *lines]) + "\n"


@dataclass(frozen=True)
class Exit:
    """How the daemon ended: its exit code (negative: signal), and its last lines."""

    code: int
    messages: str


def serve(rsync: str, root: Root, rules: Rules, directory: Path) -> Daemon:
    """Start a daemon that serves one root; `directory` (made here) takes its configuration. Raise RsyncFailed."""
    directory.mkdir(mode=0o700)
    filters = directory / "rules"
    filters.write_bytes(rules.filter_lines(root))
    config = directory / "rsyncd.conf"
    with contextlib.ExitStack() as stack:
        try:
            root_fd = open_directory(root.path)
        except OSError as error:
            raise RsyncFailed(f"the root cannot be opened: {problem(error).message}") from error
        stack.callback(os.close, root_fd)
        rules_file = stack.enter_context(filters.open("rb"))
        config.write_text(configuration(root_fd, rules_file.fileno(), os.geteuid()))
        return Daemon(rsync, config, (root_fd, rules_file.fileno()))


def receive(rsync: str, target_fd: int, arriving: str, directory: Path) -> Daemon:
    """Start a daemon that takes a restore into an open directory, whose directory `arriving` is for files on their way.

    `directory` as in `serve`. Raise RsyncFailed.
    """
    directory.mkdir(mode=0o700)
    config = directory / "rsyncd.conf"
    config.write_text(receiving(target_fd, arriving, os.geteuid()))
    return Daemon(rsync, config, (target_fd,))


class Daemon:
    """A running rsync daemon with one connection: `socket` is our end of it.

    `kill` may come from any thread at any time; `close` reaps it and is called once, by whoever made it.
    """

    def __init__(self, rsync: str, config: Path, inherited: tuple[int, ...]) -> None:
        """Start it with a configuration that names the `inherited` descriptors. Raise RsyncFailed."""
        self.socket, theirs = socket.socketpair()
        with theirs:
            for end in (self.socket, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * CHUNK)
            self._child = self._start(rsync, config, theirs, inherited)
        self._lines: deque[str] = deque(maxlen=MESSAGE_LINES)
        self._reader = threading.Thread(target=self._read_messages, name="rsync messages", daemon=True)
        self._reader.start()

    def _start(self, rsync: str, config: Path, theirs: socket.socket, inherited: tuple[int, ...]) -> Child:
        try:
            return Child(
                [rsync, "--server", "--daemon", f"--config={config}", "."],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.PIPE,
                pass_fds=inherited,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            )
        except OSError as error:
            self.socket.close()
            raise RsyncFailed(f"{rsync} cannot be started: {error.strerror}", "install rsync 3.2 or newer") from error

    @property
    def pid(self) -> int:
        """Process id, also its process group."""
        return self._child.pid

    def receive(self) -> bytes:
        """Return up to CHUNK bytes that the daemon sent; nothing at its end."""
        try:
            data = self.socket.recv(CHUNK)
            if not data or len(data) >= CHUNK:
                return data
            parts = [data]
            size = len(data)
            with contextlib.suppress(BlockingIOError):
                while size < CHUNK and (data := self.socket.recv(CHUNK - size, socket.MSG_DONTWAIT)):
                    parts.append(data)
                    size += len(data)
            return b"".join(parts)
        except ConnectionError:
            return b""

    def send(self, data: bytes) -> bool:
        """Pass bytes to the daemon; False when it does not read any more."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def end_of_input(self) -> None:
        """Tell the daemon that nothing more will come."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """End the daemon with all that it started, and wake whoever reads from it."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._child.signal(signal.SIGKILL)

    def close(self, timeout: float) -> Exit:
        """Wait `timeout` seconds for the end, kill it otherwise, and return how it ended; more calls do no harm."""
        if not self._child.ended(timeout):
            self.kill()
        code = self._child.reap(group=True)
        self._reader.join(timeout=5)
        self.socket.close()
        return Exit(code, "\n".join(self._lines))

    def _read_messages(self) -> None:
        stream = self._child.stderr
        if stream is None:
            return
        with stream:
            while line := stream.readline(_LINE_LIMIT):
                text = line.decode("utf-8", "backslashreplace").rstrip("\n")
                # "2026/11/22 21:49:03 [1234] text", and two lines about the connection that say nothing.
                text = text.partition("] ")[2] or text
                if text and text not in self._lines and not text.startswith(_SAYS_NOTHING):
                    self._lines.append(text)
