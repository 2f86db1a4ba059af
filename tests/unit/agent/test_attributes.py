"""What belongs to an entry, when its name is something else by the time it is read."""

import os

from pyrsyncbackup_agent.entries.attributes import Attributes
from pyrsyncbackup_agent.entries.entry import REPLACED


def test_a_link_that_is_none_any_more_was_replaced(tmp_path):
    name = tmp_path / "a"
    name.symlink_to("elsewhere")
    status = name.lstat()
    name.unlink()
    name.mkdir()
    place = os.fsencode(name)
    entry = Attributes().entry(b"a", status, place, root=1, public=False, now=status.st_ctime_ns)
    assert (entry.problem, entry.target) == (REPLACED, b"")
