"""Mounts a store as an ordinary user, in a mount namespace of its own, and prints what that user sees.

As root, in a namespace that is not the machine's: `unshare --mount python -m tests.support.mount_child TOP CONFIG UID`.
Everything is imported before the user is changed: he may not be able to read where it lies.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
import zoneinfo  # noqa: F401 - loaded while we may
from pathlib import Path

import mfusepy  # noqa: F401
from pyrsyncbackup_collector import cli
from pyrsyncbackup_collector.cli import commands, mount  # noqa: F401
from pyrsyncbackup_collector.mount import filesystem  # noqa: F401

from tests.support.waiting import until


def open_fuse(folder: Path) -> None:
    """Let every user mount, as distributions do and containers may not."""
    device = folder / "fuse"
    os.mknod(device, stat.S_IFCHR | 0o666, os.stat("/dev/fuse").st_rdev)
    device.chmod(0o666)
    subprocess.run(["mount", "--bind", device, "/dev/fuse"], check=True)


def main() -> None:
    """Mount, look, unmount."""
    top, config, user = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    open_fuse(top.parent)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    mounting = os.fork()
    if not mounting:
        os._exit(cli.run(["--config", config, "mount", str(top)]))
    ended = threading.Event()

    def wait() -> None:
        nonlocal code
        code = os.waitstatus_to_exitcode(os.waitpid(mounting, 0)[1])
        ended.set()

    code = -1
    threading.Thread(target=wait, daemon=True).start()
    until(lambda: top.is_mount() or ended.is_set(), what="it to be mounted")
    found = {}
    if top.is_mount():
        for path in sorted(top.rglob("*")):
            if path.is_file() and "latest" not in path.parts:
                found["/".join(path.relative_to(top).parts[3:])] = path.read_text()
        subprocess.run(["fusermount3", "-u", top], check=True)
    ended.wait(60)
    print(json.dumps({"code": code, "files": found}))


main()
