"""`history`, `changes`, `find`, `grep`, `compare` and `diff` on a real store and catalog."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pyrsyncbackup_collector import cli

from tests.support.estate import Content, Estate

DAY = 86_400
CONF = b"etc/nginx/nginx.conf"
EVIL = b"etc/nginx/\x1b[31m\n\xff.conf"
NEW, OWN = b"workers 4;\nlog on;\n", b"workers 9;\nlog on;\n"

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """20 hosts with nginx; three days ago all changed nginx.conf alike but web07; web03 has a file with a bad name."""
    (tmp_path / "hosts.d").mkdir()
    (tmp_path / "collector.toml").write_text('store = "store"\ncatalog = "catalog.sqlite"\n')
    monkeypatch.setenv("PYRSYNCBACKUP_CONFIG", str(tmp_path / "collector.toml"))
    now = time.time()
    with closing(Estate(tmp_path)) as estate:
        for number in range(1, 21):
            old = {CONF: Content(b"workers 2;\nlog on;\n"), b"etc/nginx/key": Content(b"\0\1binary")}
            estate.pull(f"web{number:02d}", "nginx", old, time=now - 30 * DAY)
        for number in range(1, 21):
            changed = {CONF: Content(NEW if number != 7 else OWN)}
            estate.pull(f"web{number:02d}", "nginx", changed, time=now - 3 * DAY)
        bad = {EVIL: Content(b"evil \x1b]0;title\x07 \xff\n"), b"etc/nginx/key": None}
        estate.pull("web03", "nginx", bad, time=now - 3600)
    return tmp_path


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run_one(*arguments: str) -> tuple[int, str, str]:
        code = cli.run(arguments)
        captured = capsys.readouterr()
        for text in (captured.out, captured.err):
            assert all(char.isprintable() or char in "\n\t" for char in text)
        return code, captured.out, captured.err

    return run_one


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Estate]:
    """A store and catalog that commands find, without anything in it."""
    (tmp_path / "collector.toml").write_text('store = "store"\ncatalog = "catalog.sqlite"\n')
    monkeypatch.setenv("PYRSYNCBACKUP_CONFIG", str(tmp_path / "collector.toml"))
    with closing(Estate(tmp_path)) as estate:
        yield estate


def ask(run: Run, *arguments: str, code: int = 0) -> Any:
    done = run(*arguments, "--json")
    assert done[0] == code, done
    return json.loads(done[1])


def test_history_shows_versions_and_who_else_has_them(run: Run) -> None:
    code, out, _ = run("history", "web01/nginx", "/etc/nginx/nginx.conf")
    assert code == 0
    assert "now also on web02, web03 and 16 more" in out
    told = ask(run, "history", "web01/nginx", "etc/nginx/nginx.conf")
    newest, oldest = told["versions"]
    assert (newest["until"], newest["change"], newest["sha256"]) == (None, "content", hashlib.sha256(NEW).hexdigest())
    assert (oldest["until"], oldest["change"], oldest["also_on"]) == (newest["from"], "added", [])
    assert len(newest["also_on"]) == 18
    code, out, err = run("history", "web01/nginx", "/etc/nginx/nginx.conf", "--limit", "1")
    assert (code, out.count("snapshot 0")) == (0, 1)
    assert "and 1 version more; --limit 0 shows all" in err


def test_history_tells_when_a_path_went(run: Run) -> None:
    _, out, _ = run("history", "web03/nginx", "/etc/nginx/key")
    assert "not there" in out


def test_changes_tell_equal_ones_once(run: Run) -> None:
    code, out, _ = run("changes", "--since", "7d")
    assert code == 0
    assert "nginx on 19 hosts" not in out
    assert "nginx on 20 hosts: web01, web02 and 18 more" in out
    assert out.count("/etc/nginx/nginx.conf") == 1
    assert r"+ /etc/nginx/\x1b[31m\n\xff.conf" in out
    assert "1 added, 1 removed, 20 changed on 20 hosts" in out
    told = ask(run, "changes", "web03/nginx", "--since", "2h")
    (one,) = told["snapshots"]
    assert one["counts"] == {"added": 1, "removed": 1}
    assert {"path_b64", "kind"} in [set(change) for change in one["changes"]]
    assert "nothing changed since 1s" in run("changes", "--since", "1s")[1]


def test_find_tells_since_when_and_whether_still(run: Run) -> None:
    code, out, _ = run("find", "*.conf")
    assert code == 0
    assert r"/etc/nginx/\x1b[31m\n\xff.conf" in out
    told = ask(run, "find", "key", "--host", "web0*")
    (one,) = told["paths"]
    assert [place["host"] for place in one["places"] if not place["now"]] == ["web03"]
    assert "on 8 of 9" in run("find", "key", "--host", "web0*")[1]
    assert run("find", "nothing.here")[0] == 4
    assert ask(run, "find", "nothing.here", code=4) == {"paths": [], "more": 0}
    code, _, err = run("find", "*", "--limit", "1")
    assert (code, "more; --limit 0 shows all" in err) == (0, True)


def test_grep_reads_equal_contents_once_and_says_where_all_are(run: Run) -> None:
    code, out, err = run("grep", "workers")
    assert code == 0
    assert out.splitlines() == [
        "web01/nginx:/etc/nginx/nginx.conf:1:workers 4;",
        "  the same: web02, web03 and 16 more",
        "web07/nginx:/etc/nginx/nginx.conf:1:workers 9;",
    ]
    assert "2 contents of 3 searched match, 1 binary" in err
    told = ask(run, "grep", "WORKERS 9", "-i", "--host", "web*", "--module", "nginx", "--path", "*.conf")
    assert [(place["host"], place["now"]) for place in told["matches"][0]["places"]] == [("web07", True)]
    assert run("grep", "-l", "-E", "^workers [89]")[1] == "web07/nginx:/etc/nginx/nginx.conf\n"
    assert "@000001-" in run("grep", "workers 2", "--all")[1]
    assert run("grep", "workers 2")[0] == 4
    assert run("grep", "evil")[1] == "web03/nginx:/etc/nginx/\\x1b[31m\\n\\xff.conf:1:evil \\x1b]0;title\\x07 \\xff\n"
    assert ask(run, "grep", "evil")["matches"][0]["lines"][0]["text_b64"]


def test_grep_names_what_it_could_not_read(run: Run, folder: Path) -> None:
    digest = hashlib.sha256(OWN).hexdigest()
    (folder / "store" / "objects" / digest[:2] / digest[2:]).unlink()
    code, out, err = run("grep", "workers")
    assert (code, "workers 4" in out) == (13, True)
    assert f"web07/nginx:/etc/nginx/nginx.conf: object {digest} is missing" in err


def test_grep_stops_at_its_limit_and_skips_what_is_large(run: Run) -> None:
    code, out, err = run("grep", "log", "--limit", "1")
    assert (code, out.count("log on")) == (0, 1)
    assert "stopped after 1 content with a match" in err
    assert "4 too large" in run("grep", "log", "--max-size", "5")[2]


def test_compare_tells_who_differs_and_since_when(run: Run) -> None:
    code, out, _ = run("compare", "nginx", "/etc/nginx/nginx.conf", "--hosts", "web*", "--diff")
    assert code == 0
    assert "/etc/nginx/nginx.conf: 19 of 20 hosts are alike, web07 differs since " in out
    assert "-workers 4;" in out
    assert "+workers 9;" in out
    told = ask(run, "compare", "nginx", "/etc/nginx/nginx.conf")
    assert [(group["majority"], len(group["hosts"])) for group in told["groups"]] == [(True, 19), (False, 1)]
    code, out, _ = run("compare", "nginx")
    assert code == 0
    assert "missing on web03" in out
    assert len(ask(run, "compare", "nginx", "--limit", "1")["paths"]) == 1
    assert "nginx is the same on 2 hosts" in run("compare", "nginx", "--hosts", "web0[12]")[1]
    assert "only web01 has nginx: nothing to compare" in run("compare", "nginx", "--hosts", "web01")[1]
    assert "web01 and web07 differ since" in run("compare", "nginx", "/etc/nginx/nginx.conf", "--hosts", "web0[17]")[1]


def test_compare_looks_into_a_directory(run: Run) -> None:
    _, out, _ = run("compare", "nginx", "/etc/nginx")
    assert out.startswith("/etc/nginx of nginx on 20 hosts: 3 paths not the same everywhere\n")
    assert run("compare", "nginx", "/")[1] == run("compare", "nginx")[1]
    told = ask(run, "compare", "nginx", "/etc/nginx", "--limit", "1")
    assert (len(told["groups"]), len(told["paths"]), told["more"]) == (1, 1, 2)


def test_compare_finds_no_majority_where_all_differ(odd: Estate, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(1, 5):
        odd.pull(f"web{number}", "etc", {b"etc/hostname": Content(b"web%d\n" % number)})
    assert cli.run(["compare", "etc", "/etc/hostname"]) == 0
    assert capsys.readouterr().out.startswith("/etc/hostname: no two of 4 hosts are alike\n")


def test_history_tells_links_and_types(odd: Estate, capsys: pytest.CaptureFixture[str]) -> None:
    odd.pull("web1", "etc", {b"etc/a": Content(b"x"), b"etc/b": Content(b"x")})
    odd.pull("web1", "etc", {b"etc/a": None, b"etc/c": Content(b"c")})
    odd.pull("web1", "etc", {b"etc/a/inside": Content(b"x")})
    assert cli.run(["history", "web1/etc", "/etc/a"]) == 0
    shown = [
        line.split("  ")[-1].strip() for line in capsys.readouterr().out.splitlines()[2:] if "snapshot" not in line
    ]
    assert shown == ["added again", "not there", "first seen"]
    assert cli.run(["history", "web1/etc", "/etc/c"]) == 0
    assert capsys.readouterr().out.splitlines()[2].endswith("  added")


def test_changes_of_one_path_at_different_times_are_told_apart(odd: Estate, capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    for host, days in (("web1", 9), ("web2", 8.5), ("web3", 2)):
        odd.pull(host, "nginx", {CONF: Content(b"a")}, time=now - 30 * DAY)
        odd.pull(host, "nginx", {CONF: Content(b"b")}, time=now - days * DAY)
    assert cli.run(["changes", "--since", "20d"]) == 0
    out = capsys.readouterr().out
    assert "nginx on 2 hosts: web1, web2\n" in out
    assert "  web3/nginx\n" in out
    odd.pull("web3", "nginx", {CONF: None}, time=now - DAY)
    odd.pull("web3", "nginx", {CONF: Content(b"c")}, time=now - 3600)
    assert cli.run(["changes", "--since", "3d"]) == 0
    marks = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    assert marks == ["+", "-", "M"], "what one host did stands in its order, the newest first"


def test_diff_with_one_reference_is_against_the_snapshot_before(run: Run, folder: Path) -> None:
    _, out, _ = run("diff", "web07/nginx")
    assert "-workers 2;" in out
    assert "1 changed" in out
    assert run("diff", "web07/nginx", "--name-only")[1] == "/etc/nginx/nginx.conf\n"
    assert run("diff", "web03/nginx", "--name-only", "/etc/nginx/key")[1] == "/etc/nginx/key\n"
    assert "1 path, 1 line more (+), 1 less (-)" in run("diff", "web07/nginx", "--stat")[1]
    assert "binary 0 B" not in run("diff", "web03/nginx", "--stat", "/etc/nginx/nginx.conf")[1]
    assert "+workers 9;" in run("diff", "web01/nginx", "web07/nginx", "/etc/nginx")[1]
    assert run("diff", "web01/nginx@1")[0] == 4
    assert run("diff", "web01/nginx", "/nowhere")[0] == 4
    assert run("diff", "web01/nginx", "--stat", "--name-only")[0] == 2
    between = ask(run, "diff", "web01/nginx", "web07/nginx", "--name-only")
    assert between == {"paths": [{"path": "etc/nginx/nginx.conf"}]}
    assert ask(run, "diff", "web01/nginx", "web01/nginx", "--name-only") == {"paths": []}
    assert run("diff", "web01/nginx", "web01/nginx")[1] == "no differences\n"
    (folder / "catalog.sqlite").unlink()
    assert ask(run, "diff", "web07/nginx", "--name-only") == {"paths": [{"path": "etc/nginx/nginx.conf"}]}
    assert run("diff", "web07/nginx", "--name-only")[1] == "/etc/nginx/nginx.conf\n"


def test_lines_of_a_text_stay_as_they_are_and_names_are_escaped_once(
    odd: Estate, capsys: pytest.CaptureFixture[str]
) -> None:
    odd.pull("web1", "etc", {EVIL: Content(b"first\n")})
    odd.pull("web1", "etc", {EVIL: Content(b"location ~ \\.php$ {\n\tlast line\x1b[2J")})
    assert cli.run(["diff", "web1/etc"]) == 0
    out = capsys.readouterr().out
    assert r"--- /etc/nginx/\x1b[31m\n\xff.conf" in out
    assert r"    +location ~ \.php$ {" in out
    assert "    +\tlast line\\x1b[2J\n    \\ No newline at end of file" in out
    assert cli.run(["grep", "php"]) == 0
    assert r":1:location ~ \.php$ {" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("history", "web01", "/x"), 2, "does not name a module"),
        (("history", "web99/nginx", "/x"), 4, "no host is called web99"),
        (("history", "web01/etc", "/x"), 4, "there is no snapshot of web01/etc"),
        (("history", "web01/nginx", "/nowhere"), 4, "no snapshot of web01/nginx has /nowhere"),
        (("changes", "db*"), 4, "no host matches db*"),
        (("history", "web*/nginx", "/x"), 2, "may be many modules"),
        (("changes", "--since", "yesterday"), 2, "is no moment"),
        (("changes", "--since", "2999-01-01"), 2, "is still to come"),
        (("compare", "web01/nginx"), 2, "write nginx, and the hosts with --hosts"),
        (("compare", "nginx", "/etc/nginx", "--diff"), 2, "/etc/nginx is a directory"),
        (("diff", "web01/nginx", "/nowhere"), 4, "/nowhere is not in web01/nginx@000002-"),
        (("find", "[z-a]"), 2, "is no pattern"),
        (("find", ""), 2, "the pattern is empty"),
        (("find", "x", "--host", "db*"), 4, "no host matches db*"),
        (("grep", "(", "-E"), 2, "is no regular expression"),
        (("grep", ""), 2, "the text is empty"),
        (("grep", "x", "--max-size", "1G"), 2, "--max-size: at most 32.0 MiB"),
        (("grep", "x", "--max-size", "big"), 2, "is not a size"),
        (("grep", "x", "--module", "etc"), 4, "no module with snapshots matches */etc"),
        (("compare", "etc"), 4, "no module with snapshots matches */etc"),
        (("compare", "nginx", "/nowhere"), 4, "none of 20 hosts has /nowhere"),
        (("compare", "nginx", "--diff"), 2, "--diff needs a PATH"),
    ],
)
def test_mistakes_are_told_in_a_line(run: Run, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = run(*arguments)
    assert (done[0], done[1]) == (code, "")
    assert words in done[2]
    assert "Traceback" not in done[2]
