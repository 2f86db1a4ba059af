"""Each fault of the configuration has its own full sentence, with file, line and key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pyrsyncbackup_collector.config import load
from pyrsyncbackup_collector.errors import ConfigError

GOOD = 'store = "store"\ncatalog = "catalog.sqlite"\n'

FORMS = (
    'write it as a duration such as 6h, or as "hourly at :15", "daily at 02:30", "weekly on sunday at 03:00", '
    '"monthly on 1 at 04:00" or "cron 30 2 * * 1-5"'
)
SPANS = 'write it as "22:00-06:00", "sat,sun", "mon-fri 08:00-18:00" or "2026-12-24..2026-12-26"'
ZONE_FORM = 'it is written like "Europe/Berlin" or "UTC"'

# (lines after the two good ones, the problem without "FILE:")
MAIN_FAULTS = [
    ("stor = 3", '3: stor: unknown key; did you mean "store"?'),
    ('state = ""', "3: state: must be the path of a file or directory, as text"),
    ("state = 5", "3: state: must be the path of a file or directory, as text"),
    ('sandbox = "none"', '3: sandbox: must be "require" or "off", not "none"'),
    ("[limits]\npulls = 0", "4: limits.pulls: must be at least 1, not 0"),
    ("[limits]\npulls = 1000", "4: limits.pulls: must be at most 512, not 1000"),
    (
        '[limits]\npulls = "many"',
        '4: limits.pulls: must be "auto", a number such as 8, or { min = 2, max = 16 }, not "many"',
    ),
    (
        "[limits]\npulls = { min = 9, max = 3 }",
        "4: limits.pulls: `min` is 9 and `max` 3: the smaller one comes first",
    ),
    ("[limits]\npulls = { mim = 9 }", '4: limits.pulls.mim: unknown key; did you mean "min"?'),
    ("[limits]\ntunnels = 1000", "4: limits.tunnels: must be at most 250, not 1000"),
    ("[limits]\nchecks = true", "4: limits.checks: must be a whole number, not true"),
    ("[limits]\npull = 4", '4: limits.pull: unknown key; did you mean "pulls"?'),
    (
        '[limits]\nmax_file_size = "big"',
        '4: limits.max_file_size: "big" is not a size: write it as 500M, 20GiB or a number of bytes',
    ),
    (
        '[limits]\nidle = "2 minutes"',
        '4: limits.idle: "2 minutes" is not a duration: write it as 90s, 15m, 1h30m, 1d or 2w',
    ),
    (
        "[policy]\ncheck = 15",
        '4: policy.check: 15 is not a duration: write it as text with a unit, such as "15s"',
    ),
    (
        '[policy]\npull = "30m1h"',
        '4: policy.pull: "30m1h" is not a duration: write it as 90s, 15m, 1h30m, 1d or 2w',
    ),
    ('[policy]\npull = "0s"', '4: policy.pull: "0s" is out of range: durations are from 1s to 100y'),
    (
        '[policy]\npull = "dayly at 02:30"',
        '4: policy.pull: "dayly at 02:30" is neither a duration nor a time: did you mean "daily"? ' + FORMS,
    ),
    ('[policy]\npull = "nightly"', '4: policy.pull: "nightly" is neither a duration nor a time: ' + FORMS),
    ('[policy]\npull = "daily 02:30"', '4: policy.pull: "daily 02:30": the time is missing; ' + FORMS),
    (
        '[policy]\npull = "daily at 26:30"',
        '4: policy.pull: "26:30" is not a time of the day: write it as 00:00 to 23:59',
    ),
    (
        '[policy]\npull = "weekly on sanday at 02:30"',
        '4: policy.pull: "sanday" is not a day of the week; did you mean "sunday"?',
    ),
    (
        '[policy]\npull = "monthly on 32 at 02:30"',
        '4: policy.pull: "monthly on 32 at 02:30": the day of the month is a number from 1 to 31',
    ),
    (
        '[policy]\npull = "cron 30 2 * *"',
        '4: policy.pull: "cron 30 2 * *": a cron expression has five fields, not 4: minute, hour, day of the month, '
        "month, day of the week",
    ),
    ('[policy]\npull = "cron 61 2 * * *"', '4: policy.pull: "cron 61 2 * * *": bad minute; ' + FORMS),
    (
        '[policy]\npull = "cron 0 0 31 2,4 *"',
        '4: policy.pull: "cron 0 0 31 2,4 *": bad day-of-month; ' + FORMS,
    ),
    (
        '[policy]\nzone = "europe/berln"',
        '4: policy.zone: "europe/berln" is not a time zone; did you mean "Europe/Berlin"?',
    ),
    ('[policy]\nzone = "/etc/passwd"', "4: policy.zone: " + '"/etc/passwd" is not a time zone; ' + ZONE_FORM),
    (
        '[policy]\nwindows = ["25:00-06:00"]',
        '4: policy.windows: "25:00" is not a time of the day: write it as 00:00 to 23:59',
    ),
    (
        '[policy]\nwindows = ["22:00"]',
        '4: policy.windows: "22:00" is not a span of time: it has a begin and no end; ' + SPANS,
    ),
    (
        '[policy]\nwindows = ["06:00-06:00"]',
        '4: policy.windows: "06:00-06:00" begins when it ends: for the whole day leave the times out',
    ),
    (
        '[policy]\nwindows = ["sat,sundae"]',
        '4: policy.windows: "sundae" is not a day of the week; did you mean "sunday"?',
    ),
    ('[policy]\nwindows = ["22-6"]', '4: policy.windows: "22-6" is not a span of time: ' + SPANS),
    ("[policy]\nwindows = [5]", "4: policy.windows: 5 is not a span of time: " + SPANS),
    (
        '[policy]\nblackouts = ["2026-02-30"]',
        '4: policy.blackouts: "2026-02-30": "2026-02-30" is not a date: write it as 2026-12-24',
    ),
    (
        '[policy]\nblackouts = ["2026-12-26..2026-12-24"]',
        '4: policy.blackouts: "2026-12-26..2026-12-24" ends before it begins',
    ),
    (
        '[policy]\nwindows = ["mon-fri 09:00-17:00"]\nblackouts = ["08:00-18:00"]',
        "3: policy: leaves no moment: `blackouts` cover all of `windows`",
    ),
    ('[policy]\nshare = "maybe"', '4: policy.share: must be "on" or "off", not "maybe"'),
    ("[policy]\nkeep = 3", "4: policy.keep: must be a table, not 3"),
    ("[policy]\nkeep = { last = -1 }", "4: policy.keep.last: must be at least 0, not -1"),
    ("[policy]\nkeep = { last = 0 }", "4: policy.keep: keeps nothing; leave `keep` out to keep everything"),
    ("[policy.keep]\ndayly = 3", '4: policy.keep.dayly: unknown key; did you mean "daily"?'),
    ("[policy.keep]\ndaily = 3.5", "4: policy.keep.daily: must be a whole number, not 3.5"),
    (
        '[[rule]]\nhosts = "db*"',
        "3: rule[1]: sets nothing: a rule has at least one of check, pull, zone, windows, blackouts, keep, freeze, "
        "share, validators, enabled, mirror, bwlimit",
    ),
    (
        '[[rule]]\nhosts = "db["\ncheck = "1h"',
        "4: rule[1].hosts: \"db[\" is not a name pattern: names have a-z, 0-9, '.', '_', '-'; "
        "patterns also *, ? and [...]",
    ),
    ('[[rule]]\nhost = "db*"\ncheck = "1h"', '4: rule[1].host: unknown key; did you mean "hosts"?'),
    ("rule = 5", "3: rule: must be a list, not 5"),
    ("[limits", " is not valid TOML: expected ']' at the end of a table declaration (at line 3, column 8)"),
]

HOST_FAULTS = [
    ('adress = "x"', '3: host[1].adress: unknown key; did you mean "address"?'),
    ('address = "a b"', '3: host[1].address: "a b" is neither a host name nor an IP address'),
    ('address = "-oProxyCommand=x"', '3: host[1].address: "-oProxyCommand=x" is neither a host name nor an IP address'),
    ("agent_port = 70000", "3: host[1].agent_port: must be at most 65535, not 70000"),
    ('transport = "ssh"', '3: host[1].transport: must be "sshtunnel", "openssh" or "direct", not "ssh"'),
    ('trust = "always"', '3: host[1].trust: must be "first-use" or "pinned", not "always"'),
    ('enabled = "yes"', '3: host[1].enabled: must be true or false, not "yes"'),
    ('ssh = { port = "22" }', '3: host[1].ssh.port: must be a whole number, not "22"'),
    ('ssh = { user = "-l" }', '3: host[1].ssh.user: "-l" is not a user name'),
    ('[host.ssh]\nusr = "x"', '4: host[1].ssh.usr: unknown key; did you mean "user"?'),
    ('modules = { include = "x" }', '3: host[1].modules.include: must be a list, not "x"'),
    ("modules = { only = [] }", "3: host[1].modules.only: unknown key; known are include, exclude"),
]


def problems(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return caught.value.problems


@pytest.mark.parametrize(("text", "expected"), MAIN_FAULTS)
def test_a_fault_in_the_main_file_is_told_with_line_and_key(tmp_path: Path, text: str, expected: str) -> None:
    file = tmp_path / "collector.toml"
    file.write_text(GOOD + text + "\n")
    assert problems(file) == [f"{file}:{expected}"]


@pytest.mark.parametrize(("text", "expected"), HOST_FAULTS)
def test_a_fault_in_a_host_file_is_told_with_line_and_key(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "collector.toml").write_text(GOOD)
    (tmp_path / "hosts.d").mkdir()
    file = tmp_path / "hosts.d" / "web.toml"
    file.write_text(f'[[host]]\nname = "web1"\n{text}\n')
    assert problems(tmp_path / "collector.toml") == [f"{file}:{expected}"]


def test_all_problems_of_all_files_come_at_once(tmp_path: Path) -> None:
    main, first, second = tmp_path / "collector.toml", tmp_path / "hosts.d/a.toml", tmp_path / "hosts.d/b.toml"
    first.parent.mkdir()
    main.write_text('stor = "x"\ncatalog = 3\n')
    first.write_text('[[host]]\nname = "web1"\n')
    second.write_text('[[host]]\nname = "db1"\n[[host]]\nname = "web1"\n[[host]]\nname = "web1"\n')
    assert problems(main) == [
        f"{main}: store: is missing",
        f'{main}:1: stor: unknown key; did you mean "store"?',
        f"{main}:2: catalog: must be the path of a file or directory, as text",
        f'{second}:4: host[2].name: "web1" is defined already in {first}:2',
        f'{second}:6: host[3].name: "web1" is defined already in {first}:2',
    ]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('mirror_dir = "store/mirror"', 'mirror_dir: "{0}/store/mirror" is in the store, {0}/store'),
        ('[[copy]]\nname = "a"\nto = "{0}/store"', 'copy[1].to: "{0}/store" is the store, {0}/store'),
        ('[[copy]]\nname = "a"\nto = "{0}/store/x/../y"', 'copy[1].to: "{0}/store/y" is in the store, {0}/store'),
        ('[[copy]]\nname = "a"\nto = "{0}"', 'copy[1].to: "{0}" holds the store, {0}/store'),
        ('[[copy]]\nname = "a"\nto = "/c"\n[[copy]]\nname = "b"\nto = "/c/"', 'copy[2].to: "/c" is copy a, /c'),
        (
            '[[copy]]\nname = "a"\nto = "{0}/store-mirror/x"',
            'copy[1].to: "{0}/store-mirror/x" is in the place of mirrors, {0}/store-mirror',
        ),
    ],
)
def test_the_store_the_mirrors_and_each_copy_have_a_directory_of_their_own(
    tmp_path: Path, more: str, said: str
) -> None:
    file = tmp_path / "collector.toml"
    file.write_text('store = "store"\ncatalog = "catalog.sqlite"\n' + more.format(tmp_path))
    assert problems(file)[0].partition(": ")[2] == said.format(tmp_path) + ": each needs a directory of its own"


def test_a_missing_file_names_the_command_that_makes_one(tmp_path: Path) -> None:
    file = tmp_path / "collector.toml"
    with pytest.raises(ConfigError, match="does not exist") as missing:
        load(file)
    assert "`pyrsyncbackup init DIR` writes it" in missing.value.hint


def test_a_directory_in_place_of_the_file_is_told_with_the_file_in_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a directory") as refused:
        load(tmp_path)
    assert refused.value.hint == f"name the file in it: {tmp_path}/collector.toml"


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "collector.toml"
    file.write_bytes(b'store = "\xff"\n')
    assert problems(file) == [f"{file}: is not UTF-8 text"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_of_another_user_is_no_mistake_in_it(tmp_path: Path) -> None:
    file = tmp_path / "collector.toml"
    file.touch(mode=0)
    with pytest.raises(ConfigError, match="cannot be read by this user") as refused:
        load(file)
    assert refused.value.hint == "run it as the collector's user"
