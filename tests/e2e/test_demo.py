"""`make demo` plays to its end, and leaves nothing behind, also when it is stopped in the middle."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.orphans import knowing
from tests.support.waiting import until

DEMO = Path(__file__).parents[2] / "packaging" / "demo" / "demo.py"

pytestmark = [
    pytest.mark.skipif(
        not shutil.which("sshd", path="/usr/sbin:" + os.environ["PATH"]) or not shutil.which("rsync"),
        reason="needs sshd and rsync",
    ),
    # It pulls what is really on this machine, all of its modules.
    pytest.mark.timeout(600),
]


def start(tmp_path) -> subprocess.Popen[str]:
    with (tmp_path / "shown").open("w") as shown:
        return subprocess.Popen(
            [sys.executable, DEMO], stdout=shown, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
        )


def folder_of(tmp_path) -> Path:
    return Path(re.search(r"lives in (\S+)", (tmp_path / "shown").read_text())[1])


def test_the_demo_ends_well_and_leaves_nothing(tmp_path):
    demo = start(tmp_path)
    assert demo.wait(500) == 0, (tmp_path / "shown").read_text()
    shown = (tmp_path / "shown").read_text()
    for part in ("pinned, proven by the invitation", "all is well", "-<p>Open from 9 to 17.</p>", "That was it"):
        assert part in shown
    folder = folder_of(tmp_path)
    assert not folder.exists()
    until(lambda: not knowing(folder), what="the end of all that it started")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_leaves_nothing_either(tmp_path, number):
    demo = start(tmp_path)
    try:
        until(lambda: "$ pyrsyncbackup daemon" in (tmp_path / "shown").read_text(), 300, "the daemon's step")
    finally:
        demo.send_signal(number)
    assert demo.wait(200) == 130
    folder = folder_of(tmp_path)
    assert not folder.exists()
    until(lambda: not knowing(folder), what="the end of all that it started")
