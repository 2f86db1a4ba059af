"""Compares two trees with programs that know nothing of this project."""

from __future__ import annotations

import subprocess
from pathlib import Path


def as_rsync_sees(source: Path, copy: Path) -> str:
    """What rsync would do to make `copy` equal, by content and all metadata it knows; nothing if it is."""
    command = ["rsync", "-n", "-c", "-i", "-aHAX", "--delete", "--modify-window=-1", f"{source}/", f"{copy}/"]
    return subprocess.run(command, capture_output=True, text=True, check=True, errors="replace").stdout


def as_mtree(root: Path) -> str:
    """What bsdtar sees: nanoseconds, devices and sockets included."""
    options = "--options=!all,type,mode,uid,gid,time,link,size,device,nlink,sha256"
    command = ["bsdtar", "-cf", "-", "--format=mtree", options, "-C", str(root), "."]
    lines = subprocess.run(command, capture_output=True, text=True, check=True, errors="replace").stdout.splitlines()
    return "\n".join(sorted(line for line in lines if not line.startswith("#")))
