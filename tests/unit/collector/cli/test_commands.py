"""What holds for every command."""

import re
import stat
from collections.abc import Iterator
from importlib import import_module, resources
from pathlib import Path

import pytest
import typer
from pyrsyncbackup_collector import cli
from pyrsyncbackup_collector.cli import first_steps, options
from pyrsyncbackup_collector.cli.commands import COMMANDS, app

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
        *("init", "check", "daemon", "invitation", "pull", "status", "schedule", "modules"),
        *("snapshots", "ls", "cat", "diff", "restore", "verify", "mount", "drill", "catalog rebuild"),
        *("replicate", "copies init", "recover", "export"),
        *("prune", "pin", "unpin", "forget", "retention show", "retention resume"),
        *("gc", "space"),
        *("history", "changes", "compare", "find", "grep"),
        *("host list", "host show", "host trust", "host test", "host tunnel", "host accept"),
    }


def test_what_the_modules_add_is_what_the_list_has():
    for file in Path(cli.__file__).parent.glob("*.py"):
        import_module(f"pyrsyncbackup_collector.cli.{file.stem}")
    added = [info.name or info.callback.__name__ for info in app.registered_commands]
    groups = {info.name: info.typer_instance.info.help for info in app.registered_groups}
    assert {*added, *groups} == set(COMMANDS)
    assert groups == {name: COMMANDS[name][0] for name in groups}


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
    assert listed == {*options._MEANINGS, 14, cli.READER_GONE}


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_the_keys_of_every_json_document_are_documented(words):
    command = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]
    takes = any("--json" in parameter.opts for parameter in command.params)
    table = DOCUMENTATION.read_text().partition("\n## JSON\n")[2]
    assert bool(re.search(rf"^\| `{' '.join(words)}( [^`]*)?` \| ", table, re.MULTILINE)) == takes


def test_every_page_of_the_documentation_is_in_the_list_of_the_first_one():
    pages = {page.name for page in DOCUMENTATION.parent.glob("*.md")}
    listed = re.findall(r"\(docs/([a-z-]+\.md)\)", (DOCUMENTATION.parents[1] / "README.md").read_text())
    assert pages == set(listed)


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


@pytest.mark.parametrize(
    ("directory", "options", "store", "catalog"),
    [
        ("/etc/pyrsyncbackup", {}, "/var/lib/pyrsyncbackup/store", "/var/lib/pyrsyncbackup/catalog.sqlite"),
        ("/etc/second", {}, "/var/lib/second/store", "/var/lib/second/catalog.sqlite"),
        ("/home/me/backup", {}, "store", "catalog.sqlite"),
        ("/etc/pyrsyncbackup", {"store": "/srv/b"}, "/srv/b", "/var/lib/pyrsyncbackup/catalog.sqlite"),
    ],
)
def test_init_puts_data_where_the_system_has_it(directory, options, store, catalog):
    chosen = {name: Path(value) for name, value in options.items()}
    places = first_steps._places(Path(directory), chosen.get("store"), chosen.get("catalog"))
    assert set(places.values()) == {f'store = "{store}"', f'catalog = "{catalog}"'}
    template = resources.files(cli).joinpath("collector.toml").read_text(encoding="utf-8")
    assert all(default in template for default in places)


def test_init_takes_places_for_store_and_catalog_once(tmp_path, capsys):
    place, store, catalog = tmp_path / "etc", tmp_path / "data" / 'st"ore', tmp_path / "other" / "index.sqlite"
    words = ["init", str(place), "--store", str(store), "--catalog", str(catalog)]
    assert cli.run(words) == 0
    assert (store / "format.json").exists()
    assert catalog.exists()
    assert cli.run(["status", "--config", str(place / "collector.toml")]) == 0
    capsys.readouterr()
    assert cli.run(words) == 2
    assert "collector.toml is there already" in capsys.readouterr().err


def test_init_makes_no_new_store_where_the_catalog_tells_of_another_one(tmp_path, capsys):
    assert cli.run(["init", str(tmp_path)]) == 0
    (tmp_path / "store").rename(tmp_path / "unmounted")
    assert cli.run(["init", str(tmp_path)]) == 10
    assert "but its catalog is there" in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_the_file_of_an_invitation_is_for_its_owner_alone(tmp_path):
    assert cli.run(["init", str(tmp_path)]) == 0
    file = tmp_path / "invitation.txt"
    file.touch(mode=0o644)
    with file.open("w") as output:
        first_steps._only_for_the_owner(output)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("form", ["before", "after", "environment"])
def test_the_next_step_can_be_typed_as_it_is_shown(form, tmp_path, capsys, monkeypatch):
    place = tmp_path / "two words"
    assert cli.run(["init", str(place)]) == 0
    (place / "hosts.d" / "web.toml").write_text('[[host]]\nname = "web1"\n')
    config = str(place / "collector.toml")
    monkeypatch.setenv("PYRSYNCBACKUP_CONFIG", config if form == "environment" else "/none")
    words = ["ls", "web1/etc"]
    arguments = {"before": ["--config", config, *words], "after": [*words, "--config", config], "environment": words}
    capsys.readouterr()
    assert cli.run(arguments[form]) == 4
    typed = "" if form == "environment" else f" --config '{config}'"
    assert f"next: make one with `pyrsyncbackup{typed} pull web1/etc`" in capsys.readouterr().err


def test_a_host_that_never_was_has_no_advice_to_pull_it(tmp_path, capsys):
    assert cli.run(["init", str(tmp_path)]) == 0
    assert cli.run(["ls", "web1/etc", "--config", str(tmp_path / "collector.toml")]) == 4
    assert "error: no host is called web1\n" in capsys.readouterr().err
