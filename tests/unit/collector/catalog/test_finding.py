"""Questions over hosts and time: history, changes, comparison, names, contents."""

from __future__ import annotations

import re

import pytest
from pyrsyncbackup_collector.catalog.changing import PathChange, grouped
from pyrsyncbackup_collector.catalog.rest import CONTENT_SHIFT, METADATA, rest
from pyrsyncbackup_collector.catalog.scope import longest_literal, path_pattern
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.errors import UsageError

from tests.support.estate import Content, Estate

DAY = 86_400.0
CONF = b"etc/nginx/nginx.conf"


@pytest.fixture
def fleet(estate: Estate) -> Estate:
    """Five hosts with one nginx.conf from day 1; on day 3 all but web3 change it, web4 alone to something else."""
    for number in range(5):
        estate.pull(
            f"web{number}", "nginx", {CONF: Content(b"old"), b"etc/nginx/mime": Content(b"m")}, time=DAY + number
        )
    for number in (0, 1, 2, 4):
        new = {CONF: Content(b"new" if number != 4 else b"newer"), b"etc/nginx/x.conf": Content(b"x")}
        estate.pull(f"web{number}", "nginx", new, time=3 * DAY + number)
    return estate


def test_others_with_the_same_are_those_that_have_it_now(fleet: Estate) -> None:
    (old, new) = fleet.catalog.path_history("web0", "nginx", CONF)
    holders = fleet.catalog.holders("nginx", CONF)
    assert [one.host for one in holders if one.state.content == new.state.content] == ["web0", "web1", "web2"]
    assert [one.host for one in holders if one.state.content == old.state.content] == ["web3"]
    assert (old.kind, old.end, new.kind, new.end) == ("added", new.first, "content", None)


def test_a_path_that_comes_back_was_not_there_in_between(estate: Estate) -> None:
    for number, content in enumerate((Content(b"1"), None, Content(b"1"))):
        estate.pull("web1", "etc", {b"etc/a": content, b"etc/b": Content(b"%d" % number)}, time=number * DAY)
    first, second = estate.catalog.path_history("web1", "etc", b"etc/a")
    assert (first.end and first.end.time, second.first.time, second.kind, second.end) == (DAY, 2 * DAY, "added", None)
    assert estate.catalog.path_history("web1", "etc", b"none") == []
    assert estate.catalog.path_history("web9", "etc", b"etc/a") == []


def test_equal_changes_are_told_once_and_others_apart(fleet: Estate) -> None:
    groups = grouped(fleet.catalog.changes_since(2 * DAY).snapshots)
    assert [(group.module, group.hosts, group.changes, group.first) for group in groups] == [
        (
            "nginx",
            ("web0", "web1", "web2", "web4"),
            (PathChange(CONF, "content"), PathChange(b"etc/nginx/x.conf", "added")),
            False,
        )
    ]
    assert (groups[0].begin, groups[0].end) == (3 * DAY, 3 * DAY + 4)
    fleet.pull("web1", "nginx", {b"etc/nginx/mime": None}, time=4 * DAY)
    newest = grouped(fleet.catalog.changes_since(2 * DAY).snapshots)[0]
    assert (newest.hosts, newest.changes) == (("web1",), (PathChange(b"etc/nginx/mime", "removed"),))


def test_first_snapshots_are_no_changes(fleet: Estate) -> None:
    found = fleet.catalog.changes_since(0)
    assert [one.host for one in found.snapshots if one.first] == ["web4", "web3", "web2", "web1", "web0"]
    assert all(not one.changes for one in found.snapshots if one.first)
    (group,) = [group for group in grouped(found.snapshots) if group.first]
    assert group.hosts == ("web0", "web1", "web2", "web3", "web4")


def test_changes_are_asked_of_one_host_or_some(fleet: Estate) -> None:
    assert {one.host for one in fleet.catalog.changes_since(2 * DAY, "web[01]", "n*").snapshots} == {"web0", "web1"}
    assert fleet.catalog.changes_since(2 * DAY, "web3").snapshots == ()
    assert fleet.catalog.changes_since(2 * DAY, None, "etc").snapshots == ()


def test_more_changes_than_are_kept_in_memory_are_cut_and_said(estate: Estate) -> None:
    for number in range(2001):
        estate.catalog._database.raw.execute("INSERT INTO hosts (name) VALUES (?)", (f"h{number}",))
    with estate.catalog._database.writing() as raw:
        raw.execute("INSERT INTO modules (host_id, name) SELECT id, 'm' FROM hosts")
        raw.execute(
            "INSERT INTO snapshots SELECT modules.id, sequence, 'n' || sequence, sequence, 'complete', NULL, x'', "
            "1, 1, 1, 0, 0, 0 FROM modules, (SELECT 1 AS sequence UNION SELECT 2)"
        )
        raw.execute(
            "INSERT INTO versions (module_id, path, from_seq, type, mode, size, mtime_s, mtime_ns, flags) "
            "SELECT id, x'61', 2, 'file', 0, 0, 0, 0, 0 FROM modules"
        )
    found = estate.catalog.changes_since(0, most=1500)
    assert found.cut
    assert sum(len(one.changes) for one in found.snapshots) == 2000
    assert not estate.catalog.changes_since(0).cut


def test_who_differs_and_since_when(fleet: Estate) -> None:
    majority, *others = fleet.catalog.compare_path("nginx", CONF).groups
    assert [member.host for member in majority.members] == ["web0", "web1", "web2"]
    # web3 kept what it had: it differs since half of the others changed. web4 came to its own later.
    told = {group.members[0].host: (group.members[0].since, group.differs_since) for group in others}
    assert [(host, since.time, differs) for host, (since, differs) in sorted(told.items()) if since] == [
        ("web3", DAY + 3, (3 * DAY + 1,)),
        ("web4", 3 * DAY + 4, (3 * DAY + 4,)),
    ]


def test_a_host_without_the_path_is_in_a_group_of_its_own(fleet: Estate) -> None:
    _, missing = fleet.catalog.compare_path("nginx", b"etc/nginx/x.conf").groups
    assert [member.host for member in missing.members] == ["web3"]
    assert (missing.state, missing.members[0].since, missing.differs_since) == (None, None, (3 * DAY + 1,))
    fleet.pull("web0", "nginx", {b"etc/nginx/x.conf": None}, time=5 * DAY)
    _, missing = fleet.catalog.compare_path("nginx", b"etc/nginx/x.conf").groups
    assert [(member.host, member.since and member.since.time) for member in missing.members] == [
        ("web0", 5 * DAY),
        ("web3", None),
    ]


def test_paths_that_are_not_the_same_everywhere_come_with_their_outliers(fleet: Estate) -> None:
    found = fleet.catalog.compare_module("nginx")
    assert [(one.path, one.outliers, one.variants[0].hosts) for one in found.paths] == [
        (b"etc/nginx/x.conf", 1, ("web0", "web1", "web2", "web4")),
        (CONF, 2, ("web0", "web1", "web2")),
    ]
    cut = fleet.catalog.compare_module("nginx", limit=1)
    assert (len(cut.paths), cut.more) == (1, 1)
    assert fleet.catalog.compare_module("nginx", "web[01]").paths == ()
    assert fleet.catalog.compare_module("nginx", "web0").paths == ()


def test_names_are_found_over_all_time(fleet: Estate) -> None:
    fleet.pull("web1", "nginx", {CONF: None}, time=5 * DAY)
    found = fleet.catalog.find("*.conf", host="web1")
    assert [(one.path, one.sightings[0].first.time, one.sightings[0].end is None) for one in found.paths] == [
        (CONF, DAY + 1, False),
        (b"etc/nginx/x.conf", 3 * DAY + 1, True),
    ]
    assert [one.path for one in fleet.catalog.find("*.conf", host="web1", now=True).paths] == [b"etc/nginx/x.conf"]
    every = fleet.catalog.find("*", limit=1)
    assert (len(every.paths), len(every.paths[0].sightings)) == (1, 5)
    assert every.more == 5 + 5 + 5 + 4


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("nginx.conf", [b"etc/nginx/nginx.conf", b"nginx.conf"], [b"nginx.conf/x", b"xnginx.conf", b"nginxxconf"]),
        ("*.conf", [b"a/b.conf", b".conf"], [b"a.conf/b"]),
        ("/etc/*/x", [b"etc/a/x"], [b"etc/a/b/x", b"etc/x", b"usr/etc/a/x"]),
        ("/etc/**/x", [b"etc/a/x", b"etc/a/b/x", b"etc/x"], [b"etcx"]),
        ("/etc/**", [b"etc/a", b"etc/a/b"], [b"etc", b"etca/b"]),
        ("etc/*", [b"etc/a"], [b"usr/etc/a"]),
        ("[a-c]?", [b"b1", b"x/c\xff"], [b"d1", b"b"]),
        ("[!a]x", [b"bx"], [b"ax", b"/x"]),
        ("[]]", [b"]"], [b"["]),
        ("[", [b"["], [b"a"]),
        ("a\n", [b"a\n"], [b"a"]),
        ("\udcff", [b"\xff"], [b"f"]),
        ("a[.]b", [b"a.b"], [b"axb"]),
        (r"a\[b\]\*", [b"x/a[b]*", rb"a\[b\]\*"], [b"ab", b"a[b]c"]),
        ("a[b]*", [b"a[b]*", b"abc", b"x/ab"], [b"a[b]c"]),
        (r"dev-disk-by\x2d*", [rb"etc/dev-disk-by\x2dlabel.swap"], [b"dev-disk-byx2d"]),
    ],
)
def test_patterns_mean_what_shells_mean(pattern: str, matching: list[bytes], others: list[bytes]) -> None:
    compiled = path_pattern(pattern)
    assert [path for path in matching if not compiled.match(path)] == []
    assert [path for path in others if compiled.match(path)] == []
    assert [path for path in matching if longest_literal(pattern) not in path] == []


def test_a_pattern_that_is_none_is_told() -> None:
    with pytest.raises(UsageError, match=re.escape("'[z-a]' is no pattern")):
        path_pattern("[z-a]")


def test_contents_are_where_they_are_now_or_ever_were(fleet: Estate) -> None:
    now = list(fleet.catalog.whereabouts("web0", path="nginx.conf"))
    assert [(one.path, one.now, one.size) for one in now] == [(CONF, True, 3)]
    every = list(fleet.catalog.whereabouts("web0", path="nginx.conf", every=True))
    assert [(one.snapshot[:6], one.now) for one in every] == [("000001", False), ("000002", True)]
    assert len(list(fleet.catalog.whereabouts(among={now[0].sha256}))) == 3


def test_what_has_no_column_makes_one_number() -> None:
    owned = Entry(path_text="a", user="root", group="root")
    assert rest(owned, b"key") == 0
    assert rest(Entry(path_text="b", user="www", group="root"), b"key") not in (0, rest(Entry(path_text="b"), b"key"))
    assert rest(Entry(path_text="b", user="www", group="root"), b"key") <= METADATA
    link = Entry(path_text="l", type="link", target_text="x", user="root", group="root")
    assert rest(link, b"key") & METADATA == 0
    assert rest(link, b"key") >> CONTENT_SHIFT != 0
    assert rest(link, b"key") != rest(link, b"another")
    one, other = ({"user.a": b"1", "user.b": b"2"}, {"user.b": b"2", "user.a": b"1"})
    assert rest(Entry(xattrs=one), b"k") == rest(Entry(xattrs=other), b"k") != rest(Entry(), b"k")
