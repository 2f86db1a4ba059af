"""Real rsync, as the daemon that serves a root, and our own walk by the same rules agree on the set of files."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyrsyncbackup_agent import rsyncd
from pyrsyncbackup_agent.patterns import Rules, problem

pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync")

# Names that a filter file, a wildcard or rsync's output might take for something else.
NAMES = rb"a b ab abc A a.b .a 3 a] [a] a* * ? a\b \ \* a-c ^a !a #a ;a -a".split()
NAMES += [b"a b", b" a", b"+ a", b"x\ny", b"\xff", b"\xc3\xa4"]
PIECES = rb"a b ab c . ! # / / \ * ** *** ? [*] [a-c] [!a] [^a-b] []a] [a\]] [\\] [-a] []-a] [c-a] [a- [ ]".split()
PIECES += rb"[[:alpha:]] [![:alpha:][:digit:]] [a-[:alpha:]] [[:alpha] [[:x:]]".split()
PIECES += [b" ", b"\xff"]

names = st.sampled_from(NAMES)
trees = st.lists(
    st.tuples(st.lists(names, min_size=1, max_size=4).map(b"/".join), st.booleans()), min_size=1, max_size=14
)
pieces = st.sampled_from(PIECES)
raw_patterns = st.one_of(
    names,
    st.lists(pieces, min_size=1, max_size=6).map(b"".join),
    st.lists(st.one_of(names, st.sampled_from([b"*", b"**", b"***", b"?*"])), min_size=1, max_size=3).map(b"/".join),
)
patterns = st.builds(
    lambda before, body, after: before + body + after,
    st.sampled_from([b"", b"", b"/", b"**/"]),
    raw_patterns,
    st.sampled_from([b"", b"", b"/", b"/*", b"/**", b"/***"]),
).filter(lambda pattern: not problem(pattern))


@dataclass(frozen=True)
class Named:
    names: frozenset[bytes] = frozenset()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="patterns-") as directory:
        yield Path(directory)


def build(tree: Path, entries: list[tuple[bytes, bool]]) -> None:
    for path, is_dir in entries:
        target = os.path.join(os.fsencode(tree), path)
        try:
            os.makedirs(target if is_dir else os.path.dirname(target), exist_ok=True)
            if not is_dir and not os.path.isdir(target):
                Path(os.fsdecode(target)).touch()
        except (FileExistsError, NotADirectoryError):
            continue  # an earlier entry made a file of what this one needs as a directory


def walk(tree: bytes, rules: Rules, below: bytes = b"") -> Iterator[bytes]:
    for entry in os.scandir(os.path.join(tree, below)):
        path = os.path.join(below, entry.name)
        is_dir = entry.is_dir(follow_symlinks=False)
        if not rules.excluded(path, is_dir):
            yield path
            if is_dir:
                yield from walk(tree, rules, path)


def run_rsync(sandbox: Path, config: str, *arguments: str, fds: tuple[int, ...] = (), stdin: bytes = b"") -> bytes:
    """What the client prints, with a daemon of this configuration at the other end."""
    (sandbox / "rsyncd.conf").write_text(config)
    daemon = f"rsync --server --daemon --config={sandbox}/rsyncd.conf ."
    done = subprocess.run(
        ["rsync", *arguments, f"{sandbox}/received/"],
        env={**os.environ, "LC_ALL": "C", "RSYNC_CONNECT_PROG": daemon},
        capture_output=True,
        input=stdin,
        pass_fds=fds,
        check=False,
    )
    assert done.returncode in (0, 23), done.stderr  # 23: something asked for was not served
    return done.stdout


def listed_by_rsync(sandbox: Path, tree: Path, rules: bytes, below: str = "") -> set[bytes]:
    (sandbox / "rules").write_bytes(rules)
    owner = f"uid = {os.geteuid()}\ngid = {os.getegid()}\n" if os.geteuid() == 0 else ""
    config = f"use chroot = no\n{owner}[m]\npath = {tree}\nread only = yes\nfilter = merge {sandbox}/rules\n"
    shown = run_rsync(sandbox, config, "-rn", "--out-format=%n", f"x::m/{below}").splitlines()
    return {unescaped(line.removesuffix(b"/")) for line in shown} - {b".", b""}


def served_by_the_agents_daemon(sandbox: Path, tree: Path, rules: bytes) -> set[bytes]:
    """What a transfer gets that asks for each path in `tree` by its name, as the collector does."""
    (sandbox / "rules").write_bytes(rules)
    wanted = b"\0".join(walk(os.fsencode(tree), Rules()))
    root_fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    rules_fd = os.open(sandbox / "rules", os.O_RDONLY)
    received = sandbox / "received"
    received.mkdir()
    try:
        config = rsyncd.configuration(root_fd, rules_fd, os.geteuid())
        # rsync 3.5.0's client refuses a name of a backslash and a star that it asked for, unless it trusts the sender.
        options = ("-IRd", "--no-implied-dirs", "--files-from=-", "--from0", "--trust-sender")
        run_rsync(sandbox, config, *options, f"x::{rsyncd.MODULE}/", fds=(root_fd, rules_fd), stdin=wanted)
        return set(walk(os.fsencode(received), Rules()))
    finally:
        os.close(root_fd)
        os.close(rules_fd)
        shutil.rmtree(received)


def unescaped(line: bytes) -> bytes:
    r"""Undo rsync's \#ooo."""
    parts = line.split(b"\\#")
    return parts[0] + b"".join(bytes([int(part[:3], 8)]) + part[3:] for part in parts[1:])


counter = itertools.count()
_UNCHECKED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=60, deadline=None, suppress_health_check=_UNCHECKED)
@given(trees, st.lists(patterns, max_size=3), st.lists(patterns, min_size=1, max_size=4))
@example([(b"keep/f", False), (b"other/f", False)], [b"/keep/"], [b"/*/"])
@example([(b"a\\b/f", False), (b"ab/f", False)], [], [b"a\\b/"])
@example([(b"b/a/b/c", False), (b"a/b/d", False)], [], [b"a/b/**"])
def test_the_walk_lists_what_rsync_serves(
    sandbox: Path, entries: list[tuple[bytes, bool]], includes: list[bytes], excludes: list[bytes]
) -> None:
    tree = sandbox / f"tree{next(counter)}"
    tree.mkdir()
    build(tree, entries)
    rules = Rules(tuple(includes), tuple(excludes))
    try:
        ours = set(walk(os.fsencode(tree), rules))
        assert ours == listed_by_rsync(sandbox, tree, rules.filter_lines(Named()))
        assert ours == served_by_the_agents_daemon(sandbox, tree, rules.filter_lines(Named()))
    finally:
        shutil.rmtree(tree)


@settings(max_examples=20, deadline=None, suppress_health_check=_UNCHECKED)
@given(st.sets(names, min_size=1, max_size=5), st.sets(names, min_size=1, max_size=5))
def test_a_root_with_names_serves_these_names_alone(sandbox: Path, chosen: set[bytes], others: set[bytes]) -> None:
    tree = sandbox / f"names{next(counter)}"
    tree.mkdir()
    build(tree, [(name, False) for name in chosen | others])
    lines = Rules(excludes=(b"*",)).filter_lines(Named(frozenset(chosen)))
    try:
        assert listed_by_rsync(sandbox, tree, lines) == chosen
    finally:
        shutil.rmtree(tree)


def test_anchored_patterns_hold_whatever_directory_a_client_asks_for(sandbox: Path) -> None:
    tree = sandbox / "below"
    build(tree, [(b"a/secret", False), (b"a/b", False), (b"a/a/secret", False)])
    rules = Rules(excludes=(b"/a/secret",)).filter_lines(Named())
    assert listed_by_rsync(sandbox, tree, rules, below="a/") == {b"b", b"a", b"a/secret"}
