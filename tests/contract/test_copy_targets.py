"""What every place for a copy must do alike: a directory, another machine by rsync or rrsync over SSH, an S3 bucket."""

import hashlib
import os

import pytest
from pyrsyncbackup_collector.errors import BackupError, Cancelled, CopyError, StoreDamaged

pytest_plugins = ["tests.support.copy_scene"]


@pytest.fixture
def root(tmp_path):
    def write(**files):
        for name, data in files.items():
            place = tmp_path / "root" / name.replace("__", "/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return tmp_path / "root"

    return write


def test_what_was_put_is_read_listed_and_measured(anywhere, root):
    anywhere.put(root(objects__ab__one=b"1", objects__cd__two=b"22"), ["objects/ab/one", "objects/cd/two"])
    assert anywhere.read("objects/ab/one") == b"1"
    assert sorted(anywhere.walk("objects")) == [("objects/ab/one", 1), ("objects/cd/two", 2)]
    assert sorted(anywhere.walk("")) == [("objects/ab/one", 1), ("objects/cd/two", 2)]
    assert list(anywhere.walk("objects/cd")) == [("objects/cd/two", 2)]
    assert anywhere.sizes(["objects/cd/two", "objects/cd/three", "nowhere/at/all"]) == {"objects/cd/two": 2}


def test_an_empty_place_has_nothing(anywhere):
    assert anywhere.read("format.json") is None
    assert list(anywhere.walk("")) == []
    assert list(anywhere.walk("objects")) == []
    assert anywhere.sizes(["objects/ab/one"]) == {}
    assert anywhere.sizes([]) == {}


def test_put_never_changes_what_is_there(anywhere, root):
    anywhere.put(root(one=b"first"), ["one"])
    anywhere.put(root(one=b"other", two=b"2"), ["one", "two"])
    assert (anywhere.read("one"), anywhere.read("two")) == (b"first", b"2")


def test_replace_changes_what_is_there_and_makes_what_is_not(anywhere, root):
    anywhere.put(root(one=b"first"), ["one"])
    anywhere.replace(root(one=b"other", deep__er__two=b"2"), ["one", "deep/er/two"])
    assert (anywhere.read("one"), anywhere.read("deep/er/two")) == (b"other", b"2")


def test_replace_with_the_same_size_and_time_is_no_excuse(anywhere, root):
    os.utime(root(one=b"aaaa") / "one", (1, 1))
    anywhere.replace(root(), ["one"])
    os.utime(root(one=b"bbbb") / "one", (1, 1))
    anywhere.replace(root(), ["one"])
    assert anywhere.read("one") == b"bbbb"


def test_fetch_brings_what_is_there_and_leaves_out_the_rest(anywhere, root, tmp_path):
    anywhere.put(root(objects__ab__one=b"1", two=b"22"), ["objects/ab/one", "two"])
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    anywhere.fetch(fetched, ["objects/ab/one", "two", "objects/ab/none"])
    files = {str(file.relative_to(fetched)): file.read_bytes() for file in fetched.rglob("*") if file.is_file()}
    assert files == {"objects/ab/one": b"1", "two": b"22"}


def test_what_is_deleted_is_gone_and_nothing_else(anywhere, root):
    names = ["objects/ab/one", "objects/ab/two", "objects/cd/three"]
    anywhere.put(root(objects__ab__one=b"1", objects__ab__two=b"2", objects__cd__three=b"3"), names)
    anywhere.delete(["objects/ab/one", "objects/cd/three", "objects/ef/none"])
    assert list(anywhere.walk("")) == [("objects/ab/two", 1)]
    anywhere.delete(["objects/ab/one"])
    assert list(anywhere.walk("")) == [("objects/ab/two", 1)]


def test_many_files_and_a_large_one_arrive(anywhere, root):
    many = {f"objects__{number % 7:02x}__{number:04}": b"%d" % number for number in range(300)}
    large = os.urandom(20_000_000)
    names = [name.replace("__", "/") for name in many]
    anywhere.put(root(**many, large=large), [*names, "large"])
    assert anywhere.read("large") == large
    assert anywhere.sizes(names) == {name: len(data) for name, data in zip(names, many.values(), strict=True)}
    assert len(list(anywhere.walk("objects"))) == 300


def test_files_that_only_their_owner_may_read_travel(anywhere, root):
    (root(one=b"1") / "one").chmod(0o400)
    anywhere.put(root(), ["one"])
    anywhere.replace(root(), ["one"])
    assert anywhere.read("one") == b"1"


@pytest.mark.parametrize("anywhere", ["directory", "s3"], indirect=True)  # rsync reads it itself
@pytest.mark.parametrize("size", [5, 20_000_000])
@pytest.mark.parametrize("how", ["put", "replace"])
def test_a_file_that_is_another_one_by_now_does_not_arrive(anywhere, root, how, size):
    data = os.urandom(size)
    sums = {"one": hashlib.sha256(data).hexdigest()}
    root(one=data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(StoreDamaged, match="one changed on the disk after it was proven"):
        getattr(anywhere, how)(root(), ["one"], sums)
    assert list(anywhere.walk("")) == []
    getattr(anywhere, how)(root(one=data), ["one"], sums)
    assert anywhere.read("one") == data


@pytest.mark.parametrize("anywhere", ["directory", "s3"], indirect=True)  # rsync is ended: tested where it hangs
def test_a_request_to_stop_is_heard_in_the_middle_of_a_batch(anywhere, root, tmp_path):
    names = [f"f{number}" for number in range(50)]
    folder = root(**dict.fromkeys(names[1:], b"1"))
    # Nobody writes into it, so whoever reads it waits.
    os.mkfifo(folder / "f0")

    def stop():
        with open(folder / "f0", "wb") as pipe:
            pipe.write(b"1")
        raise Cancelled("stopped")

    anywhere._check = stop
    with pytest.raises(Cancelled):
        anywhere.replace(folder, names)
    assert not list(tmp_path.glob("copy/.tmp-*"))


def test_empty_work_is_no_work(anywhere, root):
    anywhere.put(root(one=b"1"), [])
    anywhere.replace(root(), [])
    anywhere.delete([])
    anywhere.fetch(root(), [])
    assert list(anywhere.walk("")) == []


def test_a_file_that_cannot_be_read_here_is_told_and_not_put(anywhere, root):
    with pytest.raises(BackupError) as told:
        anywhere.put(root(one=b"1"), ["one", "none"])
    assert isinstance(told.value, CopyError)
    assert anywhere.read("none") is None
