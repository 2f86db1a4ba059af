"""What pulls need of the catalog: who may claim what, pins, commits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import CatalogError, CatalogMismatch
from pyrsyncbackup_collector.pull.ledger import Ledger, ModuleMemory
from pyrsyncbackup_collector.store.snapshot import Change

from tests.support.snapshots import change, digest, memory, snapshot, stored


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog.create(tmp_path / "catalog.sqlite", "store-1") as made:
        yield made


def rows(catalog: Catalog, sql: str) -> list[tuple[object, ...]]:
    with catalog._database.reading() as raw:
        return raw.execute(sql).fetchall()


def test_it_is_a_ledger(catalog: Catalog) -> None:
    ledger: Ledger = catalog
    assert ledger.memory("web1", "nginx") is None


@pytest.mark.parametrize(
    ("host", "sent_public", "public_here", "share", "granted"),
    [
        ("web1", False, False, True, True),  # sent by this host itself
        ("web1", False, False, False, True),
        ("web2", True, True, True, True),  # public there and here
        ("web2", True, False, True, False),  # not public here
        ("web2", False, True, True, False),  # not public where it came from
        ("web2", True, True, False, False),  # sharing is off
    ],
)
def test_a_content_is_claimable_by_its_sender_or_where_public_on_both_sides(
    catalog: Catalog, host: str, sent_public: bool, public_here: bool, share: bool, granted: bool
) -> None:
    catalog.record_objects("p0", "web1", [stored("secret", public=sent_public)])
    catalog.unpin("p0")
    expected = {digest("secret")} if granted else set()
    assert catalog.pin_claimable("p1", host, [(digest("secret"), public_here)], share=share) == expected
    assert rows(catalog, "SELECT pull, hex(sha256) FROM pins") == [("p1", d.upper()) for d in expected]


def test_a_digest_nobody_sent_is_not_claimable(catalog: Catalog) -> None:
    catalog.record_objects("p0", "web1", [stored("a")])
    assert catalog.pin_claimable("p1", "web1", [(digest("b"), True)], share=True) == set()


def test_claiming_is_not_sending(catalog: Catalog) -> None:
    catalog.record_objects("p0", "web1", [stored("a")])
    assert catalog.pin_claimable("p1", "web2", [(digest("a"), True)], share=True)
    assert not catalog.pin_claimable("p1", "web2", [(digest("a"), False)], share=True)


def test_two_claims_of_a_digest_count_as_the_less_public_one(catalog: Catalog) -> None:
    catalog.record_objects("p0", "web1", [stored("a")])
    assert not catalog.pin_claimable("p1", "web2", [(digest("a"), False), (digest("a"), True)], share=True)


def test_a_content_becomes_public_when_one_sender_has_it_public_and_stays_so(catalog: Catalog) -> None:
    catalog.record_objects("p0", "web1", [stored("a", public=False)])
    catalog.record_objects("p0", "web2", [stored("a", public=True)])
    catalog.record_objects("p0", "web1", [stored("a", public=False)])
    assert catalog.pin_claimable("p1", "web3", [(digest("a"), True)], share=True)


def test_claimable_sizes_follow_the_same_rule(catalog: Catalog) -> None:
    catalog.record_objects("p0", "web1", [stored("1"), stored("22", public=False)])
    catalog.record_objects("p0", "web2", [stored("333", public=False)])
    sizes = {1, 2, 3, 4}
    assert catalog.claimable_sizes("web1", sizes, share=True) == {1, 2}
    assert catalog.claimable_sizes("web2", sizes, share=True) == {1, 3}
    assert catalog.claimable_sizes("web2", sizes, share=False) == {3}
    assert catalog.claimable_sizes("web3", sizes, share=False) == set()


def test_known_digests_are_those_with_a_row(catalog: Catalog) -> None:
    catalog.record_objects("p0", "web1", [stored("a")])
    assert catalog.known([digest("a"), digest("b")]) == {digest("a"): 1}


def test_recorded_objects_are_pinned_until_the_pull_ends(catalog: Catalog) -> None:
    catalog.record_objects("p0", "web1", [stored("a")])
    catalog.record_objects("p1", "web1", [stored("b")])
    catalog.unpin("p0")
    assert rows(catalog, "SELECT pull FROM pins") == [("p1",)]


def test_memory_is_kept_with_the_commit_and_replaced_by_remember(catalog: Catalog) -> None:
    catalog.commit("r1", snapshot(1), [change(b"etc")], memory(1))
    assert catalog.memory("web1", "nginx") == memory(1)
    catalog.remember("web1", "nginx", ModuleMemory(1, b"\2" * 8, b""))
    assert catalog.memory("web1", "nginx") == ModuleMemory(1, b"\2" * 8, b"")


def test_a_commit_touches_changed_paths_only(catalog: Catalog) -> None:
    catalog.commit("r1", snapshot(1), [change(b"a", "1"), change(b"b", "2"), change(b"c", "3")], memory(1))
    catalog.commit("r2", snapshot(2), [change(b"b", "4"), change(b"c", None), change(b"d", "5")], memory(2))
    assert rows(catalog, "SELECT path, from_seq, until_seq FROM versions ORDER BY path, from_seq") == [
        (b"a", 1, None),
        (b"b", 1, 2),
        (b"b", 2, None),
        (b"c", 1, 2),
        (b"d", 2, None),
    ]


def test_a_commit_again_does_nothing(catalog: Catalog) -> None:
    catalog.commit("r1", snapshot(1), [change(b"a")], memory(1))
    catalog.commit("r1", snapshot(1), [change(b"a")], memory(1))
    assert len(rows(catalog, "SELECT * FROM versions")) == 1


@pytest.mark.parametrize("sequence", [1, 3])
def test_a_commit_that_does_not_follow_the_newest_is_refused_whole(catalog: Catalog, sequence: int) -> None:
    catalog.commit("r1", snapshot(1), [change(b"a")], memory(1))
    with pytest.raises(CatalogMismatch, match="knows web1/nginx up to snapshot 1"):
        catalog.commit("r2", snapshot(sequence, digest=digest("other")), [change(b"z")], memory(sequence))
    assert rows(catalog, "SELECT path FROM versions") == [(b"a",)]
    assert catalog.memory("web1", "nginx") == memory(1)


def test_a_number_beyond_sqlite_is_a_catalog_error_and_leaves_nothing(catalog: Catalog) -> None:
    with pytest.raises(CatalogError, match="too large"):
        catalog.commit("r1", snapshot(1), [Change(b"a", Entry(path_text="a", size=2**64))], memory(1))
    assert rows(catalog, "SELECT * FROM snapshots") == []


def test_a_file_that_its_host_opened_to_everyone_becomes_public(catalog: Catalog) -> None:
    entry = Entry(path_text="a", sha256=digest("a"), size=1, public=True)
    catalog.record_objects("p0", "web1", [stored("a", public=False)])
    catalog.commit("r", snapshot(1), [Change(b"a", msgspec.structs.replace(entry, claimed=True))], memory(1))
    assert not catalog.pin_claimable("p1", "web2", [(digest("a"), True)], share=True)
    catalog.commit("r", snapshot(2), [Change(b"a", entry)], memory(2))
    assert catalog.pin_claimable("p1", "web2", [(digest("a"), True)], share=True)


def test_a_commit_that_says_what_it_follows_may_skip_numbers(catalog: Catalog) -> None:
    catalog.commit("r1", snapshot(2), [change(b"a", "1")], memory(2), previous=0)
    catalog.commit("r2", snapshot(5), [change(b"a", "2")], memory(5), previous=2)
    assert rows(catalog, "SELECT from_seq, until_seq FROM versions ORDER BY 1") == [(2, 5), (5, None)]
