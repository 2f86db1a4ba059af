"""What makes a restore that arrived complete: links, what is ours, and its name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.anybody import open_directory

CODE = """
import os, sys
from pathlib import Path
from typing import cast
from pyrsyncbackup_agent.restores import Receiving
from pyrsyncbackup_agent.rsyncd import Daemon

if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
parent = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
exec(sys.stdin.read())
print(Receiving(cast(Daemon, None), Path(sys.argv[1]) / "one", parent).finish())
"""
MUNGED = "/rsyncd-munged/"


def finish(folder: Path, prepare: str) -> Path:
    """Make a restore complete that `prepare` made in the directory `here`, as a user who is not root."""
    place = open_directory(folder / "restore")
    text = f"here = Path(sys.argv[1]) / 'one.partial'\nhere.mkdir()\nos.chdir(here)\n{prepare}\nos.chdir('/')\n"
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(place)], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def test_links_get_their_targets_also_where_their_owner_may_not_write(tmp_path: Path) -> None:
    prepare = f"""
os.mkdir("shut")
os.symlink("{MUNGED}/etc/shadow", "shut/away")
os.symlink("plain", "shut/own")
os.utime("shut/away", ns=(5, 1_600_000_000_000_000_007), follow_symlinks=False)
os.chmod("shut", 0o555)
os.utime("shut", ns=(5, 1_500_000_000_000_000_003))
"""
    place = finish(tmp_path, prepare)
    assert place.name == "one"
    assert os.readlink(place / "shut" / "away") == "/etc/shadow"
    assert os.readlink(place / "shut" / "own") == "plain"
    assert (place / "shut" / "away").lstat().st_mtime_ns == 1_600_000_000_000_000_007
    status = (place / "shut").stat()
    assert (status.st_mode & 0o7777, status.st_mtime_ns) == (0o555, 1_500_000_000_000_000_003)


def test_what_is_ours_goes_and_what_only_looks_so_stays(tmp_path: Path) -> None:
    prepare = """
os.mkdir(".pyrsyncbackup-push-0123456789abcdef")
Path(".pyrsyncbackup-push-0123456789abcdef/a.XyZ123").write_text("half")
os.symlink("x", ".pyrsyncbackup-push-fedcba9876543210")
Path(".a.XyZ123").write_text("mine")
"""
    place = finish(tmp_path, prepare)
    assert [path.name for path in place.iterdir()] == [".a.XyZ123"]


def test_no_tree_is_too_deep(tmp_path: Path) -> None:
    prepare = f"""
for _ in range(1500):
    os.mkdir("d")
    os.chdir("d")
os.symlink("{MUNGED}x", "link")
"""
    try:
        fd = os.open(finish(tmp_path, prepare), os.O_RDONLY)
        for _ in range(1500):
            inner = os.open("d", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = inner
        assert os.readlink("link", dir_fd=fd) == "x"
        os.close(fd)
    finally:
        # What clears the directories of tests is no friend of depth.
        subprocess.run(["rm", "-rf", str(tmp_path / "restore")], check=True)
