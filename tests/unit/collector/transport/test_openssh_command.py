"""What is on the command line of OpenSSH's client, by value."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from pyrsyncbackup_collector.fleet.hosts import Host, Ssh
from pyrsyncbackup_collector.transport import openssh_command
from pyrsyncbackup_collector.transport.host_keys import HostKey, Known, Server

OWN = Path("/state/known_hosts")
CONTROL = Path("/run/p/x/c")
CIPHERS = ("chacha20-poly1305@openssh.com", "aes128-ctr", "aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
EXPLAINED = """\
host inner
user backup
hostname 10.1.2.3
port 2222
forkafterauthentication yes
ciphers chacha20-poly1305@openssh.com,aes128-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com
hostkeyalgorithms ssh-ed25519,rsa-sha2-512,rsa-sha2-256
identityfile ~/.ssh/id_rsa
identityfile /home/me/my keys/one
knownhostscommand /usr/bin/ask %H
userknownhostsfile /home/me/.ssh/known_hosts /home/me/.ssh/known_hosts2
proxyjump outer
"""


def host(address: str = "web1", **ssh) -> Host:
    return Host("web1", address, "openssh", Ssh(**{"user": "", "port": 0, "key": Path("/k"), **ssh}), 9737)


def options(argv: list[str]) -> dict[str, list[str]]:
    """The options of an argument vector; each has its name before it."""
    found: dict[str, list[str]] = {}
    for flag, value in itertools.pairwise(argv):
        if flag == "-o":
            name, _, rest = value.partition("=")
            found.setdefault(name, []).append(rest)
    return found


def master(one: Host, text: str = EXPLAINED, default=CIPHERS, trust=None, through=None) -> list[str]:
    found = openssh_command.settings(text.splitlines())
    return openssh_command.master(one, CONTROL, found, default, trust or {}, 2.1, through)


def test_what_the_client_says_of_its_configuration_is_understood():
    found = openssh_command.settings(EXPLAINED.splitlines())
    assert found == openssh_command.Settings(
        hostname="10.1.2.3",
        port=2222,
        user="backup",
        identities=("~/.ssh/id_rsa", "/home/me/my keys/one"),
        known_hosts=("/home/me/.ssh/known_hosts", "/home/me/.ssh/known_hosts2"),
        host_key_algorithms=("ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"),
        ciphers=CIPHERS,
        proxied=True,
        detaches=True,
        asks_for_host_keys=True,
    )
    assert found.server() == Server("10.1.2.3", 2222)
    assert found.server("bastion").own_name == "[10.1.2.3]:2222@bastion"


def test_an_alias_for_the_host_key_is_the_whole_name():
    found = openssh_command.settings([*EXPLAINED.splitlines(), "hostkeyalias inner.example.org"])
    assert found.server().name == "inner.example.org"


@pytest.mark.parametrize("text", ["", "hostname x", "hostname x\nport y\nuser z"])
def test_what_is_no_configuration_is_refused(text):
    with pytest.raises((KeyError, ValueError)):
        openssh_command.settings(text.splitlines())


def test_user_and_port_are_passed_where_they_are_given_only():
    assert openssh_command.explain(host()) == ["ssh", "-G", "--", "web1"]
    assert openssh_command.explain(host("::1", user="me", port=23)) == [
        "ssh",
        "-G",
        "-l",
        "me",
        "-p",
        "23",
        "--",
        "::1",
    ]
    assert master(host())[-2:] == ["--", "web1"]


def test_nothing_of_the_users_disturbs_and_each_option_is_there_once():
    given = options(master(host()))
    assert all(len(values) == 1 for name, values in given.items() if name != "IdentityFile")
    flat = {name: values[0] for name, values in given.items()}
    assert flat["BatchMode"] == "yes"
    assert flat["StrictHostKeyChecking"] == "yes"
    assert flat["ControlPersist"] == "no"
    assert flat["ControlPath"] == "/run/p/x/c"
    assert flat["ConnectTimeout"] == "3"
    assert flat["ForkAfterAuthentication"] == "no"
    without = EXPLAINED.replace("forkafterauthentication yes\n", "")
    assert "ForkAfterAuthentication" not in options(master(host(), without))


def test_a_key_that_our_configuration_names_is_the_only_one():
    given = options(master(host(key=Path("/keys of %us/k"))))
    assert given["IdentityFile"] == ['"/keys of %%us/k"']
    assert given["IdentitiesOnly"] == ["yes"]


def test_our_own_key_comes_after_the_users_and_only_if_it_is_there(tmp_path):
    own = tmp_path / "own"
    assert "IdentityFile" not in options(master(host(key=own, more_keys=True)))
    own.touch()
    given = options(master(host(key=own, more_keys=True)))
    assert given["IdentityFile"] == ["~/.ssh/id_rsa", '"/home/me/my keys/one"', str(own)]
    assert "IdentitiesOnly" not in given


def test_the_fast_ciphers_come_first_unless_the_user_says_otherwise():
    assert options(master(host()))["Ciphers"] == [
        "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr"
    ]
    assert "Ciphers" not in options(master(host(), default=("aes128-ctr",)))


def test_a_way_that_leads_there_already_is_handed_over_as_a_descriptor():
    given = options(master(host(), through="/run/p/a 100%.sock"))
    (command,) = given["ProxyCommand"]
    assert command.endswith(f"{openssh_command.PROXY} '/run/p/a 100%%.sock'")
    assert given["ProxyUseFdpass"] == ["yes"]


def test_forwards_are_asked_for_without_any_configuration():
    begin = ["ssh", "-F", "none", "-S", "/run/p/x/c", "-O"]
    assert openssh_command.forward(CONTROL, Path("/run/f"), "127.0.0.1", 9737) == [
        *begin,
        "forward",
        "-L",
        "/run/f:127.0.0.1:9737",
        "--",
        "localhost",
    ]
    assert openssh_command.cancel(CONTROL, Path("/run/a:b\\c"), "fe80::1", 22)[6:9] == [
        "cancel",
        "-L",
        "/run/a\\:b\\\\c:[fe80::1]:22",
    ]


KEY = HostKey("ssh-ed25519", b"x")
SERVER = Server("10.1.2.3", 2222, "bastion")
FOUND = openssh_command.settings(EXPLAINED.splitlines())
PLAIN = openssh_command.settings(EXPLAINED.replace("knownhostscommand", "x").splitlines())


@pytest.mark.parametrize(
    ("known", "named", "found", "revoked", "expected"),
    [
        pytest.param(
            Known((KEY,), (), OWN),
            Path("/named"),
            FOUND,
            None,
            {
                "HostKeyAlias": "[10.1.2.3]:2222@bastion",
                "CheckHostIP": "no",
                "VerifyHostKeyDNS": "no",
                "GlobalKnownHostsFile": "/dev/null",
                "KnownHostsCommand": "none",
                "UserKnownHostsFile": "/state/known_hosts",
            },
            id="ours decides alone",
        ),
        pytest.param(
            Known((), ()),
            Path("/named one"),
            PLAIN,
            None,
            {
                "VerifyHostKeyDNS": "no",
                "GlobalKnownHostsFile": "/dev/null",
                "UserKnownHostsFile": '"/named one"',
            },
            id="then the one that is named",
        ),
        pytest.param(Known((KEY,), (), Path("/users")), None, FOUND, None, {}, id="then the user's"),
        pytest.param(
            Known((KEY,), (KEY,), Path("/users")),
            None,
            FOUND,
            Path("/run/p/x/revoked"),
            {"UserKnownHostsFile": "/run/p/x/revoked /home/me/.ssh/known_hosts /home/me/.ssh/known_hosts2"},
            id="a revoked key stands before all",
        ),
    ],
)
def test_where_the_right_host_key_stands(known, named, found, revoked, expected):
    assert openssh_command.trusting(known, OWN, SERVER, named, found, revoked) == expected


def test_a_key_of_a_known_kind_is_asked_for():
    known = Known((HostKey("ssh-rsa", b"x"),), ())
    given = options(openssh_command.show_key(host(), Path("/f"), FOUND, known, 5))
    assert given["HostKeyAlgorithms"] == ["rsa-sha2-512,rsa-sha2-256,ssh-ed25519"]
    assert given["PreferredAuthentications"] == ["none"]
    assert given["UserKnownHostsFile"] == ["/f"]
    assert "HostKeyAlgorithms" not in options(openssh_command.show_key(host(), Path("/f"), FOUND, Known((), ()), 5))


def test_nothing_can_ask_and_what_the_client_starts_has_a_shell():
    given = openssh_command.environment(
        {"HOME": "/h", "DISPLAY": ":0", "SHELL": "/usr/sbin/nologin", "LC_ALL": "de_DE", "SSH_AUTH_SOCK": "/a"}
    )
    assert given == {
        "HOME": "/h",
        "SSH_AUTH_SOCK": "/a",
        "LC_ALL": "C",
        "SHELL": "/bin/sh",
        "SSH_ASKPASS_REQUIRE": "never",
    }
