"""HOST[/MODULE] as it is typed: what it means, and what was meant where there is none of that name."""

from __future__ import annotations

import pytest
from pyrsyncbackup_collector.cli.names import Which, expand, must_be_there, no_module, no_snapshot, which
from pyrsyncbackup_collector.errors import NotFound, UsageError

KNOWN = [("web1", "etc"), ("web1", "nginx"), ("web2", "nginx"), ("old9", "etc")]
CONFIGURED = ["web1", "web2", "db1"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, KNOWN),
        ("web1", KNOWN[:2]),
        ("web*", KNOWN[:3]),
        ("*/etc", [KNOWN[0], KNOWN[3]]),
        ("web?/ng*", KNOWN[1:3]),
        ("web[!1]/*", [KNOWN[2]]),
        ("old9", [KNOWN[3]]),
    ],
)
def test_names_and_patterns_mean_modules(text: str | None, found: list[tuple[str, str]]) -> None:
    wanted = which(text)
    assert [each for each in KNOWN if wanted.holds(*each)] == found
    must_be_there(wanted, KNOWN, CONFIGURED)


@pytest.mark.parametrize("text", ["", "/etc", "web1/", "web1/a/b", "../x", "web1/etc@3", "web 1", "\x1b[m", "-x"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"write HOST or HOST/MODULE; both may be patterns"):
        which(text)


@pytest.mark.parametrize(
    ("text", "cause", "hint"),
    [
        ("webb1", "no host is called webb1", "did you mean web1 or web2?"),
        ("WEB1", "no host is called WEB1", "did you mean web1 or web2?"),
        ("old8/etc", "no host is called old8", "did you mean old9?"),
        ("web", "no host is called web", "did you mean web2 or web1?"),
        ("mail", "no host is called mail", "`pyrsyncbackup host list` shows all"),
        ("mail*", "no host matches mail*", "`pyrsyncbackup host list` shows all"),
        ("nginx", "no host is called nginx", "nginx is a module: write HOST/nginx, or '*/nginx' for that of all hosts"),
        ("web1/ngnix", "there is no snapshot of web1/ngnix", "did you mean web1/nginx?"),
        ("web1/mysql", "there is no snapshot of web1/mysql", "there is etc, nginx"),
        ("web*/ngnix", "no module with snapshots matches web*/ngnix", "did you mean nginx?"),
        ("db1/etc", "there is no snapshot of db1/etc", "make one with `pyrsyncbackup pull db1/etc`"),
        ("db*/*", "no module with snapshots matches db*/*", "make one with `pyrsyncbackup pull 'db*/*'`"),
    ],
)
def test_a_mistyped_name_is_told_with_what_was_meant(text: str, cause: str, hint: str) -> None:
    with pytest.raises(NotFound) as caught:
        must_be_there(which(text), KNOWN, CONFIGURED)
    assert (caught.value.cause, caught.value.hint) == (cause, hint)


def test_a_configured_host_without_snapshots_is_no_mistake_unless_one_is_needed() -> None:
    must_be_there(which("db1"), KNOWN, CONFIGURED)
    must_be_there(which("db*"), KNOWN, CONFIGURED)
    for text, cause in (("db1", "there is no snapshot of db1"), ("db*", "no module with snapshots matches db*")):
        assert no_snapshot(which(text), KNOWN, CONFIGURED).cause == cause


def test_a_copy_knows_the_hosts_that_it_has_snapshots_of() -> None:
    for text, cause, hint in (
        ("webb1", "there is no snapshot of webb1", "did you mean web1 or web2?"),
        ("mail/etc", "there is no snapshot of mail/etc", "there is old9, web1, web2"),
        ("web1/mail", "there is no snapshot of web1/mail", "there is etc, nginx"),
    ):
        with pytest.raises(NotFound) as caught:
            must_be_there(which(text), KNOWN, None)
        assert (caught.value.cause, caught.value.hint) == (cause, hint)


def test_of_nothing_nothing_is_meant() -> None:
    with pytest.raises(NotFound, match=r"no hosts are configured: add one in hosts\.d"):
        must_be_there(which("web1"), [], [])
    with pytest.raises(NotFound, match=r"no host is called web3.*did you mean web2 or web1\?"):
        must_be_there(which("web3"), KNOWN, [])


def test_a_module_that_a_host_does_not_offer_is_told_with_what_was_meant() -> None:
    assert no_module("web1", "ngnix", ["etc", "nginx"]).hint == "did you mean web1/nginx?"
    assert "modules web1 --all` shows" in no_module("web1", "x", ["etc", "nginx"]).hint


def test_patterns_of_modules_are_looked_up_and_others_are_left_alone() -> None:
    assert expand("web*/ng*", lambda: KNOWN) == ["web1/nginx", "web2/nginx"]
    assert expand("web*", lambda: pytest.fail("nothing is to be looked up")) == ["web*"]
    with pytest.raises(NotFound, match=r"no module matches web1/my\*.*there is etc, nginx"):
        expand("web1/my*", lambda: KNOWN)


def test_it_is_shown_as_it_is_written() -> None:
    assert [str(each) for each in (Which(), Which("web*"), Which("web1", "etc"), Which(None, "etc"))] == [
        *("*", "web*", "web1/etc", "*/etc")
    ]
