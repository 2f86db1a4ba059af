"""From every place, encrypted or not: what was copied comes back, through the very code that restores from a store."""

import os

import pytest
from pyrsyncbackup_collector.copies.directory import DirectoryTarget
from pyrsyncbackup_collector.copies.reading import opened
from pyrsyncbackup_collector.copies.seal import Plain
from pyrsyncbackup_collector.errors import CopyDamaged, CopySealed, StoreDamaged
from pyrsyncbackup_collector.store.restore import restore

from tests.support import copies
from tests.support.estate import Content

pytest_plugins = ["tests.support.copy_scene"]


@pytest.fixture
def keys(tmp_path):
    return copies.Keys.make(tmp_path)


FILES = {b"etc/f%03d" % number: b"%d\n" % number * (number + 1) for number in range(300)}
FILES[b"etc/large"] = os.urandom(3_000_000)


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
def test_everything_comes_back_from_a_copy(estate, anywhere, keys, tmp_path, sealed):
    seal = keys.seal() if sealed else Plain()
    estate.pull("web1", "etc", {path: Content(data) for path, data in FILES.items()})
    estate.pull("web1", "etc", {b"etc/f001": Content(b"changed"), b"etc/f002": None})
    assert copies.make(anywhere, estate.store, seal)
    assert not copies.make(anywhere, estate.store, seal)
    report = copies.replicate(estate.store, anywhere, seal)
    assert (report.held, report.left_out) == (2, [])
    with opened(anywhere, keys.identity if sealed else None) as copy:
        assert copy.id == estate.store.id
        old, new = copy.snapshots("web1", "etc")
        assert copy.verify_log("web1", "etc") == []
        for snapshot, wanted in ((old, FILES), (new, FILES | {b"etc/f001": b"changed", b"etc/f002": None})):
            to = tmp_path / snapshot.name
            with copy.reading(snapshot):
                done = restore(copy.entries(snapshot, verify=True), copy.objects, to)
            assert done.complete
            found = {os.fsencode(str(p.relative_to(to))): p.read_bytes() for p in to.rglob("*") if p.is_file()}
            assert found == {path: data for path, data in wanted.items() if data is not None}


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
def test_a_copy_thins_itself_out_and_keeps_what_stays_whole(estate, anywhere, keys, sealed):
    seal = keys.seal() if sealed else Plain()
    copies.make(anywhere, estate.store, seal)
    files = {b"etc/f%d" % number: Content(b"%d" % number) for number in range(12)}
    estate.pull("web1", "etc", files)
    estate.pull("web2", "etc", {b"etc/f1": Content(b"1")})
    for round_ in range(4):
        estate.pull("web1", "etc", {b"etc/f1": Content(b"round %d" % round_)})
        copies.replicate(estate.store, anywhere, seal)

    def last_two(host, module, held):
        return {one.sequence for one in held[-2:]}

    before = len(list(anywhere.walk("objects")))
    report = copies.replicate(estate.store, anywhere, seal, keep=last_two, keep_text="last 2")
    assert (report.removed, report.removed_objects) == (3, 2)
    assert len(list(anywhere.walk("objects"))) == before - 2
    # They do not come back, though the source still has them; a full look finds nothing amiss.
    again = copies.replicate(estate.store, anywhere, seal, keep=last_two, keep_text="last 2", full=True)
    assert (again.snapshots, again.removed, again.lost, again.left_out, again.held) == (0, 0, [], [], 3)
    with opened(anywhere, keys.identity if sealed else None) as copy:
        assert [one.sequence for one in copy.snapshots("web1", "etc")] == [4, 5]
        for host in ("web1", "web2"):
            for snapshot in copy.snapshots(host, "etc"):
                for entry in copy.entries(snapshot, verify=True):
                    assert not entry.sha256 or copy.objects.read_entry(entry) is not None


def test_an_encrypted_copy_shows_neither_contents_nor_digests(estate, keys, tmp_path):
    target = copies.directory(tmp_path / "copy")
    seal = keys.seal()
    copies.make(target, estate.store, seal)
    estate.pull("web1", "etc", {b"etc/secret-name": Content(b"the secret content")})
    copies.replicate(estate.store, target, seal)
    digest = next(e.sha256 for e in estate.store.entries(estate.store.newest("web1", "etc")) if e.sha256)
    for file in (tmp_path / "copy").rglob("*"):
        assert digest[2:] not in file.name
        if file.is_file():
            data = file.read_bytes()
            assert b"secret" not in data
            assert bytes.fromhex(digest) not in data


@pytest.mark.parametrize("left", [None, b""], ids=["missing", "empty"])
def test_an_encrypted_copy_that_lost_the_key_for_its_names_gets_it_again(estate, keys, tmp_path, left):
    target, seal = copies.directory(tmp_path / "copy"), keys.seal()
    copies.make(target, estate.store, seal)
    estate.pull("web1", "etc", {b"etc/a": Content(b"secret")})
    copies.replicate(estate.store, target, seal)
    file = tmp_path / "copy/names.age"
    file.unlink()
    if left is not None:
        file.write_bytes(left)
    with pytest.raises(CopyDamaged, match=r"names\.age is missing"), opened(target, keys.identity):
        pass
    assert copies.replicate(estate.store, target, seal, full=True).repaired == 1
    with opened(target, keys.identity) as copy:
        (entry,) = [one for one in copy.entries(copy.newest("web1", "etc")) if one.sha256]
        assert copy.objects.read_entry(entry) == b"secret"
    assert copies.replicate(estate.store, target, seal, full=True).repaired == 0
    target.close()


def test_an_encrypted_copy_is_not_read_without_its_key(estate, keys, tmp_path):
    target = copies.directory(tmp_path / "copy")
    copies.make(target, estate.store, keys.seal())
    with pytest.raises(CopySealed, match="is encrypted"), opened(target):
        pass
    (tmp_path / "other").mkdir()
    other = copies.Keys.make(tmp_path / "other")
    with pytest.raises(CopySealed, match="to another key"), opened(target, other.identity):
        pass


def test_what_was_changed_in_a_far_copy_is_told_and_not_restored(estate, anywhere):
    copies.make(anywhere, estate.store)
    estate.pull("web1", "etc", {b"etc/a": Content(b"a"), b"etc/b": Content(b"b")})
    copies.replicate(estate.store, anywhere)
    one, other = (item.name for item in anywhere.walk("objects"))
    with copies.staged() as stage:
        anywhere.fetch(stage, [one])
        (stage / other).parent.mkdir(exist_ok=True, parents=True)
        (stage / one).rename(stage / other)
        anywhere.replace(stage, [other])
    with opened(anywhere) as copy:
        entries = [entry for entry in copy.entries(copy.newest("web1", "etc")) if entry.sha256]
        bad = next(entry for entry in entries if entry.sha256 == other.removeprefix("objects/").replace("/", ""))
        with pytest.raises(StoreDamaged, match="is damaged"):
            copy.objects.read_entry(bad)
        good = next(entry for entry in entries if entry is not bad)
        assert copy.objects.read_entry(good) in (b"a", b"b")
    assert not isinstance(anywhere, DirectoryTarget) or anywhere.path.is_dir()
