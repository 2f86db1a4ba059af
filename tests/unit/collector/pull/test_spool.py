"""A spool gives back what was put in, in order, as often as asked."""

from pathlib import Path

import pytest
from pyrsyncbackup_collector.pull import spool as spool_module
from pyrsyncbackup_collector.pull.spool import BLOCK, Spool
from pyrsyncbackup_collector.store.snapshot import Change


@pytest.mark.parametrize("count", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
def test_values_come_back_in_order_and_more_than_once(tmp_path: Path, count):
    spool = Spool(Change, tmp_path)
    values = [Change(b"%d\xff" % number, None) for number in range(count)]
    for value in values:
        spool.append(value)
    assert len(spool) == count
    assert list(spool) == values
    assert list(spool) == values
    spool.append(Change(b"later", None))
    assert list(spool) == [*values, Change(b"later", None)]
    spool.close()


def test_what_does_not_fit_in_memory_goes_to_a_file_without_a_name(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(spool_module, "IN_MEMORY", 1000)
    spool = Spool(Change, tmp_path)
    for number in range(2 * BLOCK):
        spool.append(Change(b"path %d" % number, None))
    assert [change.path for change in spool] == [b"path %d" % number for number in range(2 * BLOCK)]
    assert list(tmp_path.iterdir()) == []
    spool.close()
