"""The walk: order, metadata, what cannot be read, and that nothing outside the roots is ever seen."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
import time
from pathlib import Path

import pytest
from pyrsyncbackup_agent import entries
from pyrsyncbackup_agent.entries import Entry, Kind
from pyrsyncbackup_agent.modules import Root
from pyrsyncbackup_agent.patterns import Rules

from tests.support.descriptors import opened
from tests.support.waiting import until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes devices and owners")


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes of age while a busy machine does something else."""
    now = time.time_ns()
    monkeypatch.setattr("time.time_ns", lambda: now)


def root(path: Path, number: int = 1, *names: bytes) -> Root:
    return Root(number, os.fsencode(path)[1:], frozenset(names))


def listed(*roots: Root, rules: Rules | None = None) -> list[Entry]:
    return list(entries.walk(roots, rules or Rules()))


def below(found: list[Entry], path: Path) -> dict[bytes, Entry]:
    prefix = os.fsencode(path)[1:] + b"/"
    return {entry.path[len(prefix) :]: entry for entry in found if entry.path.startswith(prefix)}


def test_a_directory_comes_before_its_content_and_names_are_in_byte_order(tmp_path: Path) -> None:
    for name in (b"a/x", b"a-b", b"a.b/y", b"ab", b"\xff", b"\xc3\xa4", b"Z", b"\n", b"\xee\x80\x80"):
        path = os.path.join(os.fsencode(tmp_path), name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        open(path, "wb").close()
    found = [entry.path for entry in listed(root(tmp_path))]
    assert found == sorted(found, key=lambda path: path.replace(b"/", b"\0"))
    assert len(found) == len(set(found)) == 11 + len(tmp_path.parts) - 1


def test_ancestors_come_once_and_say_nothing_about_what_else_is_in_them(tmp_path: Path, still: None) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").touch()
    roots = (root(tmp_path / "one", 1), root(tmp_path / "two", 2))
    first = listed(*roots)
    assert [entry.root for entry in first] == [0] * (len(tmp_path.parts) - 1) + [1, 1, 2, 2]
    before = entries.fingerprint(roots, Rules())
    (tmp_path / "three").touch()
    assert entries.fingerprint(roots, Rules()) == before
    assert [(entry.path, entry.token) for entry in listed(*roots)] == [(entry.path, entry.token) for entry in first]


def test_check_and_listing_have_one_fingerprint_and_each_change_shows(tmp_path: Path, still: None) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("x")
    roots = [root(tmp_path)]

    def both() -> bytes:
        walk = entries.walk(roots, Rules())
        count = len(list(walk))
        check = entries.fingerprint(roots, Rules())
        assert check is not None
        assert check == walk.fingerprint
        assert check.entries == count
        return check.digest

    def write() -> bool:
        """Whether the file system's clock has ticked since: what is written within one tick cannot show."""
        before = (tmp_path / "d" / "f").stat().st_ctime_ns
        (tmp_path / "d" / "f").write_text("y")
        return (tmp_path / "d" / "f").stat().st_ctime_ns != before

    seen = {both()}
    for change in (
        lambda: until(write),
        lambda: (tmp_path / "d" / "f").chmod(0o600),
        lambda: (tmp_path / "d" / "g").touch(),
        lambda: (tmp_path / "d" / "g").rename(tmp_path / "d" / "h"),
        lambda: (tmp_path / "d" / "h").unlink(),
        lambda: (tmp_path / "e").symlink_to("d"),
    ):
        change()
        digest = both()
        assert digest not in seen
        seen.add(digest)


def test_young_entries_unsettle_the_fingerprint_and_old_ones_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "f").touch()
    roots = [root(tmp_path)]
    now = (tmp_path / "f").stat().st_ctime_ns + 1_000_000
    monkeypatch.setattr("time.time_ns", lambda: now)
    check = entries.fingerprint(roots, Rules())
    assert check is not None
    assert not check.settled
    assert below(listed(*roots), tmp_path)[b"f"].young
    now = (tmp_path / "f").stat().st_ctime_ns + 3_000_000_000
    later = entries.fingerprint(roots, Rules())
    assert later is not None
    assert later.settled
    assert later.digest == check.digest
    assert not below(listed(*roots), tmp_path)[b"f"].young


def test_hard_links_name_the_first_path_and_single_paths_agree(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("x")
    (tmp_path / "a").hardlink_to(tmp_path / "b")
    (tmp_path / "c").hardlink_to(tmp_path / "b")
    attributes = entries.Attributes()
    found = below(list(entries.walk([root(tmp_path)], Rules(), attributes)), tmp_path)
    first = os.fsencode(tmp_path / "a")[1:]
    assert [found[name].link_to for name in (b"a", b"b", b"c")] == [b"", first, first]
    lookup = entries.Lookup(entries.Tree([root(tmp_path)], Rules()), attributes)
    again = list(lookup.entries(entry.path for entry in found.values()))
    assert again == list(found.values())


def test_special_files_links_and_attributes_are_described_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    os.symlink(b"x" * 4000, tmp_path / "long")
    os.symlink("/", tmp_path / "top")
    (tmp_path / "f").write_text("x")
    os.setxattr(tmp_path / "f", "user.note", b"\0\xff")
    os.utime(tmp_path / "f", ns=(0, -1_500_000_000))
    found = below(listed(root(tmp_path)), tmp_path)
    kinds = {name: stat.S_IFMT(entry.stat.st_mode) for name, entry in found.items() if entry.stat}
    assert kinds[b"fifo"] == stat.S_IFIFO
    assert kinds[b"socket"] == stat.S_IFSOCK
    assert found[b"long"].target == b"x" * 4000
    assert found[b"top"].target == b"/"
    assert (b"user.note", b"\0\xff") in found[b"f"].xattrs
    assert found[b"f"].stat is not None
    assert found[b"f"].stat.st_mtime_ns == -1_500_000_000
    assert not any(entry.problem for entry in found.values())


def test_public_needs_every_directory_above(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open" / "f").touch(mode=0o644)
    (tmp_path / "open" / "g").touch(mode=0o640)
    (tmp_path / "shut").mkdir(mode=0o750)
    (tmp_path / "shut" / "f").touch(mode=0o644)

    def reachable() -> bool:
        return all(parent.stat().st_mode & stat.S_IXOTH for parent in (tmp_path, *tmp_path.parents))

    # Tests of another process may open a directory above at any moment.
    before = reachable()
    found = below(listed(root(tmp_path)), tmp_path)
    assert found[b"open/f"].public in (before, reachable())
    assert not found[b"open/g"].public
    assert not found[b"shut/f"].public
    usr = {entry.path: entry.public for entry in listed(root(Path("/usr/bin"), 1, b"env"))}
    assert usr == {b"usr": True, b"usr/bin": True, b"usr/bin/env": True}


def test_sixty_levels_of_long_names_are_walked_looked_up_and_hashed(tmp_path: Path) -> None:
    name = b"n" * 255
    path = os.fsencode(tmp_path)[1:]
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(70):  # more than the descriptors that are kept open
        os.mkdir(name, dir_fd=fd)
        lower = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = lower
        path += b"/" + name
    for last in (b"file", b"zzz"):
        os.close(os.open(last, os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    (tmp_path / "z-last").touch()
    found = listed(root(tmp_path))
    assert [entry.path for entry in found[-3:]] == [
        path + b"/file",
        path + b"/zzz",
        os.fsencode(tmp_path / "z-last")[1:],
    ]
    assert not any(entry.problem for entry in found)
    tree = entries.Tree([root(tmp_path)], Rules())
    deep = [path + b"/file", path + b"/zzz", path + b"/none"]
    assert [digest.problem and digest.problem.kind for digest in entries.hash_files(tree, deep)] == [
        None,
        None,
        Kind.VANISHED,
    ]
    looked = list(entries.Lookup(tree, entries.Attributes()).entries(deep[:2]))
    assert looked == found[-3:-1]


def test_exclusion_hides_an_entry_and_all_below_it(tmp_path: Path) -> None:
    (tmp_path / "cache" / "deep").mkdir(parents=True)
    (tmp_path / "keep.log").touch()
    (tmp_path / "drop.log").touch()
    rules = Rules((b"keep.log",), (b"*.log", b"cache/"))
    assert list(below(listed(root(tmp_path), rules=rules), tmp_path)) == [b"keep.log"]
    tree = entries.Tree([root(tmp_path)], rules)
    base = os.fsencode(tmp_path)[1:]
    hidden = [base + b"/drop.log", base + b"/cache/deep", base + b"/cache"]
    looked = list(entries.Lookup(tree, entries.Attributes()).entries(hidden))
    assert [entry.problem and entry.problem.kind for entry in looked] == [Kind.OUTSIDE] * 3


def test_a_link_above_a_root_is_an_error_and_nothing_behind_it_is_seen(tmp_path: Path) -> None:
    (tmp_path / "real" / "data").mkdir(parents=True)
    (tmp_path / "real" / "data" / "f").touch()
    (tmp_path / "alias").symlink_to("real")
    roots = [root(tmp_path / "alias" / "data")]
    last = listed(*roots)[-1]
    assert (last.path, last.problem and last.problem.kind) == (os.fsencode(tmp_path / "alias")[1:], Kind.REPLACED)
    inside = os.fsencode(tmp_path / "alias" / "data" / "f")[1:]
    digest = next(iter(entries.hash_files(entries.Tree(roots, Rules()), [inside])))
    assert digest.problem is not None
    assert digest.problem.kind == Kind.REPLACED


def test_only_regular_files_are_hashed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("/etc/hostname")
    tree = entries.Tree([root(tmp_path)], Rules())
    base = os.fsencode(tmp_path)[1:]
    digests = list(entries.hash_files(tree, [base + b"/fifo", base + b"/dir", base + b"/link", b"etc/hostname"]))
    kinds = [digest.problem and digest.problem.kind for digest in digests]
    assert kinds == [Kind.REPLACED, Kind.REPLACED, Kind.REPLACED, Kind.OUTSIDE]


def test_a_directory_swapped_for_a_link_in_a_loop_shows_nothing_from_outside(tmp_path: Path) -> None:
    inside, outside = tmp_path / "data" / "dir", tmp_path / "outside"
    inside.mkdir(parents=True)
    outside.mkdir()
    (inside / "mine").touch()
    (outside / "secret").touch()
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            inside.rename(tmp_path / "data" / "away")
            inside.symlink_to(outside)
            inside.unlink()
            (tmp_path / "data" / "away").rename(inside)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        tree = entries.Tree([root(tmp_path / "data")], Rules())
        base = os.fsencode(inside)[1:]
        for _ in range(200):
            assert not any(entry.path.endswith(b"secret") for entry in entries.Walk(tree, entries.Attributes()))
            digest = next(iter(entries.hash_files(tree, [base + b"/secret"])))
            assert digest.problem is not None
    finally:
        stop.set()
        swapper.join()


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    for number in range(100):
        tmp_path = tmp_path / f"{number}"
    tmp_path.mkdir(parents=True)
    (tmp_path / "f").touch()
    top = tmp_path.parents[95]
    before = opened()
    walk = iter(entries.walk([root(top)], Rules()))
    for _ in range(50):
        next(walk)
    del walk
    list(entries.walk([root(top)], Rules()))
    list(entries.hash_files(entries.Tree([root(top)], Rules()), [os.fsencode(tmp_path / "f")[1:]]))
    assert opened() <= before


@needs_root
def test_devices_and_unreadable_directories_are_entries(tmp_path: Path) -> None:
    os.mknod(tmp_path / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    (tmp_path / "shut").mkdir(mode=0o000)
    (tmp_path / "shut" / "f").touch()
    (tmp_path / "names-only").mkdir(mode=0o744)
    (tmp_path / "names-only" / "f").touch()
    for path in (tmp_path, *tmp_path.parents):
        if not path.stat().st_mode & stat.S_IXOTH:
            path.chmod(0o755)
    source, sink = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setgid(65534)
        os.setuid(65534)
        walk = entries.walk([root(tmp_path)], Rules())
        found = below(list(walk), tmp_path)
        shut, hidden = found[b"shut"], found[b"names-only/f"]
        good = b"shut/f" not in found and shut.stat is not None and shut.problem is not None
        good = good and shut.problem is not None and shut.problem.kind == Kind.DENIED and not found[b"null"].problem
        good = good and hidden.stat is None and hidden.problem is not None and hidden.problem.kind == Kind.DENIED
        good = good and entries.fingerprint([root(tmp_path)], Rules()) == walk.fingerprint
        os.write(sink, b"good" if good else repr(found).encode())
        os._exit(0)
    os.close(sink)
    os.waitpid(pid, 0)
    assert os.read(source, 10000) == b"good"
    os.close(source)


def test_memory_does_not_grow_with_the_number_of_entries(tmp_path: Path) -> None:
    import tracemalloc

    def peak(directories: int) -> int:
        base = tmp_path / str(directories)
        for directory in range(directories):
            (base / f"{directory}").mkdir(parents=True)
            for number in range(100):
                (base / f"{directory}" / f"{number}").touch()
        tracemalloc.start()
        for _ in entries.walk([root(base)], Rules()):
            pass
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    small = peak(5)
    assert peak(60) < small * 1.5


def test_an_inode_that_changed_since_its_first_name_is_no_further_name_of_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    for name in ("b", "c"):
        os.link(tmp_path / "a", tmp_path / name)
    attributes = entries.Attributes()

    def link_to(name: str) -> bytes:
        path = os.fsencode(tmp_path / name)
        return attributes.linked(Entry(path, (tmp_path / name).stat(), 1)).link_to

    assert link_to("a") == b""
    assert link_to("b") == os.fsencode(tmp_path / "a")
    seen = (tmp_path / "a").stat().st_ctime_ns

    def touched() -> bool:
        os.chmod(tmp_path / "a", 0o600)
        return (tmp_path / "a").stat().st_ctime_ns != seen

    until(touched)
    assert link_to("c") == b""


def test_a_network_file_system_that_lost_its_handles_has_lost_no_files() -> None:
    assert entries.entry.problem(OSError(errno.ESTALE, "stale")).kind is Kind.IO
