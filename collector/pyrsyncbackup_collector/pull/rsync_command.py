"""The argument vectors of the rsync client, as pure values.

For a pull it fetches exactly the names of a list into an empty directory. What matters is left out: no owner, mode,
time, link or device option, so that nothing but regular files with mode 600 can arrive; metadata comes with the
listing.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

# The name of the one module in the configuration that the agent makes for a transfer.
REMOTE_MODULE = "m"

BRIDGE = Path(__file__).with_name("bridge.py")


# From rsync 3.2.5 on. The client's own check of the names that it gets rejects honest ones with a backslash before a
# wildcard, and ends the run. The sandbox and the look at what arrived stand in for it.
REQUIRED = ("--trust-sender",)


@dataclass(frozen=True, slots=True)
class Fetch:
    """One run of the client: the names in `list_file` (NUL-separated, relative to the root) into `destination`."""

    list_file: Path
    destination: Path
    sparse: bool = False
    compress: bool = False
    timeout: int = 600


def client(fetch: Fetch, bridge_fd: int, rsync: str = "rsync") -> list[str]:
    """Argv of the client; it starts the bridge, which hands rsync's end of the connection over `bridge_fd`.

    `-I` compares nothing by size and time, so that a basis laid into the destination is always used as such. `-S` keeps
    holes, and writes in pieces of 1 kB: it is for files that have some. Without `--no-implied-dirs` rsync 3.5.0 looks
    at every directory above every name again, which costs five times as much for 2,000 small files. `--blocking-io`
    leaves the passed descriptors blocking.
    """
    argv = [
        rsync,
        "--files-from=" + str(fetch.list_file),
        "--from0",
        "--no-implied-dirs",
        "-I",
        "--chmod=D700,F600",
        "--blocking-io",
        "--no-motd",
        *REQUIRED,
        f"--timeout={fetch.timeout}",
        "-e",
        bridge(bridge_fd),
    ]
    if fetch.sparse:
        argv.append("-S")
    if fetch.compress:
        argv += ["-z", "--compress-choice=zstd"]
    return [*argv, f"x::{REMOTE_MODULE}/", str(fetch.destination) + "/"]


def sender(source: Path, bridge_fd: int) -> list[str]:
    """Argv of the client that sends all in `source` to the agent's daemon, but for what an earlier run brought there.

    Owners are left out: neither side is root. So are devices and set-id bits. Without the window links that are made in
    the second that they are from would keep the nanoseconds of now.
    """
    return [
        "rsync",
        "-rlptHSAX",
        "--specials",
        "--modify-window=-1",
        "--numeric-ids",
        "--chmod=ug-s",
        "--blocking-io",
        "--no-motd",
        "--timeout=600",
        "-e",
        bridge(bridge_fd),
        f"{source}/",
        f"x::{REMOTE_MODULE}/",
    ]


def bridge(fd: int) -> str:
    """The command that rsync runs in place of ssh; rsync splits it at blanks, which must not occur in the paths."""
    return f"{python()} -IS {BRIDGE} {fd}"


def python() -> str:
    """The interpreter itself, not the link in a virtual environment: the sandbox holds its installation only."""
    return str(Path(sys.executable).resolve())
