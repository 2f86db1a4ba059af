"""What holds for every command."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from pyrsyncbackup_collector import cli
from pyrsyncbackup_collector.cli import options
from pyrsyncbackup_collector.cli.commands import app

DOCUMENTATION = Path(__file__).parents[4] / "docs" / "cli.md"


def commands(command=None, words=()) -> Iterator[tuple[str, ...]]:
    command = command or typer.main.get_command(app)
    children = getattr(command, "commands", None)
    if children is None:
        yield words
        return
    for name, child in children.items():
        yield from commands(child, (*words, name))


ALL = list(commands())


def test_all_commands_are_there():
    assert {" ".join(words) for words in ALL} == {
        *("init", "check", "daemon", "invitation", "pull", "status", "modules"),
        *("snapshots", "ls", "cat", "diff", "restore", "catalog rebuild"),
        *("host list", "host show", "host trust", "host test", "host tunnel"),
    }


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_lists_the_exit_codes_and_takes_a_configuration(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.run([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "Exit codes:\n" in shown
    assert re.search(r"^ +0  all went well$", shown, re.MULTILINE)
    assert ("--config FILE" in shown) == (words != ("init",))
    assert max(len(line) for line in shown.splitlines()) <= 80


@pytest.mark.parametrize("words", [("status",), ("host", "list"), ("snapshots",), ("check",), ("catalog", "rebuild")])
def test_the_configuration_is_the_nearest_one_named(words, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PYRSYNCBACKUP_CONFIG", "/environment.toml")
    for arguments, expected in (
        ([*words], "/environment.toml"),
        (["--config", "/before.toml", *words], "/before.toml"),
        (["--config", "/before.toml", *words, "--config", "/after.toml"], "/after.toml"),
    ):
        assert cli.run(arguments) == 3
        assert f"error: {expected}: does not exist" in capsys.readouterr().err


def test_the_page_about_the_command_line_names_every_command_and_every_exit_code():
    page = DOCUMENTATION.read_text()
    missing = [" ".join(words) for words in ALL if f"`{' '.join(words)}" not in page]
    assert missing == []
    listed = {int(code) for code in re.findall(r"^\| (\d+) \| ", page, re.MULTILINE)}
    assert listed == {*options._MEANINGS, 14}


def test_init_makes_what_is_missing_and_keeps_what_is_there(tmp_path, capsys):
    place = tmp_path / "collector"
    assert cli.run(["init", str(place)]) == 0
    first = capsys.readouterr().out
    assert [line.split()[0] for line in first.splitlines()[:5]] == ["new"] * 5
    key = (place / "identity" / "key.pem").read_bytes()
    (place / "catalog.sqlite").unlink()
    assert cli.run(["init", str(place)]) == 0
    again = capsys.readouterr().out
    assert re.findall(r"^(new|kept) +(\w+)", again, re.MULTILINE) == [
        ("kept", "configuration"),
        ("kept", "keys"),
        ("kept", "store"),
        ("new", "catalog"),
    ]
    assert (place / "identity" / "key.pem").read_bytes() == key
    assert place.stat().st_mode & 0o777 == 0o700
    config = str(place / "collector.toml")
    for words in (["status"], ["host", "list"], ["modules"], ["snapshots"]):
        assert cli.run([*words, "--config", config]) == 0
        assert cli.run([*words, "--config", config, "--json"]) == 0


def test_the_default_of_the_documentation_is_the_one_in_use():
    assert str(options.DEFAULT_CONFIG) in DOCUMENTATION.read_text()
