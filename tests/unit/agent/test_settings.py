from __future__ import annotations

from pathlib import Path

import pytest
from pyrsyncbackup import valid_name
from pyrsyncbackup_agent import settings
from pyrsyncbackup_agent.errors import SettingsError

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
