"""The commands about second copies, as an administrator types them, and the chore behind them."""

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from pyrsyncbackup_collector import cli
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.catalog.copies import CopyView
from pyrsyncbackup_collector.catalog.views import Failure
from pyrsyncbackup_collector.cli.verdict import State, judge_copy
from pyrsyncbackup_collector.config import load
from pyrsyncbackup_collector.config.spans import Hours
from pyrsyncbackup_collector.daemon.copying import is_due
from pyrsyncbackup_collector.store.store import Store

from tests.support import copies
from tests.support.estate import Content, Estate


class Place:
    """A collector's directory with a filled store and a configuration."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        self.file = path / "collector.toml"
        estate = Estate(path)
        for host in ("web1", "web2"):
            estate.pull(host, "etc", {b"etc/hosts": Content(b"of " + host.encode()), b"etc/a": Content(b"a" * 99)})
        estate.close()
        self.configure()

    def configure(self, *tables):
        text = f'store = "{self.path}/store"\ncatalog = "{self.path}/catalog.sqlite"\nsandbox = "off"\n'
        self.file.write_text(text + "".join(f"[[copy]]\n{table}\n" for table in tables))

    def run(self, *words):
        return cli.run([*words, "--config", str(self.file)])


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "collector")


def disk(tmp_path, name="disk2", more=""):
    return f'name = "{name}"\nto = "{tmp_path}/{name}"\n{more}'


def test_a_copy_is_made_filled_shown_and_read_after_everything_else_is_gone(place, tmp_path, capsys, monkeypatch):
    place.configure(disk(tmp_path))
    assert place.run("copies", "init", "disk2") == 0
    assert place.run("replicate") == 0
    assert "disk2: brought 2 snapshots, 3 objects" in capsys.readouterr().out
    assert place.run("copies", "--json") == 0
    (shown,) = json.loads(capsys.readouterr().out)["copies"]
    assert (shown["state"], shown["behind"], shown["held"]) == ("ok", 0, 2)
    assert shown["stored_size"] > 0
    shutil.rmtree(place.path)
    monkeypatch.delenv("PYRSYNCBACKUP_CONFIG", raising=False)
    copy = str(tmp_path / "disk2")
    assert cli.run(["snapshots", "--store", copy, "--json"]) == 0
    assert [one["host"] for one in json.loads(capsys.readouterr().out)["snapshots"]] == ["web1", "web2"]
    assert cli.run(["cat", "web1/etc", "etc/hosts", "--store", copy]) == 0
    assert capsys.readouterr().out == "of web1"
    assert cli.run(["ls", "web1/etc", "--from", copy]) == 0
    assert cli.run(["diff", "web1/etc", "web2/etc", "--from", copy]) == 0
    assert "etc/hosts" in capsys.readouterr().out
    assert cli.run(["restore", "web2/etc", "--store", copy, "--to", str(tmp_path / "back")]) == 0
    assert (tmp_path / "back/etc/hosts").read_bytes() == b"of web2"


def test_an_encrypted_copy_goes_on_after_the_collector_lost_its_key_for_names(place, tmp_path, capsys):
    keys = copies.Keys.make(tmp_path)
    place.configure(disk(tmp_path, "vault", f'encrypt_to = "{keys.public}"'))
    assert place.run("copies", "init", "vault") == 0
    assert place.run("replicate", "vault") == 0
    key = place.path / "copies" / "vault.key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.unlink()
    assert place.run("replicate", "vault") == 16
    assert "copies init vault" in capsys.readouterr().err
    assert place.run("copies", "init", "vault") == 16
    assert place.run("copies", "init", "vault", "--identity", str(keys.identity)) == 0
    capsys.readouterr()
    assert place.run("replicate", "vault", "--full") == 0
    assert "brought 0 snapshots, 0 objects" in capsys.readouterr().out
    assert place.run("snapshots", "--from", "vault") == 16
    assert place.run("cat", "web1/etc", "etc/hosts", "--from", "vault", "--identity", str(keys.identity)) == 0
    assert capsys.readouterr().out == "of web1"


def test_a_secret_key_that_others_may_read_is_refused(place, tmp_path, capsys):
    keys = copies.Keys.make(tmp_path)
    place.configure(disk(tmp_path, "vault", f'encrypt_to = "{keys.public}"'))
    place.run("copies", "init", "vault")
    keys.identity.chmod(0o644)
    capsys.readouterr()
    assert place.run("snapshots", "--from", "vault", "--identity", str(keys.identity)) == 16
    said = capsys.readouterr().err
    assert "may be read by others" in said
    assert "AGE-SECRET" not in said


def test_a_copy_that_fails_is_a_problem_with_since_and_next_step_and_stops_no_other(place, tmp_path, capsys):
    place.configure(disk(tmp_path, "gone"), disk(tmp_path, "good"))
    assert place.run("copies", "init", "good") == 0
    assert place.run("replicate") == 16
    assert "is its file system mounted?" in capsys.readouterr().err
    assert place.run("status", "--json") == 14
    document = json.loads(capsys.readouterr().out)
    (problem,) = document["problems"]
    assert (problem["host"], problem["state"]) == ("copy gone", "failing")
    assert problem["since"]
    assert "no directory" in problem["cause"]
    assert problem["hint"]
    assert [chore["host"] for chore in document["upkeep"]] == ["copy gone", "copy good"]
    assert place.run("copies", "init", "gone") == 0
    assert place.run("replicate", "gone") == 0
    assert place.run("status") == 0


def test_a_directory_that_cannot_be_looked_at_is_told_and_stops_no_other(place, tmp_path, capsys):
    place.configure(disk(tmp_path, "good"), f'name = "odd"\nto = "{tmp_path}/{"x" * 300}"')
    assert place.run("copies", "init", "good") == 0
    assert place.run("replicate", "odd", "good") == 16
    assert "File name too long" in capsys.readouterr().err
    assert place.run("snapshots", "--from", "good") == 0


def test_what_could_not_be_copied_is_named_and_the_command_says_partly(place, tmp_path, capsys):
    place.configure(disk(tmp_path))
    place.run("copies", "init", "disk2")
    for file in (place.path / "store/objects").glob("*/*"):
        file.chmod(0o600)
        file.write_bytes(b"rotten")
    capsys.readouterr()
    assert place.run("replicate") == 13
    said = capsys.readouterr().out
    assert said.count("not copied: web") == 2
    assert place.run("status") == 14
    assert "2 snapshots or modules were not copied" in " ".join(capsys.readouterr().out.split())


@contextlib.contextmanager
def estate_of(place):
    """The place's store and catalog, to be filled."""
    estate = object.__new__(Estate)
    with (
        Store.open(place.path / "store", lock=True) as store,
        Catalog.open(place.path / "catalog.sqlite", store.id) as catalog,
    ):
        estate.store, estate.catalog = store, catalog
        yield estate


def held_by_disk2(place, capsys):
    """Sequence numbers of the snapshots of web1/etc in the copy."""
    capsys.readouterr()
    assert place.run("snapshots", "web1", "--from", "disk2", "--json") == 0
    return [one["sequence"] for one in json.loads(capsys.readouterr().out)["snapshots"]]


def test_a_copy_keeps_what_its_own_rules_say(place, tmp_path, capsys):
    place.configure(disk(tmp_path, more="keep = { last = 1 }"))
    place.run("copies", "init", "disk2")
    with estate_of(place) as estate:
        for number in range(3):
            estate.pull("web1", "etc", {b"etc/a": Content(b"%d" % number)})
    assert place.run("replicate") == 0
    assert held_by_disk2(place, capsys) == [4]
    assert place.run("snapshots", "web1", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["snapshots"]) == 4


def test_a_copy_keeps_what_is_pinned_and_all_of_a_module_that_is_frozen(place, tmp_path, capsys):
    place.configure(disk(tmp_path, more="keep = { last = 1 }"))
    place.run("copies", "init", "disk2")
    with estate_of(place) as estate:
        estate.pull("web1", "etc", {b"etc/a": Content(b"2")})
        estate.store.pin("web1", "etc", 1, "as it was at first")
    assert place.run("replicate") == 0
    assert held_by_disk2(place, capsys) == [1, 2]
    with estate_of(place) as estate:
        estate.pull("web1", "etc", {b"etc/a": None})
        estate.catalog.freeze("web1", "etc", 1_790_000_000.0, "it shrank")
    assert place.run("replicate") == 0
    assert held_by_disk2(place, capsys) == [1, 2, 3]
    assert place.run("retention", "resume", "web1/etc") == 0
    assert place.run("replicate") == 0
    assert held_by_disk2(place, capsys) == [1, 3]


def test_what_is_pinned_after_a_copy_removed_it_comes_again(place, tmp_path, capsys):
    place.configure(disk(tmp_path, more="keep = { last = 1 }"))
    place.run("copies", "init", "disk2")
    with estate_of(place) as estate:
        for number in range(3):
            estate.pull("web1", "etc", {b"etc/a": Content(b"%d" % number)})
    assert place.run("replicate") == 0
    assert held_by_disk2(place, capsys) == [4]
    with estate_of(place) as estate:
        estate.store.pin("web1", "etc", 2, "the one before the upgrade")
    for _ in range(2):
        assert place.run("replicate") == 0
        assert held_by_disk2(place, capsys) == [2, 4]
    with estate_of(place) as estate:
        estate.pull("web1", "etc", {b"etc/a": Content(b"later")})
    assert place.run("replicate", "--full") == 0
    assert held_by_disk2(place, capsys) == [2, 5]
    assert place.run("verify", "--from", "disk2") == 0


def test_a_clock_that_jumped_removes_nothing_in_a_copy_and_keeps_nothing_from_it(place, tmp_path, capsys):
    place.configure(disk(tmp_path, more="keep = { last = 1 }"))
    place.run("copies", "init", "disk2")
    assert place.run("replicate") == 0
    with estate_of(place) as estate:
        estate.pull("web1", "etc", {b"etc/a": Content(b"2")}, time=4_000_000_000.0)
    assert place.run("replicate") == 0
    assert held_by_disk2(place, capsys) == [1, 2]
    assert place.run("retention", "resume", "--clock") == 0
    assert place.run("replicate") == 0
    assert held_by_disk2(place, capsys) == [2]


def test_names_and_places_that_are_none_are_told(place, tmp_path, capsys):
    assert place.run("replicate") == 2
    place.configure(disk(tmp_path))
    assert place.run("replicate", "nosuch") == 4
    assert place.run("snapshots", "--from", "nosuch") == 4
    assert "configured: disk2" in capsys.readouterr().err
    assert place.run("snapshots", "--from", "ftp://somewhere/") == 2
    assert place.run("snapshots", "--from", str(tmp_path / "none")) == 16


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "a"\nto = "relative"', "absolute path"),
        ('name = "a"\nto = "ssh://host/a b"', "is not ssh://USER@HOST:PORT/PATH"),
        ('name = "a"\nto = "ssh://-oProxyCommand=x/p"', "is not ssh://"),
        ('name = "a"\nto = "ssh://host/../etc"', "is not ssh://"),
        ('name = "a"\nto = "s3://bucket"', "`credentials` is missing"),
        ('name = "a"\nto = "s3://B/x"\ncredentials = "c"', "is not s3://BUCKET/PREFIX"),
        ('name = "a"\nto = "ftp://x/y"', "neither a directory nor"),
        ('name = "a"\nto = "/x"\nregion = "eu"', "`region` is for s3:// only"),
        ('name = "a"\nto = "/x"\nkey = "k"', "`key` is for ssh:// only"),
        ('name = "a"\nto = "/x"\nencrypt_to = "AGE-SECRET-KEY-1AAAA"', "is a secret key"),
        ('name = "a"\nto = "/x"\nencrypt_to = "ssh-ed25519 AAAA"', "is not a public key of age"),
        ('name = "a"\nto = "/x"\nevry = "1d"', 'did you mean "every"'),
        ('name = "a"\nto = "/x"\n[[copy]]\nname = "a"\nto = "/y"', "the name of another copy already"),
        ('name = "a"\nto = "ssh://h/x"\n[[copy]]\nname = "b"\nto = "ssh://h/x/"', "the place of another copy already"),
        ('to = "/x"', "name: is missing"),
    ],
)
def test_a_wrong_copy_in_the_configuration_is_told_with_what_is_right(place, capsys, text, words):
    place.configure(text)
    assert place.run("copies") == 3
    said = capsys.readouterr().err
    assert words in said
    assert f"{place.file}:" in said


def test_a_copy_is_due_by_its_own_interval_and_soon_after_a_failure(place, tmp_path):
    place.configure(disk(tmp_path, more='every = "1d"'), disk(tmp_path, "never", 'every = "off"'))
    config = load(Path(place.file))
    copy, never = config.copies
    always = Hours()

    def seen(tried, failure=None):
        return CopyView("disk2", "", tried, tried, None, failure, {})

    failure = Failure("CopyFull", "", "", True)
    assert is_due(copy, None, always, 1000.0)
    assert not is_due(copy, None, always, 1000.0, begun=900.0, first=300.0)
    assert not is_due(never, None, always, 1000.0)
    assert not is_due(copy, seen(1000.0), always, 1000.0 + 3600)
    assert is_due(copy, seen(1000.0), always, 1000.0 + 86400)
    assert is_due(copy, seen(1000.0, failure), always, 1000.0 + 3600)
    assert not is_due(copy, seen(1000.0, failure), always, 1000.0 + 1800)
    assert is_due(copy, seen(99_000.0), always, 1000.0)


def test_a_copy_goes_by_the_calendar_and_does_not_wait_for_it_after_a_failure(place, tmp_path):
    place.configure(disk(tmp_path, more='every = "daily at 02:30"'))
    (copy,) = load(Path(place.file)).copies
    hours = Hours("UTC")
    day, night, failure = 1_790_000_000.0 // 86400 * 86400, 2.5 * 3600, Failure("CopyFull", "", "", True)

    def seen(tried, failure=None):
        return CopyView("disk2", "", tried, tried, None, failure, {})

    assert not is_due(copy, None, hours, day + night - 1, begun=day)
    assert is_due(copy, None, hours, day + night, begun=day)
    assert not is_due(copy, seen(day + night), hours, day + 86400)
    assert is_due(copy, seen(day + night), hours, day + 86400 + night)
    assert is_due(copy, seen(day + night, failure), hours, day + night + 3600)
    assert judge_copy(copy, seen(day + night), "UTC", day + 86400 + night + 3600).state is State.OK
    assert judge_copy(copy, seen(day + night), "UTC", day + 86400 + night + 13 * 3600).state is State.LATE


def test_of_copies_that_fail_each_is_told_and_the_others_are_done(place, tmp_path, capsys):
    place.configure(disk(tmp_path, "gone"), disk(tmp_path, "good"), disk(tmp_path, "other"))
    assert place.run("copies", "init", "good") == 0
    capsys.readouterr()
    assert place.run("replicate") == 16
    told = capsys.readouterr()
    assert "good: brought 2 snapshots" in told.out
    assert [line for line in told.err.splitlines() if line.startswith("error: ")] == [
        f"error: {name}: there is no directory {tmp_path}/{name}" for name in ("gone", "other")
    ]
    assert place.run("replicate", "--json") == 16
    document = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["type"]) for one in document["failed"]] == [
        ("gone", "CopyMissing"),
        ("other", "CopyMissing"),
    ]
    assert list(document["copies"]) == ["good"]


def test_check_tries_each_copy_and_leaves_nothing_behind(place, tmp_path, capsys):
    keys = copies.Keys.make(tmp_path)
    place.configure(disk(tmp_path), disk(tmp_path, "vault", f'encrypt_to = "{keys.public}"'), disk(tmp_path, "none"))
    for name in ("disk2", "vault"):
        assert place.run("copies", "init", name) == 0
    assert place.run("replicate", "disk2") == 0
    before = sorted((tmp_path / "disk2").rglob("*"))
    (place.path / "copies" / "vault.key").unlink()
    capsys.readouterr()
    assert place.run("check") == 16
    told = capsys.readouterr()
    assert f"copy disk2    ok  {tmp_path}/disk2, 2 snapshots, can be written" in told.out
    assert "on the same file system as the store" in " ".join(told.out.split())
    assert "copy vault    failed" in told.out
    assert "the key that names the objects of vault is missing" in told.err
    assert f"there is no directory {tmp_path}/none" in told.err
    assert sorted((tmp_path / "disk2").rglob("*")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_check_tells_of_a_copy_and_of_mirrors_that_cannot_be_written(place, tmp_path, capsys):
    place.configure(disk(tmp_path))
    (tmp_path / "disk2").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path / "disk2"], check=True)
    try:
        assert place.run("copies", "init", "disk2") == 0
        assert place.run("check") == 0
        subprocess.run(["mount", "-o", "remount,ro", tmp_path / "disk2"], check=True)
        text = place.file.read_text()
        place.file.write_text(f'mirror_dir = "{tmp_path}/file/mirror"\n{text}\n[policy]\nmirror = true\n')
        (tmp_path / "file").write_text("")
        capsys.readouterr()
        assert place.run("check") == 12
        told = " ".join(capsys.readouterr().err.split())
        assert "the copy: Read-only file system" in told
        assert "mirrors cannot be written" in told
    finally:
        subprocess.run(["umount", "-l", tmp_path / "disk2"], check=True)


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
def test_verify_proves_a_copy_and_names_what_is_damaged_there(place, tmp_path, capsys, sealed):
    keys = copies.Keys.make(tmp_path)
    place.configure(disk(tmp_path, more=f'encrypt_to = "{keys.public}"' if sealed else ""))
    place.run("copies", "init", "disk2")
    place.run("replicate")
    prune_oldest(place)
    assert place.run("catalog", "rebuild") == 0
    assert place.run("replicate") == 0
    words = ["verify", "--from", "disk2", *(["--identity", str(keys.identity)] if sealed else [])]
    capsys.readouterr()
    assert place.run(*words, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["objects"], document["manifests"], document["findings"]) == (3, 2, [])
    first, second, _ = sorted((tmp_path / "disk2/objects").glob("*/*"))
    first.unlink()
    second.chmod(0o600)
    second.write_bytes(second.read_bytes()[:-3])
    assert place.run(*words) == 15
    assert place.run("verify", "--json") == 0
    capsys.readouterr()
    # It finds what is missing, or has another size; the contents of an encrypted object only its reader can prove.
    assert place.run("replicate", "--full") == 0
    if not sealed:
        assert place.run(*words) == 0


def damage(file):
    """Of the same size: nobody sees it from outside."""
    file.chmod(0o600)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
def test_what_verify_finds_in_a_copy_is_brought_again(place, tmp_path, capsys, sealed):
    keys = copies.Keys.make(tmp_path)
    place.configure(disk(tmp_path, more=f'encrypt_to = "{keys.public}"' if sealed else ""))
    place.run("copies", "init", "disk2")
    place.run("replicate")
    words = ["verify", "--from", "disk2", "--json", *(["--identity", str(keys.identity)] if sealed else [])]
    first, second, _ = sorted((tmp_path / "disk2/objects").glob("*/*"))
    damage(first)
    second.unlink()
    damage(next((tmp_path / "disk2/manifests/web1/etc").glob("*.zst*")))
    damage(next((tmp_path / "disk2/manifests/web2/etc").glob("log.jsonl*")))
    # Their sizes say nothing, so a round does not see them.
    assert place.run("replicate", "--full") == 0
    second.unlink(missing_ok=True)
    found = tmp_path / "found.json"
    # What an unsound manifest or log needs is known once that is mended.
    rounds = 0
    capsys.readouterr()
    while place.run(*words) == 15:
        rounds += 1
        found.write_text(capsys.readouterr().out)
        assert place.run("replicate", "disk2", "--mend", str(found)) == 0
        assert "damaged there" in capsys.readouterr().out
    assert 1 <= rounds <= 3
    capsys.readouterr()
    assert place.run(*words) == 0
    assert json.loads(capsys.readouterr().out)["findings"] == []


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_a_copy_that_lost_its_own_list_can_still_be_read_after_a_disaster(place, tmp_path, capsys, sealed, how):
    keys = copies.Keys.make(tmp_path)
    place.configure(disk(tmp_path, more=f'encrypt_to = "{keys.public}"' if sealed else ""))
    key = ["--identity", str(keys.identity)] if sealed else []
    place.run("copies", "init", "disk2")
    place.run("replicate")
    state = tmp_path / "disk2/copy/state.json.gz"
    heads = next((tmp_path / "disk2/copy").glob("heads.json*"))
    if how == "missing":
        state.unlink()
    else:
        state.write_bytes(b"nonsense")
        heads.write_bytes(b"nonsense")
    capsys.readouterr()
    assert place.run("cat", "web1/etc", "etc/hosts", "--from", "disk2", *key) == 0
    assert capsys.readouterr().out == "of web1"
    assert place.run("verify", "--from", "disk2", *key) == 10
    assert "the copy does not say what it must have" in capsys.readouterr().err
    shutil.move(place.path / "store", tmp_path / "lost")
    assert place.run("recover", "--from", "disk2", *key) == 13
    assert "the copy itself: copy/state.json.gz" in " ".join(capsys.readouterr().out.split())
    assert place.run("replicate", "--full") == 0
    assert place.run("verify", "--from", "disk2", *key) == 0


def test_verify_misses_a_module_that_is_gone_from_a_copy(place, tmp_path, capsys):
    place.configure(disk(tmp_path))
    place.run("copies", "init", "disk2")
    place.run("replicate")
    shutil.rmtree(tmp_path / "disk2/manifests/web2/etc")
    capsys.readouterr()
    assert place.run("verify", "--from", "disk2", "--json") == 15
    (finding,) = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["kind"], finding["name"], finding["snapshots_total"]) == ("missing", "web2/etc", 1)
    assert place.run("replicate", "--full") == 0
    assert place.run("verify", "--from", "disk2") == 0


def test_what_is_damaged_here_and_there_is_told_as_lost_and_left_alone(place, tmp_path, capsys):
    place.configure(disk(tmp_path))
    place.run("copies", "init", "disk2")
    place.run("replicate")
    first = min((tmp_path / "disk2/objects").glob("*/*"))
    damage(first)
    damage(place.path / "store" / first.relative_to(tmp_path / "disk2"))
    before = first.read_bytes()
    capsys.readouterr()
    assert place.run("verify", "--from", "disk2", "--json") == 15
    found = tmp_path / "found.json"
    found.write_text(capsys.readouterr().out)
    assert place.run("replicate", "disk2", "--mend", str(found)) == 13
    assert "LOST in the copy: object" in capsys.readouterr().out
    assert first.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"findings": [{"what": "object", "name": "../../x"}]}',
        '{"findings": [{"what": "manifest", "name": "web1/../../etc@000001-2026-01-01T000000Z"}]}',
        '{"findings": [{"what": "manifest", "name": "web1/etc@../../../x"}]}',
        '{"findings": [{"what": "log", "name": "web1"}]}',
    ],
)
def test_a_list_of_findings_that_is_none_is_refused(place, tmp_path, capsys, text):
    place.configure(disk(tmp_path), disk(tmp_path, "other"))
    found = tmp_path / "found.json"
    found.write_text(text)
    assert place.run("replicate", "disk2", "--mend", str(found)) == 2
    assert "verify --from COPY --json > FILE" in capsys.readouterr().err
    found.write_text('{"findings": []}')
    assert place.run("replicate", "--mend", str(found)) == 2
    assert "about one copy" in capsys.readouterr().err


def prune_oldest(place):
    """In the source alone."""
    with Store.open(place.path / "store", lock=True) as store:
        old = store.newest("web1", "etc")
        log = store.log("web1", "etc")
        log.seal(log.append(log.read(), "prune", 1, file=f"{old.name}.full.zst", manifest=old.digest))
        (place.path / "store/manifests/web1/etc" / f"{old.name}.full.zst").unlink()
