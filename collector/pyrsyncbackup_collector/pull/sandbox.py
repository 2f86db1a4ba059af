"""Where the rsync client runs: it can write to its one incoming directory and reaches no network.

A hostile host may take over the client (ten such faults were fixed in rsync 3.5.0). bubblewrap is used where it works,
else Landlock with a system call filter, tried with a real rsync at start; where neither works nothing is pulled.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pyrsyncbackup_collector.errors import SandboxUnavailable
from pyrsyncbackup_collector.pull.rsync_command import REQUIRED, python

LAUNCHER = Path(__file__).with_name("landlock.py")

# What a dynamically linked rsync and the bridge's interpreter need to start.
SYSTEM_DIRECTORIES = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc/ld.so.cache", "/etc/alternatives")


@dataclass(frozen=True, slots=True)
class Limits:
    """Upper bounds of one run of the client: bytes of one file, and seconds of processor time."""

    file_size: int
    cpu: int = 24 * 3600
    # The client needs 100 bytes per listed file and its buffers; a gigabyte is plenty.
    memory: int = 4 << 30
    files: int = 256


class Sandbox(Protocol):
    """Wraps an argument vector; pure."""

    kind: str

    def wrap(self, argv: Sequence[str], incoming: Path, limits: Limits) -> list[str]:
        """`argv` run so that only `incoming` (absolute) can be written; file descriptors passed on stay open."""
        ...


class Bubblewrap:
    """Namespaces by bwrap: an empty root with the system's programs read-only, and the incoming directory.

    It gets no session of its own: whoever starts it made one, and ends all of it by its process group.
    """

    kind = "bubblewrap"

    def wrap(self, argv: Sequence[str], incoming: Path, limits: Limits) -> list[str]:
        """See Sandbox."""
        bwrap = [
            "bwrap",
            "--unshare-all",
            "--die-with-parent",
            # Where the collector is root it would be root of its namespaces, and mount what it likes.
            "--cap-drop",
            "ALL",
            "--clearenv",
            "--setenv",
            "LC_ALL",
            "C",
        ]
        bwrap += ["--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin"]
        for directory in (*SYSTEM_DIRECTORIES, *interpreter()):
            bwrap += ["--ro-bind-try", directory, directory]
        bwrap += ["--dev", "/dev", "--bind", str(incoming), str(incoming)]
        # Both are in memory, up to half of it each.
        bwrap += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", str(incoming), "--"]
        return [*prlimit(limits), *bwrap, *argv]


class Landlock:
    """The kernel's Landlock, with a filter that refuses sockets; for machines that forbid user namespaces."""

    kind = "landlock"

    def wrap(self, argv: Sequence[str], incoming: Path, limits: Limits) -> list[str]:
        """See Sandbox."""
        readable = [path for path in (*SYSTEM_DIRECTORIES, *interpreter(), "/dev/null") if Path(path).exists()]
        launcher = [python(), "-IS", str(LAUNCHER), str(incoming), *readable, "--"]
        return [*prlimit(limits), *launcher, *argv]


class Unconfined:
    """No sandbox: only with `sandbox = "off"`."""

    kind = "off"

    def wrap(self, argv: Sequence[str], incoming: Path, limits: Limits) -> list[str]:  # noqa: ARG002
        """See Sandbox."""
        return [*prlimit(limits), *argv]


def interpreter() -> tuple[str, ...]:
    """Directories outside the system's that the bridge needs: the interpreter's installation and the bridge itself."""
    wanted = [str(Path(sys.base_prefix).resolve()), str(LAUNCHER.parent)]
    return tuple(path for path in wanted if not path.startswith("/usr/"))


def prlimit(limits: Limits) -> list[str]:
    """Prefix that sets resource limits (util-linux), so that no code runs between fork and exec."""
    return [
        "prlimit",
        f"--fsize={limits.file_size}",
        f"--cpu={limits.cpu}",
        f"--as={limits.memory}",
        f"--nofile={limits.files}",
        "--core=0",
        "--",
    ]


def choose(mode: Literal["require", "off"], rsync: str = "rsync") -> Sandbox:
    """The first sandbox in which a real rsync copies a file, and cannot write beside its directory.

    Raises SandboxUnavailable with what each of them said and the remedy.
    """
    if mode == "off":
        return Unconfined()
    complaints = []
    for sandbox in (Bubblewrap(), Landlock()):
        complaint = _try(sandbox, rsync)
        if complaint is None:
            return sandbox
        complaints.append(f"{sandbox.kind}: {complaint}")
    raise SandboxUnavailable(
        "rsync cannot be run in a sandbox here: " + "; ".join(complaints),
        "install bubblewrap (apt install bubblewrap or dnf install bubblewrap) and allow user namespaces; on Ubuntu "
        "24.04 add an AppArmor profile for bwrap; a kernel from 6.7 on with Landlock works too",
    )


def _try(sandbox: Sandbox, rsync: str) -> str | None:
    with tempfile.TemporaryDirectory(prefix="pyrsyncbackup-sandbox-") as name:
        top = Path(name).resolve()
        incoming = top / "incoming"
        incoming.mkdir(mode=0o700)
        (incoming / "a").write_bytes(b"probe")
        outside = top / "outside"
        limits = Limits(file_size=1 << 20)
        inside = _run(sandbox.wrap([rsync, *REQUIRED, str(incoming / "a"), str(incoming / "b")], incoming, limits))
        if inside is not None or (incoming / "b").read_bytes() != b"probe":
            return inside or "rsync copied nothing"
        _run(sandbox.wrap([rsync, *REQUIRED, str(incoming / "a"), str(outside)], incoming, limits))
        if outside.exists():
            return "rsync could write outside its directory"
        return _run(sandbox.wrap([python(), "-IS", "-c", _NO_NETWORK], incoming, limits))


# Ends with 0 only if nothing but an own, empty network can be reached: a datagram to loopback must fail.
_NO_NETWORK = """
import socket
try:
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    s.settimeout(2)
    s.connect(("192.0.2.1", 9))
except PermissionError:
    raise SystemExit(0)
except OSError as e:
    import errno
    raise SystemExit(0 if e.errno in (errno.ENETUNREACH, errno.ENETDOWN) else f"the network is there: {e}")
raise SystemExit("the network is there")
"""


def _run(argv: list[str]) -> str | None:
    """None if it ended with 0, else its last words."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    words = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return words[-1] if words else f"exit code {done.returncode}"
