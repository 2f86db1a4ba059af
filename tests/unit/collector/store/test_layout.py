"""Removing what is not needed any more, whatever it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pyrsyncbackup_collector.store.layout import remove_tree

from tests.support.anybody import open_directory

# As a user whom modes bind.
CODE = """
import os, sys
from pathlib import Path
from pyrsyncbackup_collector.store.layout import remove_tree
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
top = Path(sys.argv[1]) / "tree"
(top / "shut" / "within").mkdir(parents=True)
(top / "shut" / "within" / "file").write_text("x")
(top / "shut" / "link").symlink_to(sys.argv[1])
(top / "shut" / "within").chmod(0)
(top / "shut").chmod(0o555)
remove_tree(top)
"""


def test_a_tree_deeper_than_any_path_goes(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("tree", dir_fd=fd)
        inner = os.open("tree", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    try:
        remove_tree(tmp_path / "tree")
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "tree")], check=True)


def test_modes_do_not_keep_it(tmp_path: Path) -> None:
    place = open_directory(tmp_path / "open")
    done = subprocess.run([sys.executable, "-c", CODE, str(place)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert list(place.iterdir()) == []


def test_no_link_is_followed_and_nothing_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    for name in ("tree", "link", "nowhere"):
        remove_tree(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (tmp_path / "kept" / "file").read_text() == "x"
