"""Patterns of paths: what they match, and what cannot be one."""

from __future__ import annotations

import pytest
from pyrsyncbackup_collector.errors import UsageError
from pyrsyncbackup_collector.store import globs


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("*.conf", "etc/nginx/nginx.conf", True),
        ("*.conf", "etc/conf.d", False),
        ("/*.conf", "etc/nginx.conf", False),
        ("/*.conf", "nginx.conf", True),
        ("etc/*.conf", "etc/a.conf", True),
        ("etc/*.conf", "etc/a/b.conf", False),
        ("etc/*.conf", "srv/etc/a.conf", False),
        ("etc/nginx/**/*.conf", "etc/nginx/nginx.conf", True),
        ("etc/nginx/**/*.conf", "etc/nginx/a/b/c.conf", True),
        ("etc/nginx/**/*.conf", "etc/nginx-old/c.conf", False),
        ("**/passwd", "passwd", True),
        ("**/passwd", "etc/passwd", True),
        ("etc/**", "etc/a/b", True),
        ("etc/**", "etc", False),
        ("host?", "etc/hosts", True),
        ("host?", "etc/host", False),
        ("a?b", "a/b", False),
        ("[a-c]x", "bx", True),
        ("[a-c]x", "dx", False),
        ("[!a-c]x", "dx", True),
        ("[^a-c]x", "bx", False),
        ("[]]x", "]x", True),
        ("a[-x]b", "a-b", True),
        (r"\*x", "*x", True),
        (r"\*x?", "axy", False),
        (r"a\[b*", "a[bc", True),
    ],
)
def test_a_pattern_for_what_is_wanted(pattern: str, path: str, matches: bool) -> None:
    assert globs.wanted(pattern.encode()).matches(path.encode(), directory=False) is matches


@pytest.mark.parametrize(
    ("pattern", "path", "directory", "matches"),
    [
        ("*.log", "var/log/a.log", False, True),
        ("cache/", "var/cache", True, True),
        ("cache/", "var/cache", False, False),
        ("/cache", "var/cache", True, False),
        ("/var/cache", "var/cache", True, True),
        ("a/b", "x/a/b", False, True),
        ("a/b", "xa/b", False, False),
        ("/a/**", "a/b/c", False, True),
        ("/a/*", "a/b/c", False, False),
        ("name", "etc/name", False, True),
    ],
)
def test_a_pattern_for_what_is_left_out(pattern: str, path: str, directory: bool, matches: bool) -> None:
    assert globs.excluded(pattern.encode()).matches(path.encode(), directory=directory) is matches


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("/", "no pattern"),
        ("", "no pattern"),
        ("x" * 5000, "no pattern"),
        ("a[b", "without its"),
        ("a*\\", "escapes nothing"),
        ("\x1b[2J*[", "without its"),
    ],
)
def test_what_can_match_nothing_is_refused(pattern: str, why: str) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        globs.excluded(pattern.encode())
    assert "\x1b" not in refused.value.cause


def test_any_byte_that_is_no_slash_is_matched_by_a_question_mark() -> None:
    assert all(
        globs.wanted(b"a?b").matches(b"a%cb" % byte, directory=False) is (byte != ord("/")) for byte in range(1, 256)
    )
