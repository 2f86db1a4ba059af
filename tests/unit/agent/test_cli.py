from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from pyrsyncbackup_agent import cli


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "modules.d").mkdir(mode=0o755)
    file = tmp_path / "agent.toml"
    file.write_text(
        'module_dirs = ["modules.d"]\nstate_dir = "state"\nruntime_dir = "run"\ncollectors_dir = "c"\nrsync = "true"\n'
    )
    return file


def define(config: Path, name: str, text: str) -> None:
    file = config.parent / "modules.d" / f"{name}.toml"
    file.write_text(text)
    file.chmod(0o644)


def test_modules_are_a_table_with_ready_ones_first(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    define(config, "zoo", f'title = "The \\u001b[31mzoo"\npaths = ["{config.parent}/modules.d", "{config}"]')
    define(config, "bad", "paths = 1")
    assert cli.main(["--config", str(config), "modules", "zoo", "bad"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["MODULE", "STATE", "TITLE", "PATHS,", "OR", "WHY", "NOT"]
    assert lines[1].startswith(r"zoo     ready    The \x1b[31mzoo  ")
    assert lines[1].endswith(f"{config} {config.parent}/modules.d")
    assert lines[2].startswith("bad     invalid  bad ")
    assert lines[-1] == "1 ready, 1 invalid, 0 absent"


def test_modules_as_json_carry_everything(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    define(config, "zoo", f'paths = ["{config}"]\nexclude = ["*.x"]\n[hints]\ncheck = "5m"')
    assert cli.main(["modules", "--json", "--config", str(config), "zoo"]) == 0
    (module,) = json.loads(capsys.readouterr().out)["modules"]
    assert module["state"] == "ready"
    assert module["roots"] == [{"id": 1, "path": str(config.parent), "names": ["agent.toml"], "aliases": []}]
    assert module["exclude"] == ["*.x"]
    assert module["hints"]["check"] == "5m"


def test_an_unknown_module_is_an_error(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["modules", "--config", str(config), "nope"]) == 5
    assert capsys.readouterr().err.startswith("error: no module is named nope\n  next: ")


def test_check_is_content_with_a_good_configuration(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--config", str(config)]) == 0
    assert f"settings: {config}; " in capsys.readouterr().out


def test_check_tells_every_problem(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text().replace('"true"', '"no-such-rsync"'))
    (config.parent / "state").touch()
    (config.parent / "c").mkdir()
    (config.parent / "c").chmod(0o777)
    define(config, "bad", "paths = 1")
    assert cli.main(["check", "--config", str(config)]) == 3
    told = capsys.readouterr().err
    for part in (
        "error: rsync: `no-such-rsync`",
        "error: state_dir: ",
        "error: collectors_dir: ",
        "error: module bad: ",
    ):
        assert part in told


def test_check_tells_broken_definitions_by_their_exit_code(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    define(config, "bad", "paths = 1")
    assert cli.main(["check", "--config", str(config)]) == 5
    assert "1 problem" in capsys.readouterr().err


def test_wrong_settings_are_told_line_by_line(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text("nam = 1\nlisten = 2\n")
    assert cli.main(["modules", "--config", str(config)]) == 3
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["error", "error", "  next"]


def test_wrong_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["frobnicate"])
    assert caught.value.code == 2
    assert "frobnicate" in capsys.readouterr().err


@pytest.fixture
def relay(config: Path) -> Path:
    (config.parent / "peers.d").mkdir(mode=0o755)
    config.write_text(config.read_text() + 'peers_dir = "peers.d"\n[relay]\nenabled = true\n')
    return config


def add_peer(config: Path, name: str, address: str) -> None:
    file = config.parent / "peers.d" / f"{name}.toml"
    file.write_text(f'[[peer]]\nname = "{name}"\naddress = "{address}"\ntitle = "The\\u001b[1m"\n')
    file.chmod(0o644)


def test_check_says_which_peers_answer(relay: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--config", str(relay)]) == 0
    assert f"relay: on, but it knows no peer; define some in {relay.parent}/peers.d" in capsys.readouterr().out
    with socket.create_server(("127.0.0.1", 0)) as listener:
        add_peer(relay, "web1", f"127.0.0.1:{listener.getsockname()[1]}")
        add_peer(relay, "db1", "127.0.0.1:1")
        assert cli.main(["check", "--config", str(relay)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "relay: on; 1 of 2 peers answer",
        "note: peer db1: 127.0.0.1:1: connection refused",
        "restores: refused",
    ]


def test_check_tells_what_is_wrong_with_peers_unless_relay_mode_is_off(
    relay: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_peer(relay, "DB1", "127.0.0.1:1")
    assert cli.main(["check", "--config", str(relay)]) == 3
    assert "peers.d/DB1.toml: peer[1].name: 'DB1' must be" in capsys.readouterr().err
    own = '[[relay.peer]]\nname = "a"\naddress = "b:1"\n'
    relay.write_text(relay.read_text().replace("enabled = true", "enabled = false") + own)
    assert cli.main(["check", "--config", str(relay)]) == 0
    assert "relay: off; the peers in the file are ignored (1)" in capsys.readouterr().out


def test_peers_are_a_table_and_json(relay: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        add_peer(relay, "web1", address)
        add_peer(relay, "db1", "127.0.0.1:1")
        assert cli.main(["peers", "--config", str(relay)]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert lines[0] == ["PEER", "ADDRESS", "TITLE", "ANSWERS"]
        assert lines[1] == ["db1", "127.0.0.1:1", r"The\x1b[1m", "connection", "refused"]
        assert lines[2][:4] == ["web1", address, r"The\x1b[1m", "in"]
        assert cli.main(["peers", "--json", "--config", str(relay)]) == 0
        first, second = json.loads(capsys.readouterr().out)["peers"]
    assert (first["answers"], first["reason"], second["answers"]) == (False, "connection refused", True)


def test_peers_of_an_agent_that_is_no_relay_are_an_error(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["peers", "--config", str(config)]) == 1
    assert capsys.readouterr().err == (
        "error: this agent has no relay mode\n  next: set [relay] enabled = true in its agent.toml\n"
    )
