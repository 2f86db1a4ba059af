"""A copy on another machine or in a bucket: servers that fail, that refuse, that are silent or not there."""

import contextlib
import shutil
import socket
import threading

import pytest
from pyrsyncbackup_collector.copies.reading import opened
from pyrsyncbackup_collector.copies.s3 import Patience
from pyrsyncbackup_collector.errors import (
    CopyMissing,
    CopyRefused,
    CopyUnreachable,
)

from tests.support import copies, swift, tcp

pytest_plugins = ["tests.support.copy_scene"]


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
    copies.fill(estate)
    way = Failing(bucket.port, reply, 3)
    with tcp.server(way) as address:
        patience = Patience(request=20, connect=5, retries=6, total=60)
        target = copies.in_bucket(bucket, endpoint=f"http://{address}", patience=patience)
        copies.make(target, estate.store)
        assert copies.replicate(estate.store, target).held == 4
        with opened(target) as copy:
            assert copies.prove_whole(copy) == 4
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
    patience = Patience(request=2, connect=60, retries=1, total=10)
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


@pytest.mark.skipif(not shutil.which("rrsync"), reason="rrsync is not installed")
@pytest.mark.parametrize("rrsync", ["rrsync", "rrsync -no-lock"])
def test_a_directory_that_rrsync_does_not_find_is_told_as_missing(server, estate, tmp_path, rrsync):
    allowed = server.authorized_keys.read_text()
    server.authorized_keys.write_text(f'command="{rrsync} {tmp_path}/copy",restrict {allowed}')
    target = copies.over_ssh(tmp_path / "copy", server, path="/")
    (tmp_path / "copy").rmdir()
    try:
        with pytest.raises(CopyMissing, match="no such directory"):
            copies.replicate(estate.store, target)
    finally:
        server.authorized_keys.write_text(allowed)
        target.close()


def test_a_connection_that_is_cut_between_two_runs_is_made_anew(server, estate, tmp_path):
    copies.fill(estate)
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
