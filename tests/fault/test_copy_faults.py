"""What goes wrong while a copy is made: kills, full disks, servers that fail, a source that changes meanwhile."""

import contextlib
import fcntl
import hashlib
import http.server
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

import msgspec
import pytest
from pyrsyncbackup_collector.copies.form import Held, ModuleState, State
from pyrsyncbackup_collector.copies.reading import opened
from pyrsyncbackup_collector.copies.recovery import Recovery
from pyrsyncbackup_collector.copies.s3 import Patience
from pyrsyncbackup_collector.errors import (
    Cancelled,
    CopyDamaged,
    CopyError,
    CopyFull,
    CopyMissing,
    CopyRefused,
    CopyUnreachable,
    StoreFull,
    StoreMissing,
)
from pyrsyncbackup_collector.store import layout
from pyrsyncbackup_collector.store.signature import KeySigner
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.transport.invitations import own_identity

from tests.support import copies, sshd, swift, tcp
from tests.support.estate import Content, Estate


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with sshd.running(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    with swift.running(tmp_path_factory.mktemp("swift")) as running:
        yield running


@pytest.fixture
def estate(tmp_path):
    (tmp_path / "source").mkdir()
    made = Estate(tmp_path / "source")
    yield made
    made.close()


@pytest.fixture
def target(tmp_path, estate):
    made = copies.directory(tmp_path / "copy")
    copies.make(made, estate.store)
    yield made
    made.close()


def fill(estate):
    for host in ("web1", "web2"):
        files = {b"etc/f%d" % number: Content(b"%d" % number * 50) for number in range(8)}
        estate.pull(host, "etc", files)
        estate.pull(host, "etc", {b"etc/f1": Content(host.encode())})


def prove_whole(copy):
    """All that the copy lists is there, and sound; how many snapshots that is."""
    count = 0
    for host, module in copy.modules():
        for snapshot in copy.snapshots(host, module):
            count += 1
            for entry in copy.entries(snapshot, verify=True):
                if entry.sha256:
                    copy.objects.read_entry(entry)
    return count


def test_killed_at_any_point_a_copy_is_whole_and_the_next_round_goes_on(estate, tmp_path):
    fill(estate)
    point, calls = 0, None
    while calls is None:
        point += 1
        target = copies.directory(tmp_path / f"copy{point}")
        copies.make(target, estate.store)
        argv = [sys.executable, "-m", "tests.support.copy_child", estate.store.path, target.path, str(point)]
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode in (0, -9), done.stderr
        if done.returncode == 0:
            calls = int(done.stdout)
        with Store.open(target.path) as copy:
            prove_whole(copy)
        report = copies.replicate(estate.store, target)
        assert (report.held, report.left_out, report.lost) == (4, [], [])
        with Store.open(target.path) as copy:
            assert prove_whole(copy) == 4
            assert [copy.verify_log(host, "etc") for host in ("web1", "web2")] == [[], []]
        target.close()
    assert point == calls + 1 > 4


def test_killed_while_it_is_thinned_out_a_copy_loses_only_what_was_to_go(estate, target):
    fill(estate)
    for host in ("web1", "web2"):
        estate.pull(host, "etc", {b"etc/f%d" % number: Content(b"new %d" % number) for number in range(8)})
    copies.replicate(estate.store, target)

    def newest(host, module, held):
        return {held[-1].sequence}

    class Killed(Exception):
        pass

    # First manifests go, then objects, then the lists of them.
    for survivors in range(1, 4):
        calls = []

        def delete(names, survivors=survivors, calls=calls):
            calls.append(names)
            if len(calls) == survivors:
                raise Killed
            type(target).delete(target, names)

        target.delete = delete
        with pytest.raises(Killed):
            copies.replicate(estate.store, target, keep=newest, keep_text="1")
        del target.delete
        with opened(target) as copy:
            assert prove_whole(copy) == 2
    report = copies.replicate(estate.store, target, keep=newest, keep_text="1", full=True)
    assert (report.held, report.lost, report.left_out) == (2, [], [])
    assert len(list(target.walk("copy/refs"))) == 2
    assert len([item for item in target.walk("manifests") if item.name.endswith(".zst")]) == 2
    assert len(list(target.walk("objects"))) == 8


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_target_is_told_and_what_was_brought_stays_for_the_next_round(estate, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=True)
    try:
        target = copies.directory(place)
        copies.make(target, estate.store)
        estate.pull("web1", "etc", {b"small": Content(b"s")})
        copies.replicate(estate.store, target)
        estate.pull("web1", "etc", {b"large": Content(os.urandom(900_000))})
        for number in range(5):
            estate.pull("web2", "etc", {b"large%d" % number: Content(os.urandom(900_000))})
        with pytest.raises(CopyFull, match="No space left"):
            copies.replicate(estate.store, target)
        with Store.open(place) as copy:
            assert prove_whole(copy) == 1
        assert not [file for file in place.rglob("*") if file.name.startswith(".tmp-")]
        subprocess.run(["mount", "-o", "remount,size=40m", place], check=True)
        assert copies.replicate(estate.store, target).held == 7
        with Store.open(place) as copy:
            assert prove_whole(copy) == 7
        target.close()
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_what_was_removed_in_the_copy_is_found_and_brought_again(estate, target, tmp_path):
    fill(estate)
    copies.replicate(estate.store, target)
    first, second, *_ = sorted((tmp_path / "copy/objects").glob("*/*"))
    first.unlink()
    second.chmod(0o600)
    second.write_bytes(second.read_bytes()[:5])
    next((tmp_path / "copy/manifests/web2/etc").glob("000001*")).unlink()
    (tmp_path / "copy/manifests/web1/etc/log.jsonl").unlink()
    report = copies.replicate(estate.store, target, full=True)
    assert (report.lost, report.left_out, report.held, report.objects, report.repaired) == ([], [], 4, 2, 1)
    with Store.open(tmp_path / "copy") as copy:
        assert prove_whole(copy) == 4


def test_what_is_gone_here_and_there_is_told_as_lost(estate, target, tmp_path):
    fill(estate)
    copies.replicate(estate.store, target)
    old = estate.store.snapshots("web1", "etc")[0]
    prune(estate, old)
    for file in (tmp_path / "copy/manifests/web1/etc").glob("000001*"):
        file.unlink()
    report = copies.replicate(estate.store, target, full=True)
    assert [what for what, _ in report.lost] == [f"web1/etc@{old.name}"]
    assert "the source does not have it any more" in report.lost[0][1]


def test_a_copy_whose_state_was_lost_finds_out_what_it_holds(estate, target, tmp_path):
    fill(estate)
    copies.replicate(estate.store, target)
    prune(estate, estate.store.snapshots("web1", "etc")[0])
    (tmp_path / "copy/copy/state.json.gz").write_bytes(b"nonsense")
    report = copies.replicate(estate.store, target, full=True)
    assert (report.held, report.lost, report.objects) == (4, [], 0)
    with Store.open(tmp_path / "copy") as copy:
        assert prove_whole(copy) == 4


def prune(estate, snapshot):
    """As the store does: line, head, file."""
    log = estate.store.log(snapshot.host, snapshot.module)
    file = f"{snapshot.name}.{'delta' if snapshot.base else 'full'}.zst"
    log.seal(log.append(log.read(), "prune", snapshot.sequence, file=file, manifest=snapshot.digest))
    (estate.store.path / "manifests" / snapshot.host / snapshot.module / file).unlink()


def test_what_is_pruned_before_it_is_locked_is_no_news(estate, target):
    estate.pull("web1", "etc", {b"a": Content(b"a")})
    estate.pull("web2", "etc", {b"a": Content(b"a")})

    def tell(phase, done, total):
        if phase == "snapshots":
            prune(estate, estate.store.newest("web1", "etc"))

    report = copies.replicate(estate.store, target, tell=tell)
    assert (report.held, report.left_out) == (1, [])


def test_what_is_being_copied_is_locked_against_pruning(estate, target):
    fill(estate)
    free = []

    def tell(phase, done, total):
        if phase == "objects":
            for file in estate.store.path.glob("manifests/*/*/*.zst"):
                with open(file, "rb") as opened_file:
                    try:
                        fcntl.flock(opened_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        free.append(file.name)
                    except BlockingIOError:
                        continue

    assert copies.replicate(estate.store, target, tell=tell).held == 4
    assert free == []


def test_a_disk_that_goes_away_is_missing_and_its_mount_point_stays_empty(estate, tmp_path):
    target = copies.directory(tmp_path / "copy")
    copies.make(target, estate.store)
    fill(estate)
    (tmp_path / "copy").rename(tmp_path / "elsewhere")
    (tmp_path / "copy").mkdir()
    with pytest.raises(CopyMissing):
        copies.replicate(estate.store, target)
    assert list((tmp_path / "copy").iterdir()) == []
    (tmp_path / "copy").rmdir()
    with pytest.raises(CopyMissing):
        copies.replicate(estate.store, target)
    assert not (tmp_path / "copy").exists()


def test_a_round_that_is_stopped_ends_soon_and_the_next_goes_on(estate, target):
    fill(estate)
    count = []

    def check():
        count.append(1)
        if len(count) == 3:
            raise Cancelled("stopped on request")

    with pytest.raises(Cancelled):
        copies.replicate(estate.store, target, check=check)
    assert copies.replicate(estate.store, target).held == 4


# S3 through a way that fails


class Failing:
    """Between us and the server: the first `times` connections get `answer`, or are cut without one."""

    def __init__(self, port, answer, times):
        self._port, self._answer, self._times = port, answer, times
        self.connections = 0
        self._lock = threading.Lock()

    def __call__(self, connection):
        with self._lock:
            self.connections += 1
            fails = self.connections <= self._times
        if fails:
            connection.recv(65536)
            connection.sendall(self._answer)
            return
        with socket.create_connection(("127.0.0.1", self._port)) as far:
            back = threading.Thread(target=pump, args=(far, connection), daemon=True)
            back.start()
            pump(connection, far)
            back.join()


def pump(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


def answer(status, code):
    body = f"<Error><Code>{code}</Code></Error>".encode()
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body)


SLOW_DOWN = answer(b"503 Slow Down", "SlowDown")
BROKEN = answer(b"500 Internal Server Error", "InternalError")
FORBIDDEN = answer(b"403 Forbidden", "AccessDenied")


@pytest.mark.parametrize("reply", [SLOW_DOWN, BROKEN, b""], ids=["slow down", "broken", "cut"])
def test_a_bucket_that_fails_for_a_while_is_tried_again(estate, bucket, reply):
    fill(estate)
    way = Failing(bucket.port, reply, 3)
    with tcp.server(way) as address:
        patience = Patience(request=20, connect=5, retries=6, total=60)
        target = copies.in_bucket(bucket, endpoint=f"http://{address}", patience=patience)
        copies.make(target, estate.store)
        assert copies.replicate(estate.store, target).held == 4
        with opened(target) as copy:
            assert prove_whole(copy) == 4
        target.close()
    assert way.connections > 3


@pytest.mark.parametrize(
    ("reply", "error", "words", "most"),
    [
        (BROKEN, CopyUnreachable, "the server fails: 500 InternalError", 3),
        (SLOW_DOWN, CopyUnreachable, "the server fails: 503 SlowDown", 3),
        (b"", CopyUnreachable, "the server fails|error", 6),
        (FORBIDDEN, CopyRefused, "the server refuses: 403 AccessDenied", 1),
    ],
    ids=["broken", "slow down", "cut", "forbidden"],
)
def test_a_bucket_that_goes_on_failing_is_told_after_a_few_tries(estate, bucket, reply, error, words, most):
    way = Failing(bucket.port, reply, 1000)
    with tcp.server(way) as address:
        target = copies.in_bucket(bucket, endpoint=f"http://{address}")
        with pytest.raises(error, match=words) as told:
            copies.replicate(estate.store, target)
        target.close()
    assert 1 <= way.connections <= most
    assert swift.SECRET not in str(told.value)


def test_a_server_that_says_nothing_and_one_that_is_not_there_are_told_apart(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    patience = Patience(request=0.5, connect=0.5, retries=1, total=1)
    with socket.create_server(("127.0.0.1", 0), backlog=50) as mute:
        port = mute.getsockname()[1]
        for words in ("the server does not answer in time", "there is no connection with the server"):
            credentials = copies.Credentials("a", "b")
            target = copies.S3Target("b", "", credentials, endpoint=f"http://127.0.0.1:{port}", patience=patience)
            with pytest.raises(CopyUnreachable, match=words):
                target.put(tmp_path, ["file"])
            target.close()
            mute.close()


def test_a_bucket_that_is_not_there_is_missing(bucket, estate):
    target = copies.in_bucket(bucket)
    target.close()
    missing = copies.S3Target("nobody-made-this", "", copies.Credentials(swift.ACCESS, swift.SECRET),
                              region=swift.REGION, endpoint=bucket.endpoint, patience=copies.QUICK)  # fmt: skip
    with pytest.raises(CopyMissing, match="no such bucket"):
        missing.read("format.json")
    missing.close()


# SSH


def test_a_host_key_that_is_not_known_is_refused(server, tmp_path):
    (tmp_path / "known").write_text("")
    target = copies.over_ssh(tmp_path / "copy", server, known_hosts=[tmp_path / "known"])
    with pytest.raises(CopyRefused, match="host key is not known") as told:
        target.read("format.json")
    assert str(tmp_path / "known") in told.value.hint
    target.close()


def test_a_server_that_is_down_is_tried_again_and_then_told(server, tmp_path):
    waited = []
    target = copies.over_ssh(tmp_path / "copy", server, wait=waited.append, pauses=(1.0, 2.0))
    target.close()
    gone = copies.SshTarget(
        copies.SshPlace("127.0.0.1", str(tmp_path), server.user, tcp.closed_port()),
        key=server.user_key, known_hosts=[], connect=5, check=copies.nothing, wait=waited.append, pauses=(1.0, 2.0),
    )  # fmt: skip
    with pytest.raises(CopyUnreachable, match="Connection refused"):
        gone.read("format.json")
    assert waited == [1.0, 2.0]
    gone.close()


def test_a_directory_that_is_missing_there_is_not_made(server, estate, tmp_path):
    target = copies.over_ssh(tmp_path / "copy", server)
    (tmp_path / "copy").rmdir()
    with pytest.raises(CopyMissing):
        copies.replicate(estate.store, target)
    assert not (tmp_path / "copy").exists()
    target.close()


def test_a_connection_that_is_cut_between_two_runs_is_made_anew(server, estate, tmp_path):
    fill(estate)
    target = copies.over_ssh(tmp_path / "copy", server)
    copies.make(target, estate.store)
    server.cut()
    assert copies.replicate(estate.store, target).held == 4
    target.close()


def test_a_copy_leaves_no_connection_behind(server, estate, tmp_path):
    target = copies.over_ssh(tmp_path / "copy", server)
    copies.make(target, estate.store)
    folder = target._folder
    assert (folder / "control").exists()
    target.close()
    assert not folder.exists()


# Others who write there, or here


def test_a_store_that_was_put_back_to_an_earlier_state_changes_nothing_of_what_the_copy_has(estate, target, tmp_path):
    fill(estate)
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
        assert prove_whole(copy) == 6
        assert copy.newest("web1", "etc").name == ahead.name
        assert copy.verify_log("web1", "etc") == []


def test_two_collectors_that_write_to_one_copy_find_each_other_out(estate, target, tmp_path):
    fill(estate)
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
        assert prove_whole(copy) == 4
    other.close()


def test_a_link_in_a_copy_leads_to_nothing_outside(estate, target, tmp_path):
    fill(estate)
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
        prove_whole(copy)


def test_a_copy_that_was_put_back_to_an_earlier_state_catches_up(estate, target, tmp_path):
    fill(estate)
    copies.replicate(estate.store, target)
    shutil.copytree(tmp_path / "copy", tmp_path / "image")
    estate.pull("web1", "etc", {b"etc/f1": Content(b"later")})
    copies.replicate(estate.store, target)
    shutil.rmtree(tmp_path / "copy")
    (tmp_path / "image").rename(tmp_path / "copy")
    report = copies.replicate(estate.store, target)
    assert (report.snapshots, report.held, report.left_out) == (1, 5, [])
    with Store.open(tmp_path / "copy") as copy:
        assert prove_whole(copy) == 5
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
    fill(estate)
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


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_store_that_is_made_anew_on_a_disk_that_is_too_small_goes_on_on_a_larger_one(estate, target, tmp_path):
    for number in range(6):
        estate.pull("web1", "etc", {b"large%d" % number: Content(os.urandom(900_000))})
    copies.replicate(estate.store, target)
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=True)
    try:
        signer = KeySigner(own_identity(tmp_path).key_pem)

        def recover():
            with opened(target) as copy, Recovery(copy, place, signer, check=copies.nothing, tell=print) as recovery:
                return recovery.run(1_790_000_000.0)

        with pytest.raises(StoreFull, match="No space left"):
            recover()
        assert not list(place.rglob(".tmp-[0-9a-f]*"))
        with pytest.raises(StoreMissing), Store.open(place):
            pass
        subprocess.run(["mount", "-o", "remount,size=40m", place], check=True)
        assert recover().snapshots == 6
        with Store.open(place) as store:
            assert prove_whole(store) == 6
    finally:
        subprocess.run(["umount", "-l", place], check=True)
