from pathlib import Path

import pytest
from pyrsyncbackup_collector.catalog.views import Failure, RunView
from pyrsyncbackup_collector.cli import pull_result, targets, tunnel
from pyrsyncbackup_collector.cli.pull_result import Result
from pyrsyncbackup_collector.cli.snapshots import common_directory, stored_path
from pyrsyncbackup_collector.entry import DIRECTORY, FILE, Entry
from pyrsyncbackup_collector.errors import BackupError, NotFound, UsageError
from pyrsyncbackup_collector.fleet.hosts import Fleet, Host, Ssh


def host(name, **changes):
    return Host(name, name, "direct", Ssh("u", 22, Path("/k")), 9737, **changes)


FLEET = Fleet((host("web1"), host("web2", exclude=("secret",)), host("off", enabled=False)))


def run(problems=0, **counters):
    fields = {"trigger": "", "begin": 100.0, "end": 100.4, "repeats": 1, "phase": "", "outcome": "complete"}
    fields |= {"sequence": 2, "failure": None, "rsync_code": None, "rsync_tail": "", "counters": counters}
    fields |= dict.fromkeys(("files_done", "files_total", "bytes_done", "bytes_total"), 0)
    return RunView(id="r", host="web1", module="nginx", kind="pull", problems=problems, **fields)


def failed(kind, cause="why", hint="do"):
    return Result("web1", "nginx", "failed", Failure(kind, cause, hint, True))


def test_targets_are_hosts_once_each_with_what_was_named():
    found = targets.parse(FLEET, ["web1/nginx", "web*/etc", "web1/nginx"])
    assert [(each.host.name, each.modules) for each in found] == [("web1", ("nginx", "etc")), ("web2", ("etc",))]
    assert [each.modules for each in targets.parse(FLEET, ["web1/nginx", "web1"])] == [()]


def test_of_what_a_pattern_matches_only_that_is_meant_which_is_not_left_out():
    names = [[each.host.name for each in targets.parse(FLEET, [word])] for word in ("*", "web*/secret")]
    assert names == [["web1", "web2"], ["web1"]]
    offered = [("web1", "etc"), ("web1", "nginx"), ("web2", "nginx"), ("web2", "secret"), ("off", "nginx")]
    found = targets.parse(FLEET, ["*/[ns]*"], lambda: offered)
    assert [(each.host.name, each.modules) for each in found] == [("web1", ("nginx",)), ("web2", ("nginx",))]
    with pytest.raises(BackupError, match="off is disabled"):
        targets.parse(FLEET, ["of*"])


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("web9", NotFound),
        ("web9/etc", NotFound),
        ("/etc", UsageError),
        ("web1/", UsageError),
        ("web1/a/b", UsageError),
        ("web2/secret", BackupError),
        ("off", BackupError),
    ],
)
def test_what_names_nothing_is_refused_before_anything_is_done(word, error):
    with pytest.raises(error):
        targets.parse(FLEET, [word])


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ([Result("a", "m", "complete"), Result("a", "n", "unchanged")], 0),
        ([Result("a", "m", "complete"), Result("a", "n", "partial")], 13),
        ([failed("HostUnreachable"), Result("a", "n", "partial")], 5),
        ([failed("HostUnreachable"), failed("AgentRefused")], 5),
        ([failed("HostUnreachable"), failed("HookFailed")], 1),
        ([failed("NoSuchClass")], 1),
    ],
)
def test_the_exit_code_of_several_pulls(results, code):
    assert pull_result.exit_code(results) == code


def test_a_result_is_one_line_where_there_is_room_and_two_where_not():
    result = Result("web1", "nginx", "complete", None, run(added=3, sent_files=2, sent_bytes=2048), "000002-x")
    wide = [line.plain for line in pull_result.lines(result, 10, 200)]
    assert wide == ["web1/nginx  complete   000002-x  3 added; 2 files, 2.0 KiB sent, 400 ms"]
    narrow = [line.plain for line in pull_result.lines(result, 10, 60)]
    assert narrow == ["web1/nginx  complete   000002-x", "  3 added; 2 files, 2.0 KiB sent, 400 ms"]


def test_what_travelled_is_told_where_a_large_file_changed_a_little():
    counted = run(modified=1, sent_files=1, sent_bytes=40 << 20, wire_bytes=31 << 10)
    (line,) = pull_result.lines(Result("web1", "db", "complete", None, counted, "000002-x"), 8, 200)
    assert line.plain.endswith("1 modified; 1 file of 40.0 MiB, 31.0 KiB sent, 400 ms")


def test_a_long_cause_is_folded_between_words_and_a_command_is_not():
    cause = "the key is not the one that was pinned"
    lines = [line.plain for line in pull_result.lines(failed("AgentKeyChanged", cause, "run `a b c d e f`"), 10, 24)]
    assert lines[1:] == ["  the key is not the one", "  that was pinned", "  next: run `a b c d e f`"]


def test_a_failed_result_has_cause_and_next_step_with_nothing_that_moves_the_cursor():
    lines = [line.plain for line in pull_result.lines(failed("HookFailed", "said \x1b[2J", "look\n"), 10, 80)]
    assert lines == ["web1/nginx  failed", "  said \\x1b[2J", "  next: look\\n"]


def test_the_first_problems_are_listed_and_the_others_counted():
    problems = tuple((b"etc/%d" % number, "denied") for number in range(30))
    result = Result("web1", "nginx", "partial", None, run(problems=1200), "", problems)
    lines = [line.plain for line in pull_result.lines(result, 10, 200)]
    assert lines[1] == "  /etc/0: denied"
    assert lines[-1] == "  and 1,190 more: --json names them"
    assert len(pull_result.document(result)["problems"]) == 30


@pytest.mark.parametrize(
    ("paths", "top"),
    [
        (["etc/", "etc/nginx/", "etc/nginx/a", "etc/nginx/b/", "etc/nginx/b/c"], b"etc/nginx"),
        (["etc/", "etc/nginx/", "etc/nginx/b/", "etc/nginx/b/c", "etc/nginx/d/"], b"etc/nginx"),
        (["etc/", "etc/a/", "etc/a/x", "var/", "var/b"], b""),
        (["etc/", "etc/a/", "etc/a/x", "etc/ab"], b"etc"),
        (["a"], b""),
        ([], b""),
    ],
)
def test_a_listing_begins_where_the_module_does(paths, top):
    entries = [Entry(path_text=path.rstrip("/"), type=DIRECTORY if path.endswith("/") else FILE) for path in paths]
    assert common_directory(entries) == top


@pytest.mark.parametrize("text", ["/etc/nginx", "etc/nginx", "/etc/nginx/", "//etc/./nginx", "/etc/x/../nginx"])
def test_a_path_may_be_written_with_or_without_its_slash(text):
    assert stored_path(text) == b"etc/nginx"


def test_command_lines_of_a_tunnel_are_complete_for_a_socket_and_for_a_port():
    files = (Path("/s/certificate.pem"), Path("/s/key.pem"), Path("/s/pins/web 1.pem"), "abc.pyrsyncbackup")
    for address, target in (("/run/x.sock", "unix"), (("10.0.0.5", 9737), "10.0.0.5:9737")):
        lines = [line for _, line in tunnel.command_lines(address, *files)]
        assert all("'/s/pins/web 1.pem'" in line and "/s/key.pem" in line and target in line for line in lines)
        assert all("abc.pyrsyncbackup" in line for line in lines)
