"""What a round of a second copy brings, what it never brings, and what the copy is at any moment."""

import pytest
from pyrsyncbackup_collector.copies.reading import opened
from pyrsyncbackup_collector.copies.seal import Plain
from pyrsyncbackup_collector.errors import CopyError, CopyMissing, StoreDamaged
from pyrsyncbackup_collector.store.store import Store

from tests.support import copies
from tests.support.estate import Content, Estate
from tests.support.vault import flip, rewrite

pytest_plugins = ["tests.support.copy_scene"]


def content(store, host, module, number=-1):
    """Paths and contents of a snapshot, each proven."""
    snapshot = store.snapshots(host, module)[number]
    with store.reading(snapshot):
        files = [entry for entry in store.entries(snapshot, verify=True) if entry.sha256]
        return {entry.path: store.objects.read_entry(entry) for entry in files}


def object_of(store, snapshot, path=b"etc/a"):
    """The digest of a file's content."""
    return next(entry.sha256 for entry in store.entries(snapshot) if entry.path == path)


def names(store, host, module):
    return [snapshot.name for snapshot in store.snapshots(host, module)]


def test_a_copy_has_what_the_source_has(estate, target, tmp_path):
    estate.pull("web1", "etc", {b"etc/a": Content(b"a"), b"etc/b": Content(b"b" * 5000)})
    estate.pull("web1", "etc", {b"etc/a": Content(b"A")})
    estate.pull("web2", "etc", {b"etc/a": Content(b"a")})
    report = copies.replicate(estate.store, target)
    assert (report.snapshots, report.objects, report.held, report.left_out) == (3, 3, 3, [])
    with Store.open(tmp_path / "copy") as copy:
        assert copy.id == estate.store.id
        assert list(copy.modules()) == list(estate.store.modules())
        assert names(copy, "web1", "etc") == names(estate.store, "web1", "etc")
        assert content(copy, "web1", "etc", 0) == {b"etc/a": b"a", b"etc/b": b"b" * 5000}
        assert content(copy, "web1", "etc") == {b"etc/a": b"A", b"etc/b": b"b" * 5000}
        assert copy.verify_log("web1", "etc") == []


def test_a_second_round_brings_what_is_new_and_nothing_twice(estate, target):
    estate.pull("web1", "etc", {b"etc/a": Content(b"a")})
    copies.replicate(estate.store, target)
    again = copies.replicate(estate.store, target)
    assert (again.snapshots, again.objects, again.held) == (0, 0, 1)
    estate.pull("web1", "etc", {b"etc/b": Content(b"b")})
    third = copies.replicate(estate.store, target)
    assert (third.snapshots, third.objects, third.held) == (1, 1, 2)


def test_an_unchanged_round_reads_two_files_of_the_copy_and_writes_none(estate, target, tmp_path):
    for number in range(20):
        estate.pull("web1", "etc", {b"etc/a": Content(b"%d" % number)})
    copies.replicate(estate.store, target)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "copy").rglob("*")}
    asked = []

    class Watched:
        def __getattr__(self, name):
            def call(*arguments):
                asked.append((name, *arguments))
                return getattr(target, name)(*arguments)

            return call if name != "where" else target.where

    copies.replicate(estate.store, Watched())
    assert asked == [("read", "format.json"), ("read", "copy/state.json.gz")]
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_a_prune_in_the_source_removes_nothing_in_the_copy(estate, target, tmp_path):
    first = estate.pull("web1", "etc", {b"etc/a": Content(b"a")})
    estate.pull("web1", "etc", {b"etc/a": Content(b"A")})
    copies.replicate(estate.store, target)
    log = estate.store.log("web1", "etc")
    log.seal(log.append(log.read(), "prune", first.sequence, file=f"{first.name}.full.zst", manifest=first.digest))
    gone = object_of(estate.store, first)
    (estate.store.path / "manifests/web1/etc" / f"{first.name}.full.zst").unlink()
    estate.store.objects.place(gone).unlink()
    report = copies.replicate(estate.store, target)
    assert (report.snapshots, report.held, report.left_out, report.lost) == (0, 2, [], [])
    with Store.open(tmp_path / "copy") as copy:
        assert len(names(copy, "web1", "etc")) == 2
        assert content(copy, "web1", "etc", 0) == {b"etc/a": b"a"}
        assert copy.verify_log("web1", "etc") == []


def test_a_rotten_object_never_travels_and_what_needs_it_is_left_out_and_named(estate, target, tmp_path):
    estate.pull("web1", "etc", {b"etc/a": Content(b"a"), b"etc/b": Content(b"b")})
    bad = estate.pull("web1", "etc", {b"etc/a": Content(b"rotten")})
    estate.pull("web1", "etc", {b"etc/a": Content(b"good")})
    digest = next(e.sha256 for e in estate.store.entries(bad) if e.path == b"etc/a")
    place = estate.store.objects.place(digest)
    place.chmod(0o600)
    place.write_bytes(
        estate.store.objects.place(next(e.sha256 for e in estate.store.entries(bad) if e.path == b"etc/b")).read_bytes()
    )
    report = copies.replicate(estate.store, target)
    assert [what for what, _ in report.left_out] == [f"web1/etc@{bad.name}"]
    assert digest in report.left_out[0][1]
    with Store.open(tmp_path / "copy") as copy:
        assert [one.sequence for one in copy.snapshots("web1", "etc")] == [1, 3]
        assert content(copy, "web1", "etc")[b"etc/a"] == b"good"
        assert not copy.objects.place(digest).exists()


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("what", ["object", "manifest"])
def test_what_rots_at_any_moment_does_not_travel(estate, tmp_path, sealed, what):
    snapshot = estate.pull("web1", "etc", {b"etc/a": Content(b"a" * 5000)})
    file = estate.store.objects.place(object_of(estate.store, snapshot))
    if what == "manifest":
        file = next((estate.store.path / "manifests/web1/etc").glob(f"{snapshot.name}.*"))
    sound = file.read_bytes()
    keys = copies.Keys.make(tmp_path)
    said, moment, flipped = [], 0, True
    while flipped:
        seal = keys.seal() if sealed else Plain()
        target = copies.directory(tmp_path / f"copy{moment}")
        copies.make(target, estate.store, seal)
        looks, flipped = 0, False

        def check(moment=moment):
            nonlocal looks, flipped
            looks += 1
            if looks == moment + 1:
                flip(file)
                flipped = True

        try:
            said += [why for _, why in copies.replicate(estate.store, target, seal, check=check).left_out]
        except StoreDamaged as fault:
            said.append(fault.cause)
        with opened(target, keys.identity if sealed else None) as copy:
            for one in copy.snapshots("web1", "etc"):
                assert [copy.objects.read_entry(each) for each in copy.entries(one, verify=True) if each.sha256]
        rewrite(file, sound)
        assert copies.replicate(estate.store, target, seal).held == 1
        target.close()
        moment += 1
    assert [why for why in said if "changed on the disk after it was proven" in why]


def test_a_missing_object_leaves_its_snapshot_out_until_it_is_there_again(estate, target):
    estate.pull("web1", "etc", {b"etc/a": Content(b"a"), b"etc/b": Content(b"b")})
    snapshot = estate.store.newest("web1", "etc")
    place = estate.store.objects.place(next(e.sha256 for e in estate.store.entries(snapshot) if e.path == b"etc/b"))
    kept = place.read_bytes()
    place.unlink()
    assert copies.replicate(estate.store, target).held == 0
    place.write_bytes(kept)
    report = copies.replicate(estate.store, target)
    assert (report.held, report.left_out, report.objects) == (1, [], 1)


def test_a_changed_manifest_does_not_travel(estate, target, tmp_path):
    estate.pull("web1", "etc", {b"etc/a": Content(b"a")})
    estate.pull("web2", "etc", {b"etc/a": Content(b"a")})
    file = next((estate.store.path / "manifests/web1/etc").glob("*.zst"))
    other = next((estate.store.path / "manifests/web2/etc").glob("*.zst"))
    file.write_bytes(other.read_bytes())
    report = copies.replicate(estate.store, target)
    assert [what.partition("@")[0] for what, _ in report.left_out] == ["web1/etc"]
    with Store.open(tmp_path / "copy") as copy:
        assert [host for host, module in copy.modules() if copy.snapshots(host, module)] == ["web2"]


def test_a_log_that_does_not_fit_keeps_its_module_out(estate, target):
    estate.pull("web1", "etc", {b"etc/a": Content(b"a")})
    estate.pull("web1", "etc", {b"etc/a": Content(b"b")})
    log = estate.store.path / "manifests/web1/etc/log.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"sequence":1', b'"sequence":9'))
    report = copies.replicate(estate.store, target)
    assert report.held == 0
    assert [what for what, _ in report.left_out] == ["web1/etc"]
    assert "log does not fit" in report.left_out[0][1]


def test_only_the_hosts_and_modules_that_are_named_go_there(estate, target, tmp_path):
    for host in ("web1", "web2", "db1"):
        for module in ("etc", "home"):
            estate.pull(host, module, {b"a": Content(b"a")})
    copies.replicate(estate.store, target, hosts="web*", modules="etc")
    with Store.open(tmp_path / "copy") as copy:
        assert list(copy.modules()) == [("web1", "etc"), ("web2", "etc")]


def test_an_object_that_was_cut_short_in_the_copy_is_mended_when_it_is_needed(estate, target, tmp_path):
    estate.pull("web1", "etc", {b"etc/a": Content(b"a" * 1000)})
    copies.replicate(estate.store, target)
    place = next((tmp_path / "copy/objects").glob("*/*"))
    place.chmod(0o600)
    place.write_bytes(b"")
    estate.pull("web2", "etc", {b"etc/a": Content(b"a" * 1000)})
    report = copies.replicate(estate.store, target)
    assert (report.repaired, report.objects) == (1, 1)
    with Store.open(tmp_path / "copy") as copy:
        assert content(copy, "web1", "etc") == {b"etc/a": b"a" * 1000}


def test_a_place_without_a_marker_is_never_filled(estate, tmp_path):
    empty = copies.directory(tmp_path / "unmounted")
    estate.pull("web1", "etc", {b"etc/a": Content(b"a")})
    with pytest.raises(CopyMissing, match=r"there is no copy at .*unmounted"):
        copies.replicate(estate.store, empty)
    assert list((tmp_path / "unmounted").iterdir()) == []


def test_a_copy_of_another_store_is_not_mixed_with_this(estate, target, tmp_path):
    (tmp_path / "other").mkdir()
    other = Estate(tmp_path / "other")
    with pytest.raises(CopyError, match="a copy of another store"):
        copies.replicate(other.store, target)
    other.close()


def test_a_store_is_no_place_for_a_copy(estate):
    itself = copies.directory(estate.store.path)
    with pytest.raises(CopyError, match="is a store, not a copy"):
        copies.replicate(estate.store, itself)
    with pytest.raises(CopyError, match="is a store already"):
        copies.make(itself, estate.store)


def test_a_place_that_holds_something_else_does_not_become_a_copy(estate, tmp_path):
    taken = copies.directory(tmp_path / "taken")
    (tmp_path / "taken" / "thesis.txt").write_text("mine")
    with pytest.raises(CopyError, match=r"not empty: it holds 'thesis\.txt'"):
        copies.make(taken, estate.store)


def test_nobody_writes_to_a_copy_as_to_a_store(target, tmp_path):
    with pytest.raises(Exception, match="is a second copy"):
        Store.open(tmp_path / "copy", lock=True)


def test_a_base_that_was_pruned_in_the_source_is_no_snapshot_of_the_copy(estate, target, tmp_path):
    files = {b"f%d" % number: Content(b"%d" % number) for number in range(20)}
    base = estate.pull("web1", "etc", files)
    delta = estate.pull("web1", "etc", {b"f1": Content(b"new")})
    assert delta.base == base.name
    log = estate.store.log("web1", "etc")
    log.seal(log.append(log.read(), "prune", base.sequence, file=f"{base.name}.full.zst", manifest=base.digest))
    old = next(e.sha256 for e in estate.store.entries(base) if e.path == b"f1")
    estate.store.objects.place(old).unlink()
    report = copies.replicate(estate.store, target)
    assert (report.held, report.left_out) == (1, [])
    # The next delta is one to a base whose own objects are not all there.
    estate.pull("web1", "etc", {b"f1": Content(b"1")})
    copies.replicate(estate.store, target)
    with Store.open(tmp_path / "copy") as copy:
        assert [one.sequence for one in copy.snapshots("web1", "etc")] == [2, 3]
        assert content(copy, "web1", "etc", 0)[b"f1"] == b"new"
        assert content(copy, "web1", "etc", 1)[b"f1"] == b"1"
