"""What every place for a copy must do alike: a directory, another machine by rsync over SSH, an S3 bucket."""

import os

import pytest
from pyrsyncbackup_collector.errors import BackupError, CopyError

from tests.support import copies, sshd, swift


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with sshd.running(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    with swift.running(tmp_path_factory.mktemp("swift")) as running:
        yield running


@pytest.fixture(params=["directory", "ssh", "s3"])
def target(request, tmp_path):
    if request.param == "directory":
        made = copies.directory(tmp_path / "copy")
    elif request.param == "ssh":
        made = copies.over_ssh(tmp_path / "copy", request.getfixturevalue("server"))
    else:
        made = copies.in_bucket(request.getfixturevalue("bucket"))
    yield made
    made.close()


@pytest.fixture
def root(tmp_path):
    def write(**files):
        for name, data in files.items():
            place = tmp_path / "root" / name.replace("__", "/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return tmp_path / "root"

    return write


def test_what_was_put_is_read_listed_and_measured(target, root):
    target.put(root(objects__ab__one=b"1", objects__cd__two=b"22"), ["objects/ab/one", "objects/cd/two"])
    assert target.read("objects/ab/one") == b"1"
    assert sorted(target.walk("objects")) == [("objects/ab/one", 1), ("objects/cd/two", 2)]
    assert sorted(target.walk("")) == [("objects/ab/one", 1), ("objects/cd/two", 2)]
    assert list(target.walk("objects/cd")) == [("objects/cd/two", 2)]
    assert target.sizes(["objects/cd/two", "objects/cd/three", "nowhere/at/all"]) == {"objects/cd/two": 2}


def test_an_empty_place_has_nothing(target):
    assert target.read("format.json") is None
    assert list(target.walk("")) == []
    assert list(target.walk("objects")) == []
    assert target.sizes(["objects/ab/one"]) == {}
    assert target.sizes([]) == {}


def test_put_never_changes_what_is_there(target, root):
    target.put(root(one=b"first"), ["one"])
    target.put(root(one=b"other", two=b"2"), ["one", "two"])
    assert (target.read("one"), target.read("two")) == (b"first", b"2")


def test_replace_changes_what_is_there_and_makes_what_is_not(target, root):
    target.put(root(one=b"first"), ["one"])
    target.replace(root(one=b"other", deep__er__two=b"2"), ["one", "deep/er/two"])
    assert (target.read("one"), target.read("deep/er/two")) == (b"other", b"2")


def test_replace_with_the_same_size_and_time_is_no_excuse(target, root):
    os.utime(root(one=b"aaaa") / "one", (1, 1))
    target.replace(root(), ["one"])
    os.utime(root(one=b"bbbb") / "one", (1, 1))
    target.replace(root(), ["one"])
    assert target.read("one") == b"bbbb"


def test_fetch_brings_what_is_there_and_leaves_out_the_rest(target, root, tmp_path):
    target.put(root(objects__ab__one=b"1", two=b"22"), ["objects/ab/one", "two"])
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    target.fetch(fetched, ["objects/ab/one", "two", "objects/ab/none"])
    files = {str(file.relative_to(fetched)): file.read_bytes() for file in fetched.rglob("*") if file.is_file()}
    assert files == {"objects/ab/one": b"1", "two": b"22"}


def test_what_is_deleted_is_gone_and_nothing_else(target, root):
    names = ["objects/ab/one", "objects/ab/two", "objects/cd/three"]
    target.put(root(objects__ab__one=b"1", objects__ab__two=b"2", objects__cd__three=b"3"), names)
    target.delete(["objects/ab/one", "objects/cd/three", "objects/ef/none"])
    assert list(target.walk("")) == [("objects/ab/two", 1)]
    target.delete(["objects/ab/one"])
    assert list(target.walk("")) == [("objects/ab/two", 1)]


def test_many_files_and_a_large_one_arrive(target, root):
    many = {f"objects__{number % 7:02x}__{number:04}": b"%d" % number for number in range(300)}
    large = os.urandom(20_000_000)
    names = [name.replace("__", "/") for name in many]
    target.put(root(**many, large=large), [*names, "large"])
    assert target.read("large") == large
    assert target.sizes(names) == {name: len(data) for name, data in zip(names, many.values(), strict=True)}
    assert len(list(target.walk("objects"))) == 300


def test_files_that_only_their_owner_may_read_travel(target, root):
    (root(one=b"1") / "one").chmod(0o400)
    target.put(root(), ["one"])
    target.replace(root(), ["one"])
    assert target.read("one") == b"1"


def test_empty_work_is_no_work(target, root):
    target.put(root(one=b"1"), [])
    target.replace(root(), [])
    target.delete([])
    target.fetch(root(), [])
    assert list(target.walk("")) == []


def test_a_file_that_cannot_be_read_here_is_told_and_not_put(target, root):
    with pytest.raises(BackupError) as told:
        target.put(root(one=b"1"), ["one", "none"])
    assert isinstance(told.value, CopyError)
    assert target.read("none") is None
