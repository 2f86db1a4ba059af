"""A catalog made anew from the store answers as the old one did; one that does not fit its store is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.catalog.rebuild import Rebuilt, rebuild
from pyrsyncbackup_collector.catalog.reconcile import differences
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import CatalogError, CatalogMismatch, StoreDamaged
from pyrsyncbackup_collector.pull.ledger import ModuleMemory
from pyrsyncbackup_collector.store.snapshot import Change, Snapshot
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.transport.offer import ModuleOffer, ModuleState

from tests.support.estate import Content, Estate
from tests.support.versions import versions

REMEDY = "pyrsyncbackup catalog rebuild"
CONTENTS = [b"common", b"private", b"own", b"new", b"later", b"never sent", b"\xff", b"kept"]


@pytest.fixture
def filled(estate: Estate) -> Estate:
    """Three hosts, full manifests and deltas, partials, claimed and private contents, names that are not UTF-8."""
    many = {b"etc/many/%02d" % number: Content(b"%d" % number) for number in range(20)}
    estate.pull("web1", "etc", {**many, b"etc/a": Content(b"common"), b"etc/key": Content(b"private", public=False)})
    estate.pull("web1", "etc", {b"etc/a": None, b"etc/\xff\n": Content(b"own", public=False)})
    estate.pull(
        "web1", "etc", {b"etc/key": Content(b"private", public=False, stale=True, error="denied")}, state="partial"
    )
    estate.pull("web1", "etc", {b"etc/key": Content(b"private", public=False), b"etc/a": Content(b"new")})
    estate.pull("web2", "etc", {b"etc/b": Content(b"common", claimed=True), b"etc/c": Content(b"\xff")})
    estate.pull(
        "web2", "etc", {b"etc/b": Content(b"private", public=True), b"etc/many/00": Content(b"0", claimed=True)}
    )
    estate.pull("web2", "cron", {b"etc/cron.d/x": Content(b"own", public=False)}, state="partial")
    estate.pull("db1", "cron", {b"etc/cron.d/x": Content(b"common")})
    estate.pull("db1", "cron", {b"etc/cron.d/x": Content(b"later")})
    estate.catalog.seen("web1", [ModuleOffer("etc", "Etc", ModuleState.READY, "")])
    return estate


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def renew(estate: Estate) -> Rebuilt:
    estate.catalog.close()
    rebuilt = rebuild(estate.catalog_path, estate.store)
    estate.catalog = rebuilt.catalog
    return rebuilt


def about_snapshots(catalog: Catalog) -> dict[str, Any]:
    """Every answer that comes from the store."""
    answers: dict[str, Any] = {"snapshots": catalog.snapshots(), "space": catalog.space()}
    answers["versions"] = versions(catalog)
    digests = [digest(content) for content in CONTENTS]
    answers["known"] = catalog.known(digests)
    for host in ("web1", "web2", "db1", "new"):
        for share in (True, False):
            answers[f"sizes {host} {share}"] = catalog.claimable_sizes(host, set(range(20)), share=share)
            for public in (True, False):
                claims = [(one, public) for one in digests]
                answers[f"claims {host} {share} {public}"] = catalog.pin_claimable("p", host, claims, share=share)
    catalog.unpin("p")
    return answers


def test_a_rebuilt_catalog_answers_every_query_alike(filled: Estate) -> None:
    before = about_snapshots(filled.catalog)
    journal = (filled.catalog.hosts(), filled.catalog.modules(), filled.catalog.runs(limit=1000))
    rebuilt = renew(filled)
    assert about_snapshots(filled.catalog) == before
    assert (filled.catalog.hosts(), filled.catalog.modules(), filled.catalog.runs(limit=1000)) == journal
    assert (rebuilt.snapshots, rebuilt.damaged) == (9, ())
    assert rebuilt.carried == ("hosts", "modules", "runs", "run_paths")
    assert filled.catalog.check_against(filled.store) == []


def test_the_versions_are_the_same_rows(filled: Estate) -> None:
    def rows() -> list[tuple[Any, ...]]:
        with filled.catalog._database.reading() as raw:
            return raw.execute(
                "SELECT hosts.name, modules.name, versions.* FROM versions JOIN modules ON modules.id = module_id "
                "JOIN hosts ON hosts.id = host_id ORDER BY 1, 2, path, from_seq"
            ).fetchall()

    before = rows()
    renew(filled)
    assert rows() == before
    assert len(before) > 30


def test_what_was_undone_between_deltas_is_seen(estate: Estate) -> None:
    many = {b"etc/many/%02d" % number: Content(b"%d" % number) for number in range(40)}
    estate.pull("web1", "etc", many)
    estate.pull("web1", "etc", {b"etc/many/01": Content(b"other"), b"etc/many/02": None, b"etc/many/x": Content(b"x")})
    estate.pull("web1", "etc", {b"etc/many/01": many[b"etc/many/01"], b"etc/many/03": Content(b"other")})
    estate.pull("web1", "etc", {b"etc/many/02": many[b"etc/many/02"], b"etc/many/x": None})
    estate.pull("web1", "etc", {b"etc/many/03": many[b"etc/many/03"]})
    assert [one.base is None for one in estate.catalog.snapshots()] == [True, False, False, False, False]
    before = about_snapshots(estate.catalog)
    renew(estate)
    assert about_snapshots(estate.catalog) == before
    spans = [(one.begin, one.end) for one in versions(estate.catalog, "web1", "etc", b"etc/many/x")]
    assert spans == [(2, 4)]


def test_it_is_made_without_any_old_catalog(filled: Estate) -> None:
    before = about_snapshots(filled.catalog)
    filled.catalog.close()
    filled.catalog_path.unlink()
    rebuilt = renew(filled)
    assert about_snapshots(filled.catalog) == before
    assert rebuilt.carried == ()
    assert filled.catalog.runs() == []
    (module,) = filled.catalog.modules("db1", "cron")
    newest = filled.store.newest("db1", "cron")
    assert newest is not None
    assert (module.state, module.last_good, module.newest) == ("unknown", newest.time, newest)


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + b"\xff" * 8000, b"rubbish"])
def test_a_damaged_old_catalog_is_kept_aside(filled: Estate, content: bytes) -> None:
    before = about_snapshots(filled.catalog)
    filled.catalog.close()
    filled.catalog_path.write_bytes(content)
    assert renew(filled).carried == ()
    assert about_snapshots(filled.catalog) == before
    assert filled.catalog_path.with_name("catalog.sqlite.old").read_bytes() == content


def test_nothing_is_carried_over_from_the_catalog_of_another_store(filled: Estate, tmp_path: Path) -> None:
    filled.catalog.close()
    filled.catalog_path.unlink()
    with Catalog.create(filled.catalog_path, "another") as other:
        other.run_begin("alien", "etc")
    assert renew(filled).carried == ()
    assert [host.name for host in filled.catalog.hosts()] == ["db1", "web1", "web2"]


def test_memory_is_empty_after_a_rebuild(filled: Estate) -> None:
    assert filled.catalog.memory("web1", "etc")
    renew(filled)
    assert filled.catalog.memory("web1", "etc") is None
    assert filled.catalog.fingerprints("web1") == {}


def test_an_object_whose_file_is_gone_is_not_known(filled: Estate) -> None:
    filled.store.objects.place(digest(b"own")).unlink()
    renew(filled)
    assert filled.catalog.known([digest(b"own"), digest(b"new")]) == {digest(b"new"): 3}
    assert not filled.catalog.pin_claimable("p", "web1", [(digest(b"own"), True)], share=True)


def test_a_damaged_manifest_keeps_its_place_and_does_not_stop_the_rest(filled: Estate) -> None:
    second = filled.store.snapshots("web1", "etc")[1]
    (manifest,) = (filled.store.path / "manifests" / "web1" / "etc").glob(f"{second.name}.*")
    data = manifest.read_bytes()
    manifest.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    rebuilt = renew(filled)
    assert [recorded.name for recorded, _ in rebuilt.damaged] == [second.name]
    assert [one.state for one in filled.catalog.snapshots("web1", "etc")] == [
        "complete",
        "damaged",
        "partial",
        "complete",
    ]
    assert [one.begin for one in versions(filled.catalog, "web1", "etc", b"etc/\xff\n")] == [3]
    assert filled.catalog.check_against(filled.store) == []


def test_contents_of_a_manifest_that_fails_half_way_are_not_taken_for_known(
    filled: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their rows are taken back with it; who has the same content later brings them again."""
    entries = Store.entries

    def broken(store: Store, snapshot: Snapshot, *, verify: bool = False) -> Iterator[Entry]:
        yield from entries(store, snapshot, verify=verify)
        if (snapshot.host, snapshot.sequence) == ("web1", 1):
            raise StoreDamaged("the disk failed")

    monkeypatch.setattr("pyrsyncbackup_collector.catalog.ledger._BATCH", 2)
    monkeypatch.setattr(Store, "entries", broken)
    rebuilt = renew(filled)
    assert [(recorded.host, recorded.sequence) for recorded, _ in rebuilt.damaged][:1] == [("web1", 1)]
    assert filled.catalog.known([digest(b"0")]) == {digest(b"0"): 1}


def test_a_failing_rebuild_leaves_the_old_catalog(filled: Estate, monkeypatch: pytest.MonkeyPatch) -> None:
    before = about_snapshots(filled.catalog)
    filled.catalog.close()

    def fail(*_: object) -> None:
        raise CatalogError("no space")

    with monkeypatch.context() as patched:
        patched.setattr("pyrsyncbackup_collector.catalog.rebuild._swap", fail)
        with pytest.raises(CatalogError, match="no space"):
            rebuild(filled.catalog_path, filled.store)
    filled.catalog = Catalog.open(filled.catalog_path, filled.store.id)
    assert about_snapshots(filled.catalog) == before
    assert [file.name for file in filled.catalog_path.parent.glob("*.rebuild*")] == []


def test_a_catalog_that_is_open_elsewhere_is_not_replaced(filled: Estate) -> None:
    with Catalog.open(filled.catalog_path, filled.store.id) as other, other._database.reading() as raw:
        raw.execute("SELECT count(*) FROM runs").fetchone()
        filled.catalog.request("web1")
        filled.catalog.close()
        with pytest.raises(CatalogError, match="in use by another process"):
            rebuild(filled.catalog_path, filled.store, busy_seconds=0.1)
    filled.catalog = Catalog.open(filled.catalog_path, filled.store.id)


def test_a_snapshot_that_a_crash_kept_from_the_catalog_is_added(filled: Estate) -> None:
    left = filled.pull("web1", "etc", {b"etc/a": None, b"etc/z": Content(b"own")}, recorded=False)
    first = filled.pull("new", "etc", {b"etc/z": Content(b"own")}, recorded=False)
    assert filled.catalog.check_against(filled.store) == [first, left]
    assert filled.catalog.check_against(filled.store) == []
    assert versions(filled.catalog, "web1", "etc", b"etc/a")[-1].end == left.sequence
    assert filled.catalog.memory("web1", "etc") == ModuleMemory(4, b"\1" * 8 * 25, b"finger")
    filled.catalog.recover()
    before = about_snapshots(filled.catalog)
    renew(filled)
    assert about_snapshots(filled.catalog) == before


def test_a_catalog_older_than_the_store_is_refused(filled: Estate) -> None:
    for number in range(2):
        filled.pull("db1", "cron", {b"etc/cron.d/x": Content(b"%d" % number)}, recorded=False)
    with pytest.raises(CatalogMismatch, match="lacks the last 2 snapshots of db1/cron") as caught:
        filled.catalog.check_against(filled.store)
    assert REMEDY in caught.value.hint


def test_a_manifest_that_the_store_lost_keeps_its_place_and_all_that_it_named(filled: Estate) -> None:
    before = about_snapshots(filled.catalog)
    newest = filled.store.newest("web1", "etc")
    assert newest is not None
    (manifest,) = (filled.store.path / "manifests" / "web1" / "etc").glob(f"{newest.name}.*")
    aside = manifest.rename(filled.store.path / "aside")
    for _ in range(2):
        assert filled.catalog.check_against(filled.store) == []
        assert about_snapshots(filled.catalog) == before
        (found,) = filled.catalog.unsound()
        assert (found.host, found.module, found.what, found.kind) == ("web1", "etc", "manifest", "missing")
        assert (found.name, found.cause) == (newest.name, "its file is not there")
        assert found.snapshots == (f"web1/etc@{newest.name}",)
    # The next check sees it changed, so that a pull comes soon.
    assert "etc" not in filled.catalog.fingerprints("web1")
    aside.rename(manifest)
    assert filled.catalog.check_against(filled.store) == []
    assert filled.catalog.unsound() == []


def test_a_module_that_the_store_lost_is_one_finding_that_names_its_snapshots(filled: Estate) -> None:
    before = about_snapshots(filled.catalog)
    away = (filled.store.path / "manifests" / "db1").rename(filled.store.path.parent / "moved")
    assert filled.catalog.check_against(filled.store) == []
    (found,) = filled.catalog.unsound()
    assert (found.host, found.module, found.what, found.kind, found.name) == ("db1", "cron", "log", "missing", "")
    assert found.cause.startswith("its directory is not there, the catalog knows ")
    assert found.total == len(filled.catalog.snapshots("db1")) == len(found.snapshots)
    assert about_snapshots(filled.catalog) == before
    away.rename(filled.store.path / "manifests" / "db1")
    filled.catalog.check_against(filled.store)
    assert filled.catalog.unsound() == []


def test_a_store_without_any_module_is_refused(filled: Estate) -> None:
    manifests = filled.store.path / "manifests"
    manifests.rename(filled.store.path.parent / "moved")
    manifests.mkdir()
    with pytest.raises(CatalogMismatch, match=r"snapshots of db1/cron and \d+ more modules, the store has none at all"):
        filled.catalog.check_against(filled.store)


def test_differences_make_the_newer_of_the_older() -> None:
    def entry(path: str, size: int = 0) -> Entry:
        return Entry(path_text=path, size=size)

    older = [entry("a"), entry("a/b"), entry("a/c"), entry("a.x"), entry("z")]
    newer = [entry("a"), entry("a/0"), entry("a/b", 1), entry("a.x"), entry("b")]
    assert list(differences(older, newer)) == [
        Change(b"a/0", entry("a/0")),
        Change(b"a/b", entry("a/b", 1)),
        Change(b"a/c", None),
        Change(b"b", entry("b")),
        Change(b"z", None),
    ]


def test_what_a_host_does_not_share_stays_its_own_after_a_rebuild(estate: Estate) -> None:
    estate.pull("web1", "etc", {b"etc/a": Content(b"kept"), b"etc/b": Content(b"own", public=False)}, share=False)
    estate.pull("web1", "etc", {b"etc/b": Content(b"own", public=True)}, share=False)
    estate.pull("web1", "cron", {b"etc/cron.d/x": Content(b"kept", claimed=True)})
    estate.pull("web2", "etc", {b"etc/a": Content(b"new")}, share=False, recorded=False)
    assert len(estate.catalog.check_against(estate.store)) == 1

    def granted(host: str) -> set[str]:
        claims = [(digest(content), True) for content in (b"kept", b"own", b"new")]
        return estate.catalog.pin_claimable("p", host, claims, share=True)

    assert granted("web1") == {digest(b"kept"), digest(b"own")}
    assert granted("db1") == set()
    before = about_snapshots(estate.catalog)
    renew(estate)
    assert granted("db1") == set()
    assert about_snapshots(estate.catalog) == before
