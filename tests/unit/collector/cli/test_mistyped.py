"""Mistyped paths and names of commands that look into a snapshot: what was meant is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.estate import Content, Estate

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(tmp_path: Path, command: Say) -> Say:
    """A store with web1/etc."""
    estate = Estate(tmp_path)
    files = (
        "etc/hosts",
        "etc/README",
        "etc/a-directory-with-a-long-name/index.html",
        "etc/a-directory-with-a-long-name/big",
    )
    estate.pull("web1", "etc", {name.encode(): Content(name.encode()) for name in files})
    estate.close()
    hosts = "".join(f'[[host]]\nname = "web{number}"\n' for number in (1, 2, 3))
    (tmp_path / "collector.toml").write_text(f'store = "store"\ncatalog = "catalog.sqlite"\n{hosts}')
    return command


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("ls", "web1/etc", "/etc/hots"), "did you mean /etc/hosts?"),
        (("cat", "web1/etc", "/etc/READNE"), "did you mean /etc/README?"),
        (("cat", "web1/etc", "/etc/readme"), "`pyrsyncbackup history web1/etc /etc/readme` whether it ever was"),
        (("cat", "web1/etc", "/etc/it's"), "`pyrsyncbackup history web1/etc '/etc/it'\"'\"'s'` whether it ever was"),
        (("restore", "web1/etc", "/etc/a-directory-with-a-long-name/index.htm", "--to", "x"), "index.html?"),
        (("restore", "web1/etc", "--to-host", "webb"), "did you mean web3, web2 or web1? If it is a path, say"),
        (("restore", "web1/etc", "--to-host", "mail"), "shows all; if it is a path, say `--to-host . mail`"),
        (("mount", "/nonexistent/x"), "`mkdir /nonexistent/x`, or name another"),
    ],
)
def test_what_was_meant_or_where_to_look_is_the_next_step(say: Say, words: tuple[str, ...], hint: str) -> None:
    code, _, err = say(*words)
    assert code in (4, 12)
    cause, following = err.rstrip("\n").split("\n")
    assert cause.startswith("error: ")
    assert following.startswith("  next: ")
    assert hint in following
    assert "/big" not in err
