"""The configuration of one rsync daemon, by value; how it serves is tested with real clients."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from pyrsyncbackup_agent import rsyncd
from pyrsyncbackup_agent.errors import RsyncFailed
from pyrsyncbackup_agent.modules import Root
from pyrsyncbackup_agent.patterns import Rules

from tests.support.descriptors import opened


def test_the_configuration_serves_one_root_read_only_and_refuses_what_is_not_needed() -> None:
    lines = rsyncd.configuration(7, 8, 1000).splitlines()
    assert {"use chroot = no", "munge symlinks = no", "read only = yes", "list = no"} < {*lines}
    assert lines[-3:] == ["[m]", "path = /proc/self/fd/7", "filter = merge /proc/self/fd/8"]
    refuse = next(line for line in lines if line.startswith("refuse options = "))
    assert refuse.startswith("refuse options = * !")
    assert "copy-links" not in refuse
    assert not any(line.startswith(("uid", "gid")) for line in lines)


def test_only_root_names_a_user() -> None:
    lines = rsyncd.configuration(7, 8, 0).splitlines()
    assert lines.index("uid = 0") < lines.index("[m]")
    assert "gid = 0" in lines


def test_a_missing_rsync_or_root_is_told_and_leaves_nothing_open(tmp_path: Path) -> None:
    before = opened()
    root = Root(1, os.fsencode(tmp_path)[1:])
    with pytest.raises(RsyncFailed, match="no-such-rsync cannot be started"):
        rsyncd.serve("no-such-rsync", root, Rules(), tmp_path / "one")
    with pytest.raises(RsyncFailed, match="the root cannot be opened: it is gone"):
        rsyncd.serve("rsync", Root(1, b"no/such/root"), Rules(), tmp_path / "two")
    assert opened() <= before


def test_a_daemon_greets_ends_with_its_input_and_is_reaped(tmp_path: Path) -> None:
    daemon = rsyncd.serve("rsync", Root(1, os.fsencode(tmp_path)[1:]), Rules(), tmp_path / "run")
    assert daemon.receive().startswith(b"@RSYNCD: ")
    daemon.end_of_input()
    while daemon.receive():
        pass
    ended = daemon.close(10)
    assert daemon.close(0).code == ended.code
    assert not Path(f"/proc/{daemon.pid}").exists()


def test_killing_a_daemon_wakes_its_reader(tmp_path: Path) -> None:
    daemon = rsyncd.serve("rsync", Root(1, os.fsencode(tmp_path)[1:]), Rules(), tmp_path / "run")
    daemon.receive()
    killer = threading.Thread(target=daemon.kill)
    killer.start()
    assert daemon.receive() == b""
    killer.join()
    assert daemon.close(10).code != 0
