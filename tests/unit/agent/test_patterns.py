from __future__ import annotations

from dataclasses import dataclass

import pytest
from pyrsyncbackup_agent.patterns import Rules, problem


@dataclass(frozen=True)
class Named:
    names: frozenset[bytes] = frozenset()


@pytest.mark.parametrize(
    ("pattern", "taken", "left"),
    [
        (b"a", [b"a", b"x/a", b"a/"], [b"ab", b"ba"]),
        (b"/a", [b"a"], [b"x/a"]),
        (b"a/", [b"a/", b"x/a/"], [b"a"]),
        (b"x/a", [b"x/a", b"y/x/a"], [b"yx/a", b"a"]),
        (b"*.log", [b".log", b"x/y.log"], [b"y.log.1"]),
        (b"/a/*", [b"a/b"], [b"a/b/c", b"a"]),
        (b"a/**", [b"a/b/c", b"x/a/b"], [b"a/"]),
        (b"a/***", [b"a/b", b"a/", b"x/a/"], [b"a", b"xa/"]),
        (b"**/a", [b"a", b"x/a", b"x/y/a"], [b"xa"]),
        (b"/**/a", [b"x/a", b"x/y/a"], [b"a"]),
        (b"a**z", [b"a/b/z", b"az"], [b"a/b/zy"]),
        (b"a?", [b"ab", b"a\n"], [b"a"]),
        (b"[a-c]", [b"b"], [b"d"]),
        (b"[!a]", [b"b", b"\xff"], [b"a"]),
        (b"[]]", [b"]"], [b"["]),
        (b"[[:digit:]x]", [b"3", b"x"], [b"a", b":"]),
        (b"\\*?", [b"*a"], [b"\\*a", b"ba"]),
        (b"a\\b", [b"a\\b"], [b"ab"]),  # without a wildcard a backslash is itself
    ],
)
def test_patterns_take_what_the_manual_says(pattern: bytes, taken: list[bytes], left: list[bytes]) -> None:
    rules = Rules(excludes=(pattern,))
    for path in taken + left:
        assert rules.excluded(path.removesuffix(b"/"), path.endswith(b"/")) == (path in taken), path


def test_an_include_comes_before_every_exclude() -> None:
    rules = Rules(includes=(b"/keep/", b"*.conf"), excludes=(b"*",))
    assert not rules.excluded(b"keep", True)
    assert not rules.excluded(b"keep/a.conf", False)
    assert rules.excluded(b"keep", False)
    assert rules.excluded(b"keep/a", False)


def test_no_rule_excludes_nothing_and_says_so() -> None:
    assert Rules().trivial
    assert Rules(includes=(b"a",)).trivial
    assert not Rules().excluded(b"a", False)
    assert not Rules(excludes=(b"a",)).trivial


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        (b"", "matches nothing"),
        (b"/", "matches nothing"),
        (b"a\nb", "line break"),
        (b"a ", "ends with a blank"),
        (b"!a", "negation"),
        (b"- a", "alone"),
        (b"a//b", "no entry can have"),
        (b"../a", "no entry can have"),
        (b"[a", "without its ]"),
        (b"[[:foo:]]", "unknown class"),
        (b"[a/]", "slash between"),
        (b"*\\", "escapes nothing"),
        (b"a" * 2000, "longer"),
    ],
)
def test_patterns_that_cannot_be_meant_are_refused(pattern: bytes, fault: str) -> None:
    assert fault in problem(pattern)
    with pytest.raises(ValueError, match=r"\S"):
        Rules(excludes=(pattern,))


def test_the_daemon_gets_the_same_rules_bound_to_the_root() -> None:
    rules = Rules(includes=(b"a",), excludes=(b"#b", b"/c/"))
    assert rules.filter_lines(Named()) == b"+/ a\n-/ #b\n-/ /c/\n"


def test_names_are_escaped_only_where_that_means_something() -> None:
    lines = Rules().filter_lines(Named(frozenset([b"a\\b", b"x*\\", b"n\nl"])))
    assert lines == b"+/ /a\\b\n+/ /n[[:cntrl:]]l\n+/ /x\\*\\\\\n-/ *\n"
