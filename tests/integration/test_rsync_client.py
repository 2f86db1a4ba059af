"""The rsync client in its sandbox against a real rsync daemon."""

import errno
import os
import stat
import subprocess
import threading
from pathlib import Path

import pytest
from pyrsyncbackup_collector.errors import AgentMisbehaved, TransferFailed
from pyrsyncbackup_collector.pull.outcome import Ended, failure
from pyrsyncbackup_collector.pull.rsync_command import Fetch, client
from pyrsyncbackup_collector.pull.rsync_process import Client
from pyrsyncbackup_collector.pull.sandbox import Bubblewrap, Landlock, Limits, Unconfined

from tests.support.orphans import knowing
from tests.support.rsync_daemon import LocalPump
from tests.support.sandboxes import need
from tests.support.waiting import until

ODD_NAMES = [
    b"plain",
    b"new\nline",
    b"bad\xff\xfe",
    b"sp ace",
    b"-dash",
    b"*?[x]",
    b"\\*",
    b"a\\]",
    b"back\\slash",
    b'"quote"',
    b"x" * 255,
]


@pytest.fixture(params=[Bubblewrap(), Landlock(), Unconfined()], ids=lambda sandbox: sandbox.kind)
def fetch(request, tmp_path: Path):
    """Fetch names from a tree; returns how it ended and the directory with what arrived."""
    need(request.param)
    tree = tmp_path / "tree"
    tree.mkdir()
    work = tmp_path / "incoming"

    def run(
        names: list[bytes], *, options: str = "", sparse=False, compress=False, basis=None, limit=1 << 30, on_data=None
    ):
        data = work / "data"
        data.mkdir(parents=True, mode=0o700)
        for name, content in (basis or {}).items():
            (data / os.fsdecode(name)).write_bytes(content)
        (work / "list").write_bytes(b"".join(name + b"\0" for name in names))
        plan = Fetch(work / "list", data, sparse, compress)
        limits = Limits(file_size=limit)
        started = Client(lambda fd: request.param.wrap(client(plan, fd), work, limits))
        ended = started.run(LocalPump(tree, tmp_path, options), on_data)
        return ended, data

    run.tree = tree
    return run


def test_names_of_every_kind_arrive_with_mode_600(fetch):
    for name in ODD_NAMES:
        (Path(os.fsdecode(os.fsencode(fetch.tree) + b"/" + name))).write_bytes(b"content of " + name)
    ended, data = fetch(ODD_NAMES)
    assert ended.code == 0, ended.quote()
    assert {os.fsencode(p.name): p.read_bytes() for p in data.iterdir()} == {n: b"content of " + n for n in ODD_NAMES}
    assert {stat.S_IMODE(p.stat().st_mode) for p in data.iterdir()} == {0o600}


def test_links_and_special_files_do_not_arrive(fetch):
    (fetch.tree / "link").symlink_to("/etc/passwd")
    os.mkfifo(fetch.tree / "fifo")
    (fetch.tree / "file").write_text("x")
    _, data = fetch([b"link", b"fifo", b"file"])
    assert sorted(p.name for p in data.iterdir()) == ["file"]


def test_directories_arrive_so_that_they_can_be_removed_again(fetch):
    (fetch.tree / "d").mkdir()
    (fetch.tree / "d" / "f").write_text("x")
    (fetch.tree / "d").chmod(0o555)
    ended, data = fetch([b"d/f"])
    assert (ended.code, stat.S_IMODE((data / "d").stat().st_mode)) == (0, 0o700)


def test_a_name_that_is_not_there_does_not_stop_the_others(fetch):
    (fetch.tree / "a").write_text("x")
    _, data = fetch([b"a", b"gone"])  # rsync ends with 0 or 23, by version and by what the daemon may log
    assert [p.name for p in data.iterdir()] == ["a"]


def test_holes_stay_holes(fetch):
    with (fetch.tree / "sparse").open("wb") as file:
        file.truncate(50 << 20)
        file.seek(25 << 20)
        file.write(b"x")
    ended, data = fetch([b"sparse"], sparse=True, compress=True)
    assert (ended.code, (data / "sparse").stat().st_size) == (0, 50 << 20)
    assert (data / "sparse").stat().st_blocks * 512 < 1 << 20


def test_of_a_known_large_file_only_the_differences_travel(fetch):
    old = os.urandom(8 << 20)
    (fetch.tree / "big").write_bytes(old[: 4 << 20] + b"changed" + old[4 << 20 :])
    received = []
    ended, data = fetch([b"big"], basis={b"big": old}, on_data=received.append)
    assert (ended.code, (data / "big").read_bytes() == (fetch.tree / "big").read_bytes()) == (0, True)
    assert sum(received) < 1 << 20


def test_a_file_larger_than_allowed_ends_the_run(fetch):
    (fetch.tree / "big").write_bytes(os.urandom(3 << 20))
    ended, data = fetch([b"big"], limit=1 << 20)
    assert ended.code != 0
    assert not (data / "big").exists()


def test_what_the_counter_raises_ends_the_run(fetch):
    (fetch.tree / "big").write_bytes(os.urandom(3 << 20))

    def too_much(size: int) -> None:
        raise AgentMisbehaved("far more than it listed")

    ended, _ = fetch([b"big"], on_data=too_much)
    assert isinstance(failure(ended), AgentMisbehaved)


def test_a_refused_option_is_told_with_rsyncs_words(fetch):
    (fetch.tree / "a").write_text("x")
    ended, data = fetch([b"a"], options="refuse options = ignore-times\n")
    assert list(data.iterdir()) == []
    error = failure(ended)
    assert isinstance(error, TransferFailed)
    assert error.cause.startswith(f"nothing arrived: rsync exit code {ended.code}: ")


def test_an_rsync_that_is_not_there_is_said():
    assert failure(Ended(127, (), None, None)).cause == "rsync is not installed on this machine"


def test_descriptors_that_are_no_sockets_end_the_run_with_a_cause(tmp_path):
    class Confused:
        def run(self, ends, on_data=None, on_failure=None):
            assert ends() is not None
            raise OSError(errno.ENOTSOCK, "Socket operation on non-socket")

    work = tmp_path / "incoming"
    (work / "data").mkdir(parents=True)
    (work / "list").write_bytes(b"a\0")
    plan = Fetch(work / "list", work / "data")
    ended = Client(lambda fd: client(plan, fd)).run(Confused())
    assert str(failure(ended)) == "rsync's end of the connection cannot be used: Socket operation on non-socket"


def test_a_client_that_is_not_needed_leaves_no_process(tmp_path):
    work = tmp_path / "incoming"
    (work / "data").mkdir(parents=True)
    (work / "list").touch()
    pids = []
    with pytest.MonkeyPatch.context() as patch:
        popen = subprocess.Popen
        patch.setattr(subprocess, "Popen", lambda *a, **k: pids.append(popen(*a, **k)) or pids[-1])
        started = Client(lambda fd: Bubblewrap().wrap(client(Fetch(work / "list", work / "data"), fd), work, Limits(1)))
    started.close()
    assert [process.returncode for process in pids] == [-9]


def test_names_that_are_listed_after_the_start_are_fetched(fetch, tmp_path):
    (fetch.tree / "late").write_text("x")
    work = tmp_path / "incoming"
    (work / "data").mkdir(parents=True)
    (work / "list").touch()
    started = Client(
        lambda fd: Bubblewrap().wrap(client(Fetch(work / "list", work / "data"), fd), work, Limits(1 << 20))
    )
    (work / "list").write_bytes(b"late\0")
    ended = started.run(LocalPump(fetch.tree, tmp_path))
    assert (ended.code, (work / "data" / "late").read_text()) == (0, "x")


@pytest.mark.parametrize("sandbox", [Bubblewrap(), Landlock()], ids=lambda sandbox: sandbox.kind)
def test_a_client_that_is_ended_while_it_starts_leaves_no_process(tmp_path, sandbox):
    for number in range(20):
        work = tmp_path / str(number)
        (work / "data").mkdir(parents=True)
        (work / "list").touch()
        plan = Fetch(work / "list", work / "data")
        started = Client(lambda fd, plan=plan, work=work: sandbox.wrap(client(plan, fd), work, Limits(1 << 20)))
        threading.Event().wait(number / 2000)  # another moment of its start each time
        started.close()
        until(lambda work=work: not knowing(work))
