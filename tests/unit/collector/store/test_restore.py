from __future__ import annotations

import errno
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

import msgspec
import pytest
from pyrsyncbackup_collector import entry
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import Cancelled, NotFound, RestoreError, StoreDamaged
from pyrsyncbackup_collector.store import unfinished
from pyrsyncbackup_collector.store.archive import write_archive
from pyrsyncbackup_collector.store.attributes import Rights
from pyrsyncbackup_collector.store.overwrite import Action
from pyrsyncbackup_collector.store.restore import restore
from pyrsyncbackup_collector.store.restore_plan import plan
from pyrsyncbackup_collector.store.restore_report import Reason, RestoreReport
from pyrsyncbackup_collector.store.survey import Rules
from pyrsyncbackup_collector.store.tar import TarWriter

from tests.support import zoo
from tests.support.descriptors import opened
from tests.support.tree import Contents, comparable, make, read

ME = {"uid": os.geteuid(), "gid": os.getegid()}


@pytest.fixture
def contents() -> Contents:
    return Contents()


def directory(path: bytes, mode: int = 0o755, **fields: object) -> Entry:
    return make(path, entry.DIRECTORY, mode=mode, **{**ME, **fields})


def file(contents: Contents, path: bytes, content: bytes = b"content", mode: int = 0o644, **fields: object) -> Entry:
    facts = {"sha256": contents.add(content), "size": len(content), "allocated": 4096, "mode": mode, **ME}
    return make(path, **{**facts, **fields})


def reasons(report: RestoreReport) -> dict[bytes, Reason]:
    return {path: each.reason for each in report.shortfalls for path, _ in each.examples}


def names(root: Path) -> set[str]:
    """Without what a restore that was ended leaves for the next one."""
    return (
        {str(path.relative_to(root)) for path in root.rglob("*")}
        - {os.fsdecode(unfinished.NAME)}
        - {f"target/{os.fsdecode(unfinished.NAME)}"}
    )


def test_a_tree_of_ones_own_comes_back_as_it_was(tmp_path: Path, contents: Contents) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    (source / "sub").mkdir()
    (source / "sub" / "file").write_text("text")
    os.link(source / "sub" / "file", source / "sub" / "same")
    (source / "link").symlink_to("sub")
    os.mkfifo(source / "fifo")
    zoo.build_too_deep(source / "too-deep", levels=20)
    (source / "sub").chmod(0o555)
    entries = list(read(source, contents))

    report = restore(entries, contents, target)

    assert report.lines() == []
    assert (report.entries, report.counts["dir"], report.size) == (len(entries), 22, 4 + 10 * 8 + 10 * 9)
    assert comparable(read(target, Contents())) == comparable(entries)


def test_the_target_is_private_and_what_is_in_it_is_not(tmp_path: Path, contents: Contents) -> None:
    restore([directory(b"d", 0o777)], contents, tmp_path / "new" / "target")
    assert stat.S_IMODE((tmp_path / "new" / "target").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "new" / "target" / "d").stat().st_mode) == 0o777


def test_nothing_that_was_there_is_touched(tmp_path: Path, contents: Contents) -> None:
    (tmp_path / "etc").mkdir(mode=0o711)
    (tmp_path / "etc" / "hosts").write_text("mine")
    entries = [directory(b"etc", mtime_s=1), file(contents, b"etc/hosts"), file(contents, b"etc/passwd")]

    report = restore(entries, contents, tmp_path)

    assert (tmp_path / "etc" / "hosts").read_text() == "mine"
    assert (tmp_path / "etc" / "passwd").read_text() == "content"
    assert stat.S_IMODE((tmp_path / "etc").stat().st_mode) == 0o711
    assert not report.complete
    assert report.lines() == [
        "1 entry: already there, kept as before: etc/hosts",
        "1 entry: directory already there, keeps its owner, mode and time: etc",
    ]


def test_a_second_restore_replaces_nothing(tmp_path: Path, contents: Contents) -> None:
    entries = [
        directory(b"d"),
        make(b"d/fifo", entry.FIFO, mode=0o600, **ME),
        file(contents, b"d/file"),
        make(b"d/link", entry.SYMLINK, target=b"file", **ME),
        make(b"d/socket", entry.SOCKET, mode=0o600, **ME),
    ]
    restore(entries, contents, tmp_path / "target")
    before = comparable(read(tmp_path / "target", Contents()))

    report = restore(entries, contents, tmp_path / "target")

    assert {each.reason for each in report.shortfalls} == {Reason.SAME}
    assert (report.same, report.entries, report.complete) == (5, 0, True)
    assert comparable(read(tmp_path / "target", Contents())) == before


# Planted links and swapped directories


@pytest.mark.parametrize("place", ["d", "d/file", "d/dangling"])
def test_a_link_planted_in_the_target_leads_nowhere(tmp_path: Path, contents: Contents, place: str) -> None:
    outside, target = tmp_path / "outside", tmp_path / "target"
    outside.mkdir()
    (outside / "victim").write_text("untouched")
    (target / place).parent.mkdir(parents=True)
    (target / place).symlink_to({"d": outside, "d/file": outside / "victim"}.get(place, outside / "new"))

    report = restore(
        [directory(b"d"), file(contents, b"d/dangling"), file(contents, b"d/file"), file(contents, b"d/other")],
        contents,
        target,
    )

    assert names(outside) == {"victim"}
    assert (outside / "victim").read_text() == "untouched"
    assert (target / place).is_symlink()
    assert reasons(report)[place.encode()] is Reason.EXISTS
    if place == "d":
        assert reasons(report)[b"d/other"] is Reason.BELOW


def swapping(after: int, swap: Callable[[], None]) -> Callable[[int, int], None]:
    """A restore's progress that does something when so many entries are there."""
    done = 0

    def progress(entries: int, _size: int) -> None:
        nonlocal done
        done += entries
        if entries and done == after:
            swap()

    return progress


@pytest.mark.parametrize("swapped", ["target", "target/d", "target/d/e"])
def test_a_directory_swapped_for_a_link_while_it_runs_leads_nowhere(tmp_path: Path, swapped: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()

    def swap() -> None:
        (tmp_path / swapped).rename(tmp_path / "moved")
        (tmp_path / swapped).symlink_to(outside)

    contents = Contents()
    entries = [
        directory(b"d"),
        directory(b"d/e"),
        file(contents, b"d/e/1"),
        make(b"d/e/2", entry.SYMLINK, target=b"1", **ME),
        file(contents, b"d/e/3", b"content", link_to=b"d/e/1"),
        directory(b"d/f"),
        file(contents, b"d/f/4"),
        file(contents, b"g"),
    ]

    restore(entries, contents, tmp_path / "target", progress=swapping(2, swap))

    assert names(outside) == set()
    assert (tmp_path / "moved").is_dir()


def test_a_target_that_others_control_is_refused(tmp_path: Path, contents: Contents) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o1777)
    (tmp_path / "file").touch()
    for name, cause in {
        "link": "it is a link or no directory",
        "open": "others may write there",
        "file": "it is a link or no directory",
        "file/below": "Not a directory|it is a link or no directory",
    }.items():
        with pytest.raises(RestoreError, match=cause):
            restore([file(contents, b"x")], contents, tmp_path / name)


def test_a_directory_in_the_target_that_others_control_is_left_alone(tmp_path: Path, contents: Contents) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    report = restore([directory(b"shared"), file(contents, b"shared/file")], contents, tmp_path)
    assert names(tmp_path) == {"shared"}
    assert reasons(report) == {b"shared": Reason.FAILED, b"shared/file": Reason.BELOW}
    assert "others may write to this directory, which was there already: chmod 0700 the target" in report.lines()[0]


def test_where_nobody_else_gets_in_it_does_not_matter_who_may_write(tmp_path: Path, contents: Contents) -> None:
    target = tmp_path / "target"
    upload = make(b"upload", entry.DIRECTORY, **(ME | {"mode": 0o1777}))
    first, second = file(contents, b"upload/a"), file(contents, b"upload/b")
    restore([upload, first], contents, target)
    rules = Rules(Rights.of_this_process(owner=False, special=False))
    planned = [step.decision.action for step in plan([upload, first, second], target, rules)]
    assert planned == [Action.SAME, Action.SAME, Action.MAKE]
    report = restore([upload, first, second], contents, target)
    assert (report.complete, report.same) == (True, 2)
    assert names(target) == {"upload", "upload/a", "upload/b"}
    assert (target / "upload").stat().st_mode & 0o7777 == 0o1777


# Hostile manifests


@pytest.mark.parametrize(
    "path",
    [b"..", b"../x", b"d/../../x", b"/etc/x", b"d//x", b"./x", b"d/.", b"", b"d/", b"d/a\0b", b"x" * 256],
)
def test_an_impossible_path_ends_the_restore(tmp_path: Path, contents: Contents, path: bytes) -> None:
    with pytest.raises(StoreDamaged, match="the snapshot holds an impossible path"):
        restore([directory(b"d"), file(contents, path)], contents, tmp_path / "target")
    assert names(tmp_path) <= {"target", "target/d"}


@pytest.mark.parametrize(
    "above",
    [
        make(b"a", entry.SYMLINK, target=b"/tmp", **ME),
        make(b"a", entry.FIFO, mode=0o600, **ME),
        make(b"a", entry.UNKNOWN, error="?"),
        directory(b"b"),
    ],
)
def test_an_entry_without_a_directory_ends_the_restore(tmp_path: Path, contents: Contents, above: Entry) -> None:
    below = file(contents, b"a/below" if above.path == b"a" else b"c/below")
    with pytest.raises(StoreDamaged, match="the snapshot has no directory for"):
        restore([above, below], contents, tmp_path / "target")


@pytest.mark.parametrize("paths", [(b"b", b"a"), (b"a", b"a"), (b"a/b", b"a")])
def test_entries_out_of_order_end_the_restore(tmp_path: Path, contents: Contents, paths: tuple[bytes, ...]) -> None:
    with pytest.raises(StoreDamaged, match=r"not in order|no directory"):
        restore([file(contents, path) for path in paths], contents, tmp_path / "target")


@pytest.mark.parametrize("first", [b"../outside", b"/etc/passwd", b"planted", b"z-later", b"d", b"d/link/x"])
def test_a_hard_link_is_made_to_nothing_but_what_this_restore_made(
    tmp_path: Path, contents: Contents, first: bytes
) -> None:
    (tmp_path / "outside").write_text("outside")
    target = tmp_path / "target"
    target.mkdir()
    (target / "planted").write_text("planted")
    (target / "z-later").write_text("later")
    entries = [
        directory(b"d"),
        make(b"d/link", entry.SYMLINK, target=b"/etc", **ME),
        file(contents, b"follower", b"own content", link_to=first),
    ]

    restore(entries, contents, target)

    assert (target / "follower").read_text() == "own content"
    assert (target / "follower").stat().st_nlink == 1


def test_devices_and_rights_need_to_be_asked_for(tmp_path: Path, contents: Contents) -> None:
    entries = [
        make(b"block", entry.BLOCK_DEVICE, rdev=(7, 0), mode=0o600, **ME),
        make(b"char", entry.CHARACTER_DEVICE, rdev=(1, 1), mode=0o600, **ME),
        file(contents, b"program", mode=0o106755, xattrs={"security.capability": b"\1\0\0\2" + bytes(16)}),
    ]
    report = restore(entries, contents, tmp_path / "target")
    assert names(tmp_path / "target") == {"program"}
    assert stat.S_IMODE((tmp_path / "target" / "program").stat().st_mode) == 0o755
    assert sorted(each.line() for each in report.shortfalls) == [
        "1 entry: restored only with --special (file capabilities): program",
        "1 entry: restored only with --special (set-id bits): program",
        "2 entries: restored only with --special (devices): block, char",
    ]


def test_set_id_bits_go_only_with_the_right_owner(tmp_path: Path, contents: Contents) -> None:
    program = file(contents, b"program", mode=0o4755, uid=os.geteuid() + 1)
    report = restore([program], contents, tmp_path / "target", special=True, owner=False)
    assert stat.S_IMODE((tmp_path / "target" / "program").stat().st_mode) == 0o755
    assert "set-id bits: not without the right owner" in "\n".join(report.lines())


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "door"},
        {"type": entry.SYMLINK, "target": b""},
        {"type": entry.SYMLINK, "target": b"a\0b"},
        {"type": entry.SYMLINK, "target": b"x" * 5000},
    ],
)
def test_an_impossible_entry_is_told_and_the_rest_goes_on(
    tmp_path: Path, contents: Contents, fields: dict[str, object]
) -> None:
    hostile = make(b"hostile", **ME, **fields)  # type: ignore[arg-type]
    report = restore([hostile, file(contents, b"zzz")], contents, tmp_path / "target")
    assert names(tmp_path / "target") == {"zzz"}
    assert reasons(report) == {b"hostile": Reason.FAILED}


def test_impossible_attributes_are_told_and_the_content_is_there(tmp_path: Path, contents: Contents) -> None:
    hostile = file(
        contents, b"hostile", mtime_s=2**62, uid=2**40, xattrs={"user.\0": b"", "nowhere.x": b"", "user.ok": b"1"}
    )
    report = restore([hostile], contents, tmp_path / "target", owner=True)
    assert (tmp_path / "target" / "hostile").read_bytes() == b"content"
    assert os.getxattr(tmp_path / "target" / "hostile", "user.ok") == b"1"
    assert report.complete
    assert {each.reason for each in report.shortfalls} == {Reason.ATTRIBUTE}
    assert {each.what.partition(":")[0] for each in report.shortfalls} == {
        "owner",
        "time",
        "xattr user.*",
        "xattr nowhere.*",
    }


# What the backup or the store does not have


def test_content_that_does_not_fit_never_gets_a_name(tmp_path: Path, contents: Contents) -> None:
    wrong = file(contents, b"wrong", b"right")
    contents.by_digest[wrong.sha256] = b"WRONG"
    large = file(contents, b"large", b"x" * 1_000_001, size=1_000_000)
    missing = file(contents, b"missing", sha256="00" * 32)

    report = restore([large, missing, wrong], contents, tmp_path / "target")

    assert names(tmp_path / "target") == set()
    assert set(reasons(report)) == {b"large", b"missing", b"wrong"}
    assert set(reasons(report).values()) == {Reason.DAMAGED}
    assert not report.complete


def test_what_was_not_backed_up_well_is_named(tmp_path: Path, contents: Contents) -> None:
    entries = [
        directory(b"closed", 0o700, error="permission denied \x1b[2J"),
        make(b"never", error="input/output error", **ME),
        file(contents, b"old", stale=True, error="permission denied"),
        file(contents, b"restless", b"longer than said", size=3, changing=True),
        make(b"unknown", entry.UNKNOWN, error="?"),
    ]
    report = restore(entries, contents, tmp_path / "target")
    assert names(tmp_path / "target") == {"closed", "old", "restless"}
    assert report.lines() == [
        "2 entries: could not be read for the backup: never [input/output error], unknown [?]",
        "1 entry: could not be read for the backup (its content): closed [permission denied \\x1b[2J]",
        "1 entry: of an earlier backup, could not be read for this one: old [permission denied]",
        "1 entry: changed while it was read for the backup, content and time may not belong together: restless",
    ]


def test_a_full_target_ends_the_restore_without_half_a_file(tmp_path: Path) -> None:
    class Full(Contents):
        def open(self, sha256: str) -> BinaryIO:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    contents = Full()
    before = opened()
    with pytest.raises(RestoreError, match="cannot restore d/file: No space left on device"):
        restore([directory(b"d"), file(contents, b"d/file")], contents, tmp_path / "target")
    assert names(tmp_path / "target") == {"d"}
    assert stat.S_IMODE((tmp_path / "target" / "d").stat().st_mode) == 0o700
    assert opened() <= before


def test_it_can_be_stopped(tmp_path: Path, contents: Contents) -> None:
    def stop(entries: int, _size: int) -> None:
        if entries:
            raise Cancelled("asked to stop")

    with pytest.raises(Cancelled):
        restore([file(contents, b"a"), file(contents, b"b")], contents, tmp_path / "target", progress=stop)
    assert names(tmp_path / "target") == {"a"}


def test_progress_adds_up(tmp_path: Path, contents: Contents) -> None:
    steps: list[tuple[int, int]] = []
    entries = [directory(b"d"), file(contents, b"d/a", b"x" * 1_000_000), file(contents, b"d/b", b"")]
    restore(entries, contents, tmp_path / "target", progress=lambda entries, size: steps.append((entries, size)))
    assert (sum(step[0] for step in steps), sum(step[1] for step in steps)) == (3, 1_000_000)
    assert len(steps) > 4


def test_depth_is_not_limited_by_open_files(tmp_path: Path, contents: Contents) -> None:
    target = tmp_path / "target"
    paths = [b"/".join([b"d"] * level) for level in range(1, 1101)]
    entries = [directory(path, 0o500, mtime_s=level) for level, path in enumerate(paths)]
    # On the way back, beside directories that had to be closed meanwhile.
    for depth in (1000, 500, 100, 1):
        entries.append(file(contents, paths[depth - 1] + b"/file"))
    entries.append(file(contents, b"first", link_to=paths[999] + b"/file"))
    before = opened()
    try:
        report = restore(entries, contents, target)
        found = subprocess.run(
            ["find", ".", "-printf", "%d %y %m %Ts %n\n"], cwd=target, capture_output=True, text=True
        )
    finally:
        subprocess.run(["chmod", "-R", "u+w", target], check=True)
        subprocess.run(["rm", "-rf", target], check=True)

    assert report.lines() == []
    assert report.counts == {"dir": 1100, "file": 5}
    assert opened() <= before
    lines = found.stdout.splitlines()
    without_count = {line.rpartition(" ")[0] for line in lines}
    assert [level for level in range(1100) if f"{level + 1} d 500 {level}" not in without_count] == []
    assert sum(" f " in line for line in lines) == 5
    assert sum(line.endswith(" 2") for line in lines if " f " in line) == 2


def test_a_deep_directory_moved_while_it_runs_ends_the_restore(tmp_path: Path) -> None:
    target, outside = tmp_path / "target", tmp_path / "outside"
    outside.mkdir()

    def swap() -> None:
        (target / "d" / "d").rename(outside / "d")

    contents = Contents()
    paths = [b"/".join([b"d"] * level) for level in range(1, 300)]
    entries = [*map(directory, paths), file(contents, paths[-1] + b"/file"), file(contents, b"d/e", b"content")]
    with pytest.raises(RestoreError, match="was moved while it was restored"):
        restore(entries, contents, target, progress=swapping(len(paths), swap))
    assert {name for name in names(outside) if "/" not in name} == {"d"}


def test_zeros_become_holes_only_where_holes_were(tmp_path: Path, contents: Contents) -> None:
    content = bytes(1_000_000) + b"x" + bytes(1_000_000)
    entries = [
        file(contents, b"full", content, allocated=len(content) + 4096),
        file(contents, b"sparse", content, allocated=4096),
    ]
    restore(entries, contents, tmp_path / "target")
    full, sparse = ((tmp_path / "target" / name).stat() for name in ("full", "sparse"))
    assert (tmp_path / "target" / "sparse").read_bytes() == content
    assert full.st_blocks * 512 >= len(content)
    assert sparse.st_blocks * 512 <= 16_384


# Selection


def _tree(contents: Contents) -> Iterable[Entry]:
    yield directory(b"etc", 0o750, mtime_s=5)
    yield file(contents, b"etc/hosts")
    yield directory(b"etc/nginx", 0o711)
    yield file(contents, b"etc/nginx/nginx.conf", b"nginx")
    yield file(contents, b"etc/nginx/same.conf", b"nginx", link_to=b"etc/nginx/nginx.conf")
    yield file(contents, b"etc/nginx/third.conf", b"nginx", link_to=b"etc/nginx/nginx.conf")
    yield directory(b"etc/nginx-old")
    yield file(contents, b"etc/passwd")


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([b"/etc/nginx/"], {"etc", "etc/nginx"} | {f"etc/nginx/{n}.conf" for n in ("nginx", "same", "third")}),
        ([b"etc/hosts", b"etc/passwd"], {"etc", "etc/hosts", "etc/passwd"}),
        ([b"etc//nginx/./third.conf"], {"etc", "etc/nginx", "etc/nginx/third.conf"}),
        ([b"etc/nginx-old"], {"etc", "etc/nginx-old"}),
    ],
)
def test_a_path_selects_all_below_and_the_directories_above(
    tmp_path: Path, contents: Contents, paths: list[bytes], expected: set[str]
) -> None:
    report = restore(_tree(contents), contents, tmp_path / "target", paths=paths)
    assert report.lines() == []
    assert names(tmp_path / "target") == expected
    status = (tmp_path / "target" / "etc").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o750, 5_000_000_000)


@pytest.mark.skipif(os.geteuid() != 0, reason="owners need root")
@pytest.mark.parametrize("numbers", [{"uid": 2**32 - 1, "gid": 5}, {"uid": 5, "gid": 2**32 - 1}])
def test_a_number_that_nobody_can_have_makes_nothing_set_id_of_who_restores_it(
    tmp_path: Path, contents: Contents, numbers: dict[str, int]
) -> None:
    entries = [file(contents, b"program", mode=0o6755, **numbers)]
    report = restore(entries, contents, tmp_path / "out", special=True)
    assert stat.S_IMODE((tmp_path / "out" / "program").stat().st_mode) == 0o755
    assert {each.what for each in report.shortfalls} == {
        "owner: impossible value",
        "set-id bits: not without the right owner",
    }
    with (tmp_path / "tar").open("wb") as archive:
        told = write_archive(entries, contents, TarWriter(archive), special=True).report(tmp_path)
    with tarfile.open(tmp_path / "tar") as archive:
        assert [each.mode for each in archive] == [0o755]
    assert [each.what for each in told.shortfalls] == ["set-id bits: not without the right owner"]


def test_an_acl_that_is_none_does_not_cost_an_archive_the_file(tmp_path: Path, contents: Contents) -> None:
    entries = [file(contents, b"a", xattrs={"system.posix_acl_access": b"none", "user.x": b"1"})]
    with (tmp_path / "tar").open("wb") as archive:
        told = write_archive(entries, contents, TarWriter(archive)).report(tmp_path)
    with tarfile.open(tmp_path / "tar") as archive:
        assert [(each.name, each.pax_headers) for each in archive] == [("a", {"SCHILY.xattr.user.x": "1"})]
    assert [(each.reason, each.what) for each in told.shortfalls] == [(Reason.ATTRIBUTE, "ACL: impossible value")]


def test_what_is_not_what_its_first_name_holds_is_no_hard_link_to_it(tmp_path: Path, contents: Contents) -> None:
    entries = [
        file(contents, b"a", b"new"),
        file(contents, b"b", b"of before", link_to=b"a"),
        make(b"c", entry.SYMLINK, mode=0o777, target=b"here", **ME),
        make(b"d", entry.SYMLINK, mode=0o777, target=b"there", link_to=b"c", **ME),
        make(b"e", entry.SYMLINK, mode=0o777, target=b"new", link_to=b"a", **ME),
    ]
    report = restore(entries, contents, tmp_path / "out", check=lambda: entries)
    assert (report.lines(), report.checked) == ([], 2)
    assert comparable(read(tmp_path / "out", Contents())) == comparable(
        msgspec.structs.replace(each, link_to_text="") for each in entries
    )
    with (tmp_path / "tar").open("wb") as archive:
        write_archive(entries, contents, TarWriter(archive))
    with tarfile.open(tmp_path / "tar") as archive:
        assert [each.islnk() for each in archive] == [False] * 5


def test_hard_links_hold_together_without_their_first_name(tmp_path: Path, contents: Contents) -> None:
    chosen = [b"etc/nginx/same.conf", b"etc/nginx/third.conf"]
    restore(_tree(contents), contents, tmp_path / "target", paths=chosen)
    same, third = (tmp_path / "target" / os.fsdecode(path) for path in chosen)
    assert same.read_text() == "nginx"
    assert same.samefile(third)


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        (b"nginx.conf", "did you mean /etc/nginx/nginx.conf?"),
        (b"etc/host", "did you mean /etc/hosts?"),
        (b"var/\n", "`pyrsyncbackup ls HOST/MODULE` shows what is"),
    ],
)
def test_an_unknown_path_stops_before_anything_is_done(
    tmp_path: Path, contents: Contents, path: bytes, hint: str
) -> None:
    with pytest.raises(NotFound) as missing:
        restore(_tree(contents), contents, tmp_path / "target", paths=[b"etc/hosts", path])
    assert missing.value.hint == hint
    assert "\n" not in missing.value.cause
    assert not (tmp_path / "target").exists()
