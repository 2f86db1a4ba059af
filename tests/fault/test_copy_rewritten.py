"""A copy, or its store, that somebody else changed or put back: nothing is lost, and nothing outside is touched."""

import contextlib
import hashlib
import http.server
import shutil
import tempfile
import threading

import msgspec
import pytest
from pyrsyncbackup_collector.copies.form import Held, ModuleState, State
from pyrsyncbackup_collector.copies.reading import opened
from pyrsyncbackup_collector.errors import (
    CopyDamaged,
    CopyError,
)
from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store.store import Store

from tests.support import copies, swift
from tests.support.estate import Content, Estate

pytest_plugins = ["tests.support.copy_scene"]


def test_a_store_that_was_put_back_to_an_earlier_state_changes_nothing_of_what_the_copy_has(estate, target, tmp_path):
    copies.fill(estate)
    copies.replicate(estate.store, target)
    shutil.copytree(estate.store.path, tmp_path / "image")
    estate.pull("web1", "etc", {b"etc/f1": Content(b"of the copy alone")})
    ahead = estate.store.newest("web1", "etc")
    copies.replicate(estate.store, target)
    with Store.open(tmp_path / "image", lock=True) as store:
        again = object.__new__(Estate)
        again.store, again.catalog = store, estate.catalog
        # The numbers that the copy knows are given once more.
        for number in range(3):
            again.pull(
                "web1", "etc", {b"etc/f1": Content(b"another %d" % number)}, recorded=False, time=1_790_000_900.0
            )
        again.pull("web2", "etc", {b"etc/f1": Content(b"new")}, recorded=False)
        report = copies.replicate(store, target)
        assert [what for what, _ in report.left_out] == ["web1/etc"]
        assert f"{ahead.name} the first" in report.left_out[0][1]
    with Store.open(tmp_path / "copy") as copy:
        assert copies.prove_whole(copy) == 6
        assert copy.newest("web1", "etc").name == ahead.name
        assert copy.verify_log("web1", "etc") == []


def test_two_collectors_that_write_to_one_copy_find_each_other_out(estate, target, tmp_path):
    copies.fill(estate)
    shutil.copytree(estate.store.path, tmp_path / "clone")
    other = copies.directory(tmp_path / "copy")
    met = []

    def tell(phase, done, total):
        if phase == "snapshots" and not met:
            met.append(phase)
            with Store.open(tmp_path / "clone") as clone:
                copies.replicate(clone, other, now=1_790_000_777.0)

    with pytest.raises(CopyError, match="somebody else wrote to this copy"):
        copies.replicate(estate.store, target, tell=tell)
    assert copies.replicate(estate.store, target, full=True).lost == []
    with Store.open(tmp_path / "copy") as copy:
        assert copies.prove_whole(copy) == 4
    other.close()


def test_a_link_in_a_copy_leads_to_nothing_outside(estate, target, tmp_path):
    copies.fill(estate)
    for host in ("web1", "web2"):
        estate.pull(host, "etc", {b"etc/f%d" % number: Content(b"new %d" % number) for number in range(8)})
    copies.replicate(estate.store, target)
    # An object that the copy's own rules remove, as if to have us remove the store's.
    going = hashlib.sha256(b"1" * 50).hexdigest()
    first = tmp_path / "copy/objects" / going[:2]
    second = next(each for each in (tmp_path / "copy/objects").iterdir() if each != first)
    first.rename(tmp_path / "moved")
    first.symlink_to(estate.store.path / "objects" / first.name)
    before = sorted(estate.store.path.rglob("*"))

    def newest(host, module, held):
        return {held[-1].sequence}

    for full in (False, True):
        with pytest.raises(CopyDamaged, match="is a link"):
            copies.replicate(estate.store, target, keep=newest, keep_text="1", full=full)
    assert sorted(estate.store.path.rglob("*")) == before
    first.unlink()
    # A link in the place of an object is an object that is not whole.
    file = next(second.iterdir())
    file.unlink()
    file.symlink_to("/nonexistent")
    report = copies.replicate(estate.store, target, full=True)
    assert (report.lost, report.left_out) == ([], [])
    assert file.is_file()
    assert not file.is_symlink()
    with Store.open(tmp_path / "copy") as copy:
        copies.prove_whole(copy)


def test_a_copy_that_was_put_back_to_an_earlier_state_catches_up(estate, target, tmp_path):
    copies.fill(estate)
    copies.replicate(estate.store, target)
    shutil.copytree(tmp_path / "copy", tmp_path / "image")
    estate.pull("web1", "etc", {b"etc/f1": Content(b"later")})
    copies.replicate(estate.store, target)
    shutil.rmtree(tmp_path / "copy")
    (tmp_path / "image").rename(tmp_path / "copy")
    report = copies.replicate(estate.store, target)
    assert (report.snapshots, report.held, report.left_out) == (1, 5, [])
    with Store.open(tmp_path / "copy") as copy:
        assert copies.prove_whole(copy) == 5
        assert copy.verify_log("web1", "etc") == []


def test_a_copy_of_another_store_is_left_alone(estate, target, tmp_path):
    (tmp_path / "other").mkdir()
    other = Estate(tmp_path / "other")
    other.pull("web1", "etc", {b"etc/a": Content(b"a")})
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "copy").rglob("*")}
    with pytest.raises(CopyError, match="a copy of another store"):
        copies.replicate(other.store, target)
    with pytest.raises(CopyError, match="another store"):
        copies.make(target, other.store)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "copy").rglob("*")} == before
    other.close()


@pytest.mark.parametrize(
    "module",
    [
        {"../../source/store": ModuleState(held=[Held(1, "000001-2026-01-01T000000Z", "full", 1.0, True)])},
        {"web1/..": ModuleState(held=[Held(1, "000001-2026-01-01T000000Z", "full", 1.0, True)])},
        {"web1/etc": ModuleState(held=[Held(1, "../../../../source/store/format.json\0", "full", 1.0, True)])},
        {"web1/etc": ModuleState(going=[Held(1, "000001-2026-01-01T000000Z", "/../../x", 1.0, True)])},
        {"web1/etc": ModuleState(hidden=["../../../../source/store/manifests/web1/etc/000001-2026-01-01T000000Z"])},
    ],
    ids=["above", "module", "name", "kind", "hidden"],
)
def test_names_that_somebody_wrote_into_a_copy_are_never_removed(estate, target, tmp_path, module):
    copies.fill(estate)
    copies.replicate(estate.store, target)
    (tmp_path / "copy/copy/state.json.gz").write_bytes(State(modules=module).encode())
    before = sorted(estate.store.path.rglob("*"))
    with pytest.raises(CopyDamaged, match="holds what is no name"):
        copies.replicate(estate.store, target, keep=lambda *_: set(), keep_text="none")
    assert sorted(estate.store.path.rglob("*")) == before
    assert copies.replicate(estate.store, target, full=True).held == 4


class Hostile(http.server.BaseHTTPRequestHandler):
    """An S3 server that says what it likes: a list of names that lead elsewhere, and the same bytes for each."""

    form = layout.Format(layout.FORMAT_NAME, layout.FORMAT_VERSION, "1" * 32, "2" * 32)
    keys = ("manifests/../../../../../tmp/evil", "manifests/web1/etc/../../../evil", "manifests/web1/etc/log.jsonl")

    def do_GET(self):
        listed = "".join(
            f"<Contents><Key>{key}</Key><Size>4</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>"
            for key in self.keys
        )
        body = b"evil"
        if "list-type" in self.path:
            body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{listed}</ListBucketResult>".encode()
        elif self.path.endswith("format.json"):
            body = msgspec.json.encode(self.form)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"e"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hostile():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made = copies.S3Target(
        swift.BUCKET,
        "",
        copies.Credentials("key", swift.SECRET),
        endpoint=f"http://127.0.0.1:{server.server_port}",
        patience=copies.QUICK,
    )
    yield made
    made.close()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_hostile_server_writes_nothing_outside_and_is_told(hostile, estate, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = sorted(path for path in tmp_path.rglob("*"))
    with contextlib.suppress(CopyError), opened(hostile) as copy:
        assert [path.name for path in copy.path.rglob("*") if path.is_file() and "evil" in path.name] == []
        assert list(copy.modules()) in ([], [("web1", "etc")])
        assert copy.snapshots("web1", "etc") == []
    assert sorted(path for path in tmp_path.rglob("*")) == before
    with pytest.raises(CopyError, match="a copy of another store") as told:
        copies.replicate(estate.store, hostile)
    assert swift.SECRET not in str(told.value)
