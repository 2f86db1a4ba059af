"""Everything that a backup gets wrong, from an agent into a store and back, compared by programs that know neither."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.pull.report import Outcome
from pyrsyncbackup_collector.store.restore import restore

from tests.support import tree, zoo
from tests.support.agent import RunningAgent
from tests.support.comparison import as_mtree, as_rsync_sees
from tests.support.puller import Puller

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners, devices and capabilities need root")


@pytest.fixture
def puller(tmp_path: Path) -> Iterator[tuple[Puller, RunningAgent]]:
    agent = RunningAgent(tmp_path / "agent")
    puller = Puller(tmp_path / "collector", agent.collector)
    yield puller, agent
    puller.close()
    agent.stop()


def test_a_zoo_survives_the_whole_way(puller: tuple[Puller, RunningAgent], tmp_path: Path) -> None:
    collector, agent = puller
    source = tmp_path / "host" / "zoo"
    source.parent.mkdir()
    zoo.build(source)
    agent.module("zoo", source)
    agent.start()

    with contextlib.closing(collector.client(agent.address, agent.certificate_pem)) as client:
        report = collector.pull(client, "zoo")
    assert (report.outcome, report.problems) == (Outcome.COMPLETE, ())
    store = collector.store
    snapshot = store.snapshots("web1", "zoo")[-1]
    with store.reading(snapshot):
        restored = restore(
            store.entries(snapshot),
            store.objects,
            tmp_path / "restored",
            paths=[os.fsencode(source)],
            special=True,
        )

    assert restored.lines() == []
    result = tmp_path / "restored" / source.relative_to("/")
    assert as_rsync_sees(source, result) == ""
    assert as_mtree(source) == as_mtree(result)
    expected = tree.comparable(tree.read(source, tree.Contents()))
    assert tree.comparable(tree.read(result, tree.Contents())) == expected
