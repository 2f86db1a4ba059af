"""Which of the sandboxes work on this machine; in a chroot or a container, user namespaces are often not allowed."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest
from pyrsyncbackup_collector.pull.sandbox import Bubblewrap, Landlock, Limits, Sandbox, Unconfined, choose


@cache
def chosen() -> Sandbox:
    """The sandbox that the daemon would take here."""
    return choose("require")


def need(sandbox: Sandbox) -> None:
    """Skip the test, with the sandbox's own words, where it cannot even start `true`."""
    complaint = _complaint(sandbox.kind)
    if complaint:
        pytest.skip(f"{sandbox.kind} does not work on this machine: {complaint}")


_KINDS: dict[str, Sandbox] = {sandbox.kind: sandbox for sandbox in (Bubblewrap(), Landlock(), Unconfined())}


@cache
def _complaint(kind: str) -> str:
    with tempfile.TemporaryDirectory() as directory:
        argv = _KINDS[kind].wrap(["true"], Path(directory), Limits(file_size=1 << 20))
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    return done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}" if done.returncode else ""
