"""known_hosts files, as OpenSSH reads and writes them."""

from __future__ import annotations

import base64
import subprocess

import pytest
from pyrsyncbackup_collector.errors import HostKeyChanged, HostKeyUnknown
from pyrsyncbackup_collector.transport.host_keys import HostKey, KnownHosts, Server


def key(text: bytes, kind: str = "ssh-ed25519") -> HostKey:
    return HostKey(kind, len(kind).to_bytes(4, "big") + kind.encode() + text)


ONE, TWO, RSA = key(b"one"), key(b"two"), key(b"rsa", "ssh-rsa")


def line(names: str, value: HostKey, marker: str = "") -> str:
    return f"{marker} {names} {value.kind} {base64.b64encode(value.blob).decode()} comment\n".lstrip()


@pytest.fixture
def files(tmp_path):
    return tmp_path / "own", tmp_path / "users"


@pytest.mark.parametrize(
    ("names", "address", "port", "known"),
    [
        ("web1", "web1", 22, True),
        ("web1", "WEB1", 22, True),
        ("web1,10.0.0.1", "10.0.0.1", 22, True),
        ("[web1]:2222", "web1", 2222, True),
        ("[web1]:2222", "web1", 22, False),
        ("web1", "web1", 2222, False),
        ("*.example.org", "a.example.org", 22, True),
        ("*.example.org,!b.example.org", "b.example.org", 22, False),
        ("web?", "web1", 22, True),
        ("[web*]:2222", "web7", 2222, True),
    ],
)
def test_names_match_as_in_openssh(files, names, address, port, known):
    files[0].write_text("# comment\n\n" + line(names, ONE))
    assert KnownHosts(*files[:1]).known(Server(address, port)).keys == ((ONE,) if known else ())
    found = subprocess.run(
        ["ssh-keygen", "-F", address if port == 22 else f"[{address}]:{port}", "-f", files[0]], capture_output=True
    )
    assert (found.returncode == 0) == known


def test_a_hashed_name_is_found(files):
    files[0].write_text(
        "|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= "
        + line("", ONE).lstrip()  # the example of sshd(8), for 192.168.1.61
    )
    assert KnownHosts(files[0]).known(Server("192.168.1.61", 22)).keys == (ONE,)
    assert KnownHosts(files[0]).known(Server("192.168.1.62", 22)).keys == ()


def test_our_file_decides_alone_for_what_it_knows(files):
    files[0].write_text(line("web1", ONE))
    files[1].write_text(line("web1", TWO) + line("web2", TWO))
    hosts = KnownHosts(files[0], [files[1]])
    hosts.check("web1", Server("web1", 22), ONE)
    hosts.check("web2", Server("web2", 22), TWO)
    with pytest.raises(HostKeyChanged):
        hosts.check("web1", Server("web1", 22), TWO)


def test_a_key_of_another_kind_than_the_known_one_is_a_change(files):
    files[0].write_text(line("web1", RSA))
    hosts = KnownHosts(files[0])
    assert hosts.known(Server("web1", 22)).kinds() == ("ssh-rsa",)
    with pytest.raises(HostKeyChanged, match="HAS CHANGED"):
        hosts.check("web1", Server("web1", 22), ONE)


def test_a_revoked_key_is_refused_wherever_it_is_marked(files):
    files[0].write_text(line("web1", ONE))
    files[1].write_text(line("*", ONE, "@revoked"))
    with pytest.raises(HostKeyChanged, match="revoked"):
        KnownHosts(files[0], [files[1]]).check("web1", Server("web1", 22), ONE)


def test_lines_that_are_no_keys_are_ignored(files):
    files[0].write_text(
        "web1\nweb1 ssh-ed25519\nweb1 ssh-ed25519 !!!\n"
        + line("web1", ONE, "@cert-authority")
        + line("web1", HostKey("ssh-rsa", ONE.blob))
        + "|1|x|y ssh-ed25519 AAAA\n\xff\n"
    )
    with pytest.raises(HostKeyUnknown):
        KnownHosts(files[0]).check("web1", Server("web1", 22), ONE)


def test_trusting_writes_and_replaces_only_that_server(files):
    files[0].write_text("# mine\n" + line("web2", TWO))
    hosts = KnownHosts(files[0])
    hosts.trust("web1", Server("web1", 2222), ONE)
    hosts.trust("web1", Server("web1", 2222), ONE)
    with pytest.raises(HostKeyChanged):
        hosts.trust("web1", Server("web1", 2222), TWO)
    hosts.trust("web1", Server("web1", 2222), TWO, replace=True)
    text = files[0].read_text()
    assert text.startswith("# mine\nweb2 ")
    assert text.count("[web1]:2222") == 1
    hosts.check("web1", Server("web1", 2222), TWO)
    hosts.check("web2", Server("web2", 22), TWO)


@pytest.mark.parametrize(
    ("server", "name", "own_name", "shown"),
    [
        (Server("Web1", 22), "web1", "web1", "web1"),
        (Server("10.0.0.1", 2222), "[10.0.0.1]:2222", "[10.0.0.1]:2222", "[10.0.0.1]:2222"),
        (Server("10.0.0.1", 22, "bastion"), "10.0.0.1", "10.0.0.1@bastion", "10.0.0.1 behind bastion"),
    ],
)
def test_how_a_server_is_named(server: Server, name: str, own_name: str, shown: str):
    assert (server.name, server.own_name, str(server)) == (name, own_name, shown)


def test_one_address_behind_two_bastions_is_two_servers(files):
    own, users = files
    known = KnownHosts(own, [users])
    first, second, near = (Server("10.0.0.1", 22, jump) for jump in ("a", "b", ""))
    known.trust("web1", first, ONE)
    known.trust("web2", second, TWO)
    known.check("web1", first, ONE)
    known.check("web2", second, TWO)
    with pytest.raises(HostKeyChanged, match=r"10\.0\.0\.1 behind b HAS CHANGED"):
        known.check("web2", second, ONE)
    with pytest.raises(HostKeyUnknown):
        known.check("web3", near, ONE)
    # What the user knows of the address counts where we know nothing, as with `ssh -J`.
    users.write_text(line("10.0.0.1", ONE))
    known.check("web3", near, ONE)
    known.check("web4", Server("10.0.0.1", 22, "c"), ONE)
    with pytest.raises(HostKeyChanged):
        known.check("web2", second, ONE)
