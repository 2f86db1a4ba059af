from __future__ import annotations

from pathlib import Path

import pytest
from pyrsyncbackup import valid_name
from pyrsyncbackup_agent import settings
from pyrsyncbackup_agent.errors import SettingsError
from pyrsyncbackup_agent.peers import Peer

PACKAGED = Path(__file__).parents[3] / "packaging" / "agent.toml"


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settings.parse(text.encode(), Path("/etc/x/agent.toml"))
    return caught.value.problems


def test_the_packaged_file_says_what_holds_without_it() -> None:
    packaged = settings.load(PACKAGED)
    assert packaged == settings.Settings(name=settings.host_name(), file=PACKAGED)


def test_a_missing_default_file_is_fine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(settings, "DEFAULT_FILE", tmp_path / "agent.toml")
    assert settings.load() == settings.Settings(name=settings.host_name())


def test_a_missing_named_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        settings.load(tmp_path / "agent.toml")


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="Is a directory"):
        settings.load(tmp_path)


def test_all_problems_are_told_at_once_with_their_keys() -> None:
    assert problems('name = "Web 1"\nlisten = "nowhere"\nmax_sessions = 0\nmodul_dirs = []\nrsync = 3\n') == [
        "/etc/x/agent.toml: name: 'Web 1' must be lower-case letters, digits, dots, dashes or underscores, at most 63",
        '/etc/x/agent.toml: listen: \'nowhere\' is not "address:port", such as "127.0.0.1:9737" or "[::1]:9737"',
        "/etc/x/agent.toml: max_sessions: must be a number from 1 to 64, not 0",
        "/etc/x/agent.toml: rsync: must be a text in quotes, not 3",
        "/etc/x/agent.toml: modul_dirs: unknown key; did you mean `module_dirs`?",
    ]


def test_a_key_that_resembles_none_is_answered_with_the_known_ones() -> None:
    (problem,) = problems("frobnicate = 1")
    assert "unknown key (known: collectors_dir, " in problem


def test_what_is_not_toml_is_told_with_its_line() -> None:
    (problem,) = problems("\nname = \n")
    assert problem.startswith("/etc/x/agent.toml: not TOML: ")
    assert "line 2" in problem
    with pytest.raises(SettingsError, match=r"not UTF-8 \(at line 2\)"):
        settings.parse(b"#\n\xff", Path("/x"))


def test_paths_are_relative_to_the_file_and_identity_follows_state() -> None:
    read = settings.parse(b'state_dir = "state"\nmodule_dirs = ["m", "/n"]', Path("/srv/agent.toml"))
    assert read.state_dir == Path("/srv/state")
    assert read.identity_dir == Path("/srv/state/identity")
    assert read.module_dirs == (Path("/srv/m"), Path("/n"))


@pytest.mark.parametrize(("listen", "port"), [("127.0.0.1:0", 0), ("[::1]:9737", 9737), ("localhost:65535", 65535)])
def test_addresses_to_listen_on(listen: str, port: int) -> None:
    read = settings.parse(f'listen = "{listen}"'.encode(), Path("/x"))
    assert (read.listen, read.listen_port) == (listen, port)


@pytest.mark.parametrize("listen", ["127.0.0.1", ":9737", "::1:9737", "a b:1", "127.0.0.1:65536", "h:-1"])
def test_addresses_that_are_refused(listen: str) -> None:
    assert "listen" in problems(f'listen = "{listen}"')[0]


@pytest.mark.parametrize("name", ["WEB1.Example.org", "_x y", "-", "a" * 90])
def test_the_default_name_is_valid_whatever_the_host_is_called(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings.socket, "gethostname", lambda: name)
    assert valid_name(settings.host_name())


def test_relay_mode_is_off_unless_it_is_switched_on() -> None:
    assert settings.parse(b"", Path("/x")).relay == settings.Relay(enabled=False, max_connections=256, peers=())


def test_peers_may_stand_in_the_file_itself() -> None:
    text = """
        peers_dir = "peers.d"
        [relay]
        enabled = true
        max_connections = 1024
        [[relay.peer]]
        name = "db1"
        address = "10.20.0.5:9737"
        title = "the database"
        [[relay.peer]]
        name = "web1"
        address = "[2001:db8::5]:9737"
    """
    read = settings.parse(text.encode(), Path("/srv/agent.toml"))
    assert read.peers_dir == Path("/srv/peers.d")
    db1 = Peer("db1", "10.20.0.5", 9737, "the database")
    assert read.relay == settings.Relay(True, 1024, (db1, Peer("web1", "2001:db8::5", 9737)))
    assert [peer.address for peer in read.relay.peers] == ["10.20.0.5:9737", "[2001:db8::5]:9737"]


def test_every_problem_of_a_relay_is_told() -> None:
    text = """
        [relay]
        enabled = "yes"
        max_connections = 1025
        max_connection = 3
        [[relay.peer]]
        name = "db1"
        address = "10.20.0.5:9737"
        [[relay.peer]]
        name = "db1"
        address = "10.20.0.6:9737"
        port = 1
        [[relay.peer]]
        name = "DB1"
        address = "10.20.0.5"
        [[relay.peer]]
        title = 3
        [[relay.peer]]
        name = "db1"
        address = "10.20.0.7:9737"
    """
    file = "/etc/x/agent.toml: relay"
    assert problems(text) == [
        f"{file}.enabled: must be true or false, not 'yes'",
        f"{file}.max_connections: must be a number from 1 to 1024, not 1025",
        f"{file}.peer[2].port: unknown key (known: address, name, title)",
        f"{file}.peer[3].name: 'DB1' must be lower-case letters, digits, dots, dashes or underscores, at most 63",
        f'{file}.peer[3].address: \'10.20.0.5\' is not "address:port", such as "127.0.0.1:9737" or "[::1]:9737"',
        f"{file}.peer[4].name: is needed",
        f'{file}.peer[4].address: is needed, such as "10.20.0.5:9737"',
        f"{file}.peer[4].title: must be a text in quotes, not 3",
        f'{file}.peer[5].name: "db1" is the name of {file}.peer[1] too',
        f"{file}.max_connection: unknown key; did you mean `max_connections`?",
    ]
    assert problems("[relay]\npeer = 3") == [f"{file}.peer: must be tables, each under a line [[peer]], not 3"]


@pytest.mark.parametrize("address", ["10.0.0.1:0", "[::g]:1", "::1:9737", "a b:1", "h:65536", "h"])
def test_addresses_of_peers_that_are_refused(address: str) -> None:
    (problem,) = problems(f'[[relay.peer]]\nname = "a"\naddress = "{address}"')
    assert problem.startswith("/etc/x/agent.toml: relay.peer[1].address: ")
