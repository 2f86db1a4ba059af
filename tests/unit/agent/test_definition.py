from __future__ import annotations

import pytest
from pyrsyncbackup_agent.modules.definition import Detect, Hints, Hooks, Validator, parse
from pyrsyncbackup_agent.patterns import Rules

FULL = b"""
title = "Shop"
paths = ["/srv/shop", "/etc/shop/*.conf"]
exclude = ["cache/"]
include = ["cache/keep"]
[detect]
paths = ["/srv/shop"]
commands = ["shopd"]
packages = ["shop"]
units = ["shop@*.service"]
[hooks]
before = [["/usr/bin/dump", "--to", "/run/x"]]
after = [["/bin/rm", "/run/x"]]
timeout = "30m"
[hints]
check = "5m"
pull = "6h"
keep = { last = 3, daily = 30 }
[validate]
command = ["shopd", "--check", "{root}/etc/shop/shop.conf"]
with = ["etc"]
directories = ["/var/log/shop/"]
"""


def fault(text: str) -> str:
    with pytest.raises(ValueError) as caught:
        parse("shop", text.encode())
    return str(caught.value)


def test_everything_a_definition_may_say() -> None:
    definition = parse("shop", FULL)
    assert definition is not None
    assert definition.name == "shop"
    assert definition.title == "Shop"
    assert definition.paths == ("/srv/shop", "/etc/shop/*.conf")
    assert definition.rules == Rules(includes=(b"cache/keep",), excludes=(b"cache/",))
    assert definition.detect == Detect(("/srv/shop",), ("shopd",), ("shop",), ("shop@*.service",))
    assert definition.hooks == Hooks((("/usr/bin/dump", "--to", "/run/x"),), (("/bin/rm", "/run/x"),), 1800)
    assert definition.hints == Hints("5m", "6h", {"last": 3, "daily": 30})
    command = ("shopd", "--check", "{root}/etc/shop/shop.conf")
    assert definition.validator == Validator(command, ("etc",), ("/var/log/shop",))


def test_paths_are_enough() -> None:
    definition = parse("shop", b'paths = ["/srv/shop/"]')
    assert definition is not None
    assert definition.title == "shop"
    assert definition.paths == ("/srv/shop",)
    assert definition.detect.by_paths_alone
    assert not definition.hooks


@pytest.mark.parametrize("content", [b"", b"\n \n", b"# masked\n"])
def test_nothing_in_a_file_masks(content: bytes) -> None:
    assert parse("shop", content) is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("title = 'x'", "paths: at least one is needed"),
        ("paths = []", "paths: at least one is needed"),
        ("paths = '/a'", 'paths: must be a list of texts: ["one", "two"]'),
        ("paths = ['a']", "paths: 'a' is not absolute"),
        ("paths = ['/a/../b']", "paths: '/a/../b' holds an empty, . or .. component"),
        ("paths = ['/a']\nexclud = []", "exclud: unknown key; did you mean `exclude`?"),
        ("paths = ['/a']\nexclude = ['x ']", "exclude: pattern 'x ' ends with a blank"),
        ("paths = ['/a']\n[detect]\ncommand = ['x']", "detect.command: unknown key; did you mean `commands`?"),
        ("paths = ['/a']\n[detect]\ncommands = ['/bin/x']", "detect.commands: '/bin/x' must be a name"),
        ("paths = ['/a']\n[hooks]\nbefore = ['x']", "hooks.before: must be a list of commands"),
        ("paths = ['/a']\n[hooks]\ntimeout = 'soon'", "hooks.timeout: 'soon' is not an interval"),
        ("paths = ['/a']\n[hints]\nkeep = { last = -1 }", "hints.keep.last: must be a number from 0"),
        ("paths = ['/a']\n[hints.keep]\nlate = 1", "hints.keep.late: unknown key; did you mean `last`?"),
        ("paths = ['/a']\n[validate]\ncommand = ['/bin/x']", "validate.command: begins with the name of a program"),
        ("paths = ['/a']\n[validate]\ncommand = 'x -t'", "validate.command: must be a list of texts"),
        ("paths = ['/a']\n[validate]\nwith = ['etc']", "validate.command: is needed where the other keys are"),
        (
            "paths = ['/a']\n[validate]\ncommand = ['x']\nwith = ['/etc']",
            "validate.with: '/etc' is not a module's name",
        ),
        (
            "paths = ['/a']\n[validate]\ncommand = ['x']\ndirectories = ['a']",
            "validate.directories: 'a' is not absolute",
        ),
        ("paths = ['/a']\nhooks = 3", "hooks: must be a table, not 3"),
    ],
)
def test_what_does_not_fit_is_told_with_its_key(text: str, told: str) -> None:
    assert fault(text).startswith(told)


def test_all_faults_of_a_file_are_one_line() -> None:
    assert fault("paths = ['a']\ntitle = 3") == "title: must be a text in quotes, not 3; paths: 'a' is not absolute"
