"""A catalog that was put back from a copy, beside a store that went on: never does it cost a content."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.catalog.rebuild import rebuild
from pyrsyncbackup_collector.errors import CatalogMismatch
from pyrsyncbackup_collector.store.garbage import Collector, Pace
from pyrsyncbackup_collector.store.store import Store

from tests.support.estate import Content, Estate

LARGE = 1 << 20
FIRST, SECOND = Content(b"first"), Content(b"second")


@pytest.fixture
def estate(tmp_path: Path) -> Iterator[Estate]:
    made = Estate(tmp_path, large=LARGE)
    yield made
    made.close()


def collect(estate: Estate) -> int:
    """What is unnamed is marked by one collection, and goes in the next; how many went."""
    return estate.collect(0).objects + estate.collect(0).objects


def put_back(estate: Estate, since: Callable[[], object]) -> Catalog:
    """The catalog as it was before `since`."""
    copy = estate.catalog_path.with_name("copy")
    estate.catalog.close()
    shutil.copy(estate.catalog_path, copy)
    estate.catalog = Catalog.open(estate.catalog_path, estate.store.id)
    since()
    estate.catalog.close()
    shutil.copy(copy, estate.catalog_path)
    estate.catalog = Catalog.open(estate.catalog_path, estate.store.id)
    return estate.catalog


def test_a_catalog_that_takes_for_known_what_was_collected_since_is_refused(estate: Estate) -> None:
    estate.pull("web1", "etc", {b"f": FIRST})
    estate.pull("web1", "etc", {b"f": SECOND})
    estate.prune("web1", "etc", 1)
    old = put_back(estate, lambda: collect(estate))
    # It would grant what is no more, to its own host.
    with pytest.raises(CatalogMismatch, match="one of them is an older copy, contents were removed since"):
        old.check_against(estate.store)
    old.close()
    estate.catalog = rebuild(estate.catalog_path, estate.store).catalog
    assert estate.catalog.check_against(estate.store) == []
    collect(estate)
    assert estate.catalog.check_against(estate.store) == []


def test_a_copy_that_was_made_in_the_middle_of_a_collection_is_old_at_its_end(estate: Estate, tmp_path: Path) -> None:
    for number in range(3):
        estate.pull("web1", "etc", {b"f": Content(b"%d" % number)})
    estate.prune("web1", "etc", 1, 2)
    copy = tmp_path / "copy"

    def tell(phase: str, *_: int) -> None:
        if phase == "freeing" and not copy.exists():
            with estate.catalog._database.writing() as raw:
                raw.execute("SELECT 1")
            shutil.copy(estate.catalog_path, copy)
            shutil.copy(f"{estate.catalog_path}-wal", f"{copy}-wal")

    estate.collect()
    Collector(estate.store.objects, estate.catalog, Pace(0, estate.clock, lambda _: None), 0, tell).run()
    with Catalog.open(copy, estate.store.id) as old, pytest.raises(CatalogMismatch):
        old.difference(estate.store)
    assert estate.catalog.check_against(estate.store) == []


@pytest.mark.parametrize("written", [False, True], ids=["before the store's mark", "after it"])
def test_a_collection_that_is_killed_leaves_catalog_and_store_together(
    estate: Estate, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    estate.pull("web1", "etc", {b"f": FIRST})
    estate.pull("web1", "etc", {b"f": SECOND})
    estate.prune("web1", "etc", 1)
    assert collect(estate) == 1
    estate.pull("web1", "etc", {b"f": FIRST})
    estate.prune("web1", "etc", 2)
    replace = Path.replace

    def killed(path: Path, target: Path) -> None:
        if written:
            replace(path, target)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            collect(estate)
    assert estate.catalog.check_against(estate.store) == []
    assert collect(estate) == 1
    assert estate.catalog.check_against(estate.store) == []


def test_chunks_of_a_snapshot_that_an_old_catalog_lacks_are_not_taken_for_garbage(estate: Estate) -> None:
    estate.pull("web1", "etc", {b"f": FIRST})
    large = Content(os.urandom(4 * LARGE))
    old = put_back(estate, lambda: estate.pull("web1", "etc", {b"large": large}))
    with pytest.raises(CatalogMismatch, match=r"does not know the chunks of what 000002-.* of web1/etc holds"):
        old.check_against(estate.store)
    with pytest.raises(CatalogMismatch, match="does not know the chunks"):
        old.catch_up(estate.store, "web1", "etc")
    old.close()
    estate.catalog = rebuild(estate.catalog_path, estate.store).catalog
    collect(estate)
    newest = estate.store.newest("web1", "etc")
    assert newest is not None
    entries = {entry.path: entry for entry in estate.store.entries(newest)}
    assert estate.store.objects.read_entry(entries[b"large"]) == large.data


def test_a_store_that_nothing_was_ever_removed_from_has_no_mark(estate: Estate) -> None:
    estate.pull("web1", "etc", {b"f": FIRST})
    collect(estate)
    with Store.open(estate.store.path) as store:
        assert store.removals() == ""
