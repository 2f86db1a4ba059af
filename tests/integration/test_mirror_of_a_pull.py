"""`mirror = true` with real pulls, by the command and what it records."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.store.store import Store

from tests.support.world import World

pytestmark = pytest.mark.skipif(
    not shutil.which("sshd", path="/usr/sbin:" + os.environ["PATH"]) or not shutil.which("rsync"),
    reason="needs sshd and rsync",
)


@pytest.fixture
def world():
    with tempfile.TemporaryDirectory(prefix="w-", dir="/tmp") as folder:
        world = World(Path(folder))
        try:
            world.make_host()
            (world.site / "index.html").write_text("hello\n")
            (world.site / "gone").write_text("gone\n")
            world.start_host()
            world.make_collector('modules = { include = ["site"] }')
            yield world
        finally:
            world.close()


def runs(world) -> list[tuple[str, str]]:
    """Outcome and error of each run of a mirror, the first one first."""
    with (
        Store.open(world.collector / "store") as store,
        Catalog.open(world.collector / "catalog.sqlite", store.id) as catalog,
    ):
        found = catalog.runs(host="web1", module="site", kind="mirror")
    return [(run.outcome, run.failure.type if run.failure else "") for run in reversed(found)]


def problem(world):
    """What `status` says of the mirror, if anything."""
    found = [each for each in world.ask("status", codes=(0, 14))["problems"] if "mirror" in each["cause"]]
    assert len(found) < 2
    return found[0] if found else None


def test_a_mirror_follows_the_pulls_and_its_failure_is_no_failure_of_theirs(world):
    world.make_trust()
    world.config.write_text(world.config.read_text().replace("[policy]\n", "[policy]\nmirror = true\n"))
    mirror = world.collector / "store-mirror"
    tree = mirror / "web1" / "site" / str(world.site).lstrip("/")

    world.run("pull", "web1")
    assert (tree / "index.html").read_text() == "hello\n"

    (world.site / "index.html").write_text("hello, moon\n")
    (world.site / "gone").unlink()
    world.run("pull", "web1")
    assert {path.name: path.read_text() for path in tree.iterdir()} == {"index.html": "hello, moon\n"}

    shutil.rmtree(mirror)
    mirror.write_text("in the way")
    (world.site / "index.html").write_text("hello, sun, and a longer line\n")
    pulled = world.ask("pull", "web1")["pulls"]
    assert [each["outcome"] for each in pulled] == ["complete"]
    assert runs(world)[-1] == ("failed", "RestoreError")
    behind = problem(world)
    assert (behind["host"], behind["module"], behind["state"]) == ("web1", "site", "failing")
    assert behind["cause"].startswith(f"its mirror is behind: the mirror {mirror}/web1 cannot be made")
    assert behind["hint"].endswith("`pyrsyncbackup pull web1/site` brings the mirror up to date")
    since = behind["since"]
    world.run("pull", "web1")
    assert problem(world)["since"] == since, "since the first failure"
    config = world.config.read_text()
    world.config.write_text(config.replace("mirror = true\n", ""))
    assert problem(world) is None, "nobody wants it any more"
    world.config.write_text(config)
    mirror.unlink()

    # Nothing changed since, and yet the mirror is behind.
    world.run("pull", "web1")
    assert (tree / "index.html").read_text() == "hello, sun, and a longer line\n"
    assert [outcome for outcome, _ in runs(world)] == ["complete", "complete", "failed", "failed", "complete"]
    assert problem(world) is None


def test_a_content_that_a_mirror_lacks_is_in_status_until_it_has_it(world):
    world.make_trust()
    world.config.write_text(world.config.read_text().replace("[policy]\n", "[policy]\nmirror = true\n"))
    world.run("pull", "web1")
    digest = hashlib.sha256(b"hello\n").hexdigest()
    place = world.collector / "store" / "objects" / digest[:2] / digest[2:]
    # A collector that is killed after the tree was whole and before that is in the catalog leaves this.
    with (
        Store.open(world.collector / "store") as store,
        Catalog.open(world.collector / "catalog.sqlite", store.id) as catalog,
    ):
        catalog.run_begin("web1", "site", kind="mirror")
        catalog.recover()
    assert problem(world)["cause"].startswith("its mirror is behind: interrupted")
    world.run("pull", "web1")
    assert problem(world) is None

    shutil.rmtree(world.collector / "store-mirror")
    place.rename(world.collector / "away")
    world.run("pull", "web1")
    lacks = problem(world)
    assert lacks["state"] == "partial"
    assert "no sound content in the store" in lacks["cause"]
    assert "index.html" in lacks["cause"]
    (world.collector / "away").rename(place)
    world.run("pull", "web1")
    assert problem(world) is None
    assert (world.collector / "store-mirror/web1/site" / str(world.site).lstrip("/") / "index.html").exists()
