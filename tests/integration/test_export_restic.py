"""`export`: what restic gets of a snapshot, restored by restic, is what the snapshot holds."""

import json
import os
import subprocess

import pytest
from pyrsyncbackup_collector import cli
from pyrsyncbackup_collector.store.snapshot import Change
from pyrsyncbackup_collector.store.store import Store

from tests.support import tree, zoo
from tests.support.comparison import as_rsync_sees
from tests.support.estate import Content, Estate

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="needs FUSE")


class Into:
    """Puts contents into a store."""

    def __init__(self, store, folder):
        self._store, self._file = store, folder / "content"

    def add(self, content):
        self._file.write_bytes(content)
        with open(self._file, "rb") as file:
            return self._store.objects.ingest(file.fileno(), 1 << 30).sha256


@pytest.fixture
def password(tmp_path):
    file = tmp_path / "password"
    file.write_text("a secret\n")
    file.chmod(0o600)
    return file


@pytest.fixture
def restic(tmp_path, password, monkeypatch):
    monkeypatch.setenv("RESTIC_CACHE_DIR", str(tmp_path / "cache"))

    def run(*words):
        argv = ["restic", "--repo", str(tmp_path / "repository"), "--password-file", str(password), *words]
        return subprocess.run(argv, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL).stdout

    run("init")
    return run


def own(tmp_path, password):
    """For a restic that is run by hand."""
    return {
        **os.environ,
        "RESTIC_REPOSITORY": str(tmp_path / "repository"),
        "RESTIC_PASSWORD_FILE": str(password),
        "RESTIC_CACHE_DIR": str(tmp_path / "cache"),
    }


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "collector.toml"
    file.write_text(f'store = "{tmp_path}/store"\ncatalog = "{tmp_path}/catalog.sqlite"\n')
    return str(file)


@pytest.fixture
def export(tmp_path, password, config):
    def run(*words, password_file=password):
        repository = str(tmp_path / "repository")
        return cli.run(
            ["export", *words, "--restic", repository, "--password-file", str(password_file), "--config", config]
        )

    return run


def test_a_zoo_comes_out_of_restic_as_if_restic_had_saved_it_on_the_host(tmp_path, password, restic, export):
    source = tmp_path / "source"
    source.mkdir()
    zoo.build(source / "zoo", devices=os.geteuid() == 0)
    Store.create(tmp_path / "store")
    with Store.open(tmp_path / "store", lock=True, large=1 << 40) as store:
        changes = [Change(entry.path, entry) for entry in tree.read(source, Into(store, tmp_path))]
        store.commit("web1", "zoo", time=1_790_000_000.0, state="complete", changes=changes, previous=None)
    assert export("web1/zoo") == 0
    (saved,) = json.loads(restic("snapshots", "--json"))
    assert (saved["hostname"], saved["time"][:19]) == ("web1", "2026-09-21T14:13:20")
    assert set(saved["tags"]) == {"pyrsyncbackup", "web1/zoo@000001-2026-09-21T141320Z"}
    restic("restore", saved["id"], "--target", str(tmp_path / "restored"))
    # restic itself keeps no sockets and, in this version, no link targets that are not UTF-8.
    subprocess.run(["restic", "backup", "--host", "direct", "zoo"], cwd=source, check=True, env=own(tmp_path, password))
    restic("restore", "latest", "--host", "direct", "--target", str(tmp_path / "direct"))
    assert as_rsync_sees(tmp_path / "direct" / "zoo", tmp_path / "restored" / "zoo") == ""
    assert len(list((tmp_path / "restored" / "zoo").rglob("*"))) > 100


def test_what_is_there_is_not_saved_again(tmp_path, restic, export, capsys):
    estate = Estate(tmp_path)
    estate.pull("web1", "etc", {b"etc/a": Content(b"a")})
    estate.pull("web1", "etc", {b"etc/a": Content(b"b")})
    estate.close()
    assert export("web1/etc@1", "web1/etc") == 0
    assert export("web1/etc", "web1/etc@1") == 0
    assert capsys.readouterr().out.count("is there already") == 2
    assert len(json.loads(restic("snapshots", "--json"))) == 2


@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_password_that_others_may_read_is_refused(tmp_path, password, config, monkeypatch, capsys, way):
    estate = Estate(tmp_path)
    estate.pull("web1", "etc", {b"etc/a": Content(b"a")})
    estate.close()
    password.chmod(0o640)
    words = ["export", "web1/etc", "--restic", str(tmp_path / "repository"), "--config", config]
    if way == "option":
        words += ["--password-file", str(password)]
    else:
        monkeypatch.setenv("RESTIC_PASSWORD_FILE", str(password))
    assert cli.run(words) == 16
    said = capsys.readouterr().err
    assert f"{password} may be read by others" in said.replace("\n", " ")
    assert "chmod 600" in said


def test_a_directory_that_is_called_like_our_package_is_not_taken_for_it(tmp_path, restic, export, monkeypatch):
    estate = Estate(tmp_path)
    estate.pull("web1", "etc", {b"etc/a": Content(b"a")})
    estate.close()
    # As after `git clone` in the home directory, where the command is run from.
    (tmp_path / "pyrsyncbackup").mkdir()
    (tmp_path / "pyrsyncbackup_collector.py").write_text("raise SystemExit('not this one')\n")
    monkeypatch.chdir(tmp_path)
    assert export("web1/etc") == 0
    assert len(json.loads(restic("snapshots", "--json"))) == 1


def test_no_repository_and_a_wrong_password_are_told_with_the_next_step(tmp_path, restic, export, config, capsys):
    estate = Estate(tmp_path)
    estate.pull("web1", "etc", {b"etc/a": Content(b"a")})
    estate.close()
    wrong = tmp_path / "wrong"
    wrong.write_text("not this\n")
    wrong.chmod(0o600)
    assert export("web1/etc", password_file=wrong) == 16
    said = capsys.readouterr().err
    assert "wrong password" in said
    assert "--password-file" in said
    other = ["export", "web1/etc", "--restic", str(tmp_path / "none"), "--password-file", str(wrong)]
    assert cli.run([*other, "--config", config]) == 16
    assert "restic init" in capsys.readouterr().err


def test_neither_repository_nor_password_is_an_argument_of_restic(tmp_path):
    from pyrsyncbackup_collector.copies import restic_command

    from tests.support.snapshots import snapshot

    for argv in (restic_command.find(snapshot(1)), restic_command.backup(snapshot(1))):
        assert not [word for word in argv if "secret" in word or "repo" in word]
    environment = restic_command.environment({"RESTIC_PASSWORD": "old"}, "rest:https://u:secret@h/", tmp_path / "file")
    assert environment["RESTIC_REPOSITORY"] == "rest:https://u:secret@h/"
    assert environment["RESTIC_PASSWORD_FILE"] == str(tmp_path / "file")
    assert "RESTIC_PASSWORD" not in environment
