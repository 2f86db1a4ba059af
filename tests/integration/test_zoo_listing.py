"""What the agent lists of the zoo is what somebody else reads there, and what restore can bring back."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from pyrsyncbackup_agent.entries import Attributes, Tree, Walk
from pyrsyncbackup_agent.entries import Entry as Listed
from pyrsyncbackup_agent.modules import Root
from pyrsyncbackup_agent.patterns import Rules
from pyrsyncbackup_collector import entry

from tests.support import tree, zoo


def _values(listed: Listed, prefix: bytes) -> dict[str, object]:
    status = listed.stat
    assert status is not None
    assert listed.problem is None
    kind = stat.S_IFMT(status.st_mode)
    return {
        "path": listed.path.removeprefix(prefix),
        "kind": kind,
        "mode": stat.S_IMODE(status.st_mode),
        "owner": (status.st_uid, status.st_gid),
        "mtime": divmod(status.st_mtime_ns, 1_000_000_000),
        "size": status.st_size if kind == stat.S_IFREG else 0,
        "rdev": (os.major(status.st_rdev), os.minor(status.st_rdev)),
        "target": listed.target,
        "link_to": listed.link_to.removeprefix(prefix),
        "xattrs": dict(listed.xattrs),
    }


def _expected(read: entry.Entry) -> dict[str, object]:
    return {
        "path": read.path,
        "kind": next(mode for mode, name in tree.TYPES.items() if name == read.type),
        "mode": read.mode,
        "owner": (read.uid, read.gid),
        "mtime": (read.mtime_s, read.mtime_ns),
        "size": read.size,
        "rdev": read.rdev,
        "target": read.target,
        "link_to": read.link_to,
        "xattrs": {entry.attribute_name(name): value for name, value in read.xattrs.items()},
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="files of mode 000 and devices need root")
def test_the_agent_lists_a_zoo_as_it_is(tmp_path: Path) -> None:
    zoo.build(tmp_path / "zoo")
    prefix = os.fsencode(tmp_path.resolve())[1:] + b"/"
    walk = Walk(Tree([Root(1, prefix + b"zoo")], Rules((), ())), Attributes())

    listed = [_values(each, prefix) for each in walk if each.root]

    expected = [_expected(each) for each in tree.read(tmp_path, tree.Contents())]
    assert [each["path"] for each in listed] == [each["path"] for each in expected]
    assert [(a, b) for a, b in zip(listed, expected, strict=True) if a != b] == []
