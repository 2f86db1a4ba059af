"""A store that is lost comes back from a copy, wherever that is and encrypted or not, and goes on as the same store."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pyrsyncbackup_collector import cli
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.copies.reading import opened
from pyrsyncbackup_collector.copies.recovery import RECOVERING, Recovery
from pyrsyncbackup_collector.copies.seal import Plain
from pyrsyncbackup_collector.errors import Cancelled, StoreBusy, StoreError, StoreMissing
from pyrsyncbackup_collector.store.signature import KeySigner
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.transport.invitations import own_identity

from tests.support import copies, swift
from tests.support.estate import Content, Estate

pytest_plugins = ["tests.support.copy_scene"]


class Place:
    """A collector's directory: its keys, its store, its catalog and a configuration with one copy."""

    def __init__(self, path):
        self.path = path
        path.mkdir()
        self.file = path / "collector.toml"
        self.signer = KeySigner(own_identity(path).key_pem)
        estate = Estate(path, large=1 << 20)
        self.id = estate.store.id
        estate.close()

    def configure(self, text):
        head = f'store = "{self.path}/store"\ncatalog = "{self.path}/catalog.sqlite"\nstate = "{self.path}"\n'
        self.file.write_text(f'{head}sandbox = "off"\n[[copy]]\nname = "other"\n{text}\n')

    @contextlib.contextmanager
    def estate(self):
        estate = object.__new__(Estate)
        with (
            Store.open(self.path / "store", lock=True, signer=self.signer, large=1 << 20) as store,
            Catalog.open(self.path / "catalog.sqlite", store.id) as catalog,
        ):
            estate.store, estate.catalog = store, catalog
            yield estate

    def run(self, *words):
        return cli.run([*words, "--config", str(self.file)])

    def burn(self, *also):
        for name in ("store", *also):
            path = self.path / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()


LARGE = os.urandom(3 << 20)


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path / "collector")
    with made.estate() as estate:
        estate.pull("web1", "etc", {b"etc/f%02d" % number: Content(b"%d" % number * 50) for number in range(30)})
        estate.pull("web1", "etc", {b"etc/f01": Content(b"second"), b"etc/f02": None})
        estate.pull("web2", "data", {b"data/large": Content(LARGE), b"data/none": Content(b"")})
    return made


@pytest.fixture(params=["directory", "ssh", "s3"])
def where(request, tmp_path):
    """The keys of [[copy]] for each kind of place."""
    if request.param == "directory":
        return f'to = "{tmp_path}/copy"'
    if request.param == "ssh":
        server = request.getfixturevalue("server")
        (tmp_path / "copy").mkdir()
        (tmp_path / "known_hosts").write_text(server.known_hosts_line())
        return f'to = "ssh://{server.user}@127.0.0.1:{server.port}{tmp_path}/copy"\nkey = "{server.user_key}"'
    running = request.getfixturevalue("bucket")
    file = tmp_path / "credentials"
    file.write_text(f"[default]\naws_access_key_id = {swift.ACCESS}\naws_secret_access_key = {swift.SECRET}\n")
    file.chmod(0o600)
    return (
        f'to = "s3://{swift.BUCKET}/{tmp_path.name}"\nendpoint = "{running.endpoint}"\nregion = "{swift.REGION}"\n'
        f'credentials = "{file}"'
    )


def knows_its_server(tmp_path):
    if (tmp_path / "known_hosts").exists():
        shutil.copy(tmp_path / "known_hosts", tmp_path / "collector" / "known_hosts")


def shown(capsys):
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "sealed"])
def test_a_store_that_burnt_down_comes_back_and_goes_on(where, place, tmp_path, capsys, sealed):
    knows_its_server(tmp_path)
    keys = copies.Keys.make(tmp_path)
    place.configure(where + (f'\nencrypt_to = "{keys.public}"' if sealed else ""))
    key = ["--identity", str(keys.identity)] if sealed else []
    assert place.run("copies", "init", "other") == 0
    assert place.run("replicate") == 0
    place.burn("catalog.sqlite", *(["copies"] if sealed else []))
    capsys.readouterr()
    assert place.run("recover", "--from", "other", "--json", *key) == 0
    document = shown(capsys)
    assert (document["store"], document["snapshots"], document["catalog"]) == (place.id, 3, 3)
    assert (document["damaged"], document["faults"], document["absent"], document["unproven"]) == ([], [], [], 0)
    assert not (place.path / "store" / RECOVERING).exists()
    assert place.run("verify", "--json") == 0
    assert shown(capsys)["manifests"] == 3
    assert place.run("restore", "web2/data", "--to", str(tmp_path / "back")) == 0
    assert (tmp_path / "back/data/large").read_bytes() == LARGE
    assert place.run("cat", "web1/etc@1", "etc/f02") == 0
    with place.estate() as estate:
        assert estate.pull("web1", "etc", {b"etc/new": Content(b"new")}).sequence == 3
    if sealed:
        assert place.run("replicate") == 16
        assert place.run("copies", "init", "other", *key) == 0
    capsys.readouterr()
    assert place.run("replicate", "--json") == 0
    done = shown(capsys)["copies"]["other"]
    assert (done["snapshots"], done["objects"], done["held"], done["problems"]) == (1, 1, 4, 0)


@pytest.fixture
def copied(place, tmp_path):
    place.configure(f'to = "{tmp_path}/copy"\nkeep = {{ last = 1 }}')
    assert place.run("copies", "init", "other") == 0
    return place


def test_what_either_of_the_two_had_alone_is_told_and_missed_by_nobody(copied, tmp_path, capsys):
    copied.configure(f'to = "{tmp_path}/copy"')
    assert copied.run("replicate") == 0
    with copied.estate() as estate:
        estate.prune("web1", "etc", 1)
        estate.pull("web2", "data", {b"data/b": Content(b"b")})
    copied.configure(f'to = "{tmp_path}/copy"\nkeep = {{ last = 1 }}\nmodules = "data"')
    assert copied.run("replicate") == 0
    copied.burn()
    capsys.readouterr()
    assert copied.run("recover", "--from", str(tmp_path / "copy"), "--json") == 0
    document = shown(capsys)
    # The copy has no news of the prune of web1/etc@1: its logs stayed as they were.
    assert document["snapshots"] == 2
    assert [name.partition("@")[0] for name in document["absent"]] == ["web1/etc", "web2/data"]
    assert copied.run("verify") == 0
    assert "all is sound" in capsys.readouterr().out
    assert copied.run("snapshots", "--json") == 0
    assert [(one["host"], one["sequence"]) for one in shown(capsys)["snapshots"]] == [("web1", 2), ("web2", 2)]


def test_what_the_store_had_pruned_stays_in_the_copy(copied, tmp_path, capsys):
    copied.configure(f'to = "{tmp_path}/copy"')
    assert copied.run("replicate") == 0
    with copied.estate() as estate:
        estate.prune("web1", "etc", 1)
        estate.pull("web1", "etc", {b"etc/f03": Content(b"third")})
    assert copied.run("replicate") == 0
    copied.burn()
    capsys.readouterr()
    assert copied.run("recover", "--from", "other") == 0
    assert "1 snapshot that the store had pruned stay in the copy alone" in " ".join(capsys.readouterr().out.split())
    assert copied.run("verify") == 0
    assert copied.run("ls", "web1/etc@1", "--from", "other") == 0


def test_with_new_keys_the_logs_are_signed_anew_and_say_so(place, tmp_path, capsys):
    place.configure(f'to = "{tmp_path}/copy"')
    assert place.run("copies", "init", "other") == 0
    assert place.run("replicate") == 0
    place.burn("catalog.sqlite", "identity")
    capsys.readouterr()
    assert place.run("recover", "--from", "other") == 0
    assert "2 logs fit in themselves" in " ".join(capsys.readouterr().out.split())
    assert place.run("verify") == 0
    assert "made anew from a copy" in capsys.readouterr().err
    assert place.run("replicate") == 0


def test_what_is_not_sound_in_the_copy_is_named_and_the_rest_comes(place, tmp_path, capsys):
    place.configure(f'to = "{tmp_path}/copy"')
    assert place.run("copies", "init", "other") == 0
    assert place.run("replicate") == 0
    digests = (hashlib.sha256(b"%d" % number * 50).hexdigest() for number in range(5, 9))
    bad = first, second, pipe, endless = [tmp_path / "copy/objects" / digest[:2] / digest[2:] for digest in digests]
    first.unlink()
    pipe.unlink()
    os.mkfifo(pipe)
    endless.unlink()
    endless.symlink_to("/dev/zero")
    second.chmod(0o600)
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    (tmp_path / "copy/manifests/web2/data/log.jsonl").unlink()
    place.burn()
    capsys.readouterr()
    assert place.run("recover", "--from", "other", "--json") == 13
    document = shown(capsys)
    whats = " ".join(one["what"] for one in document["damaged"])
    assert all(file.parent.name + file.name in whats for file in bad)
    assert [one["module"] for one in document["faults"]] == ["web2/data"]
    assert document["snapshots"] == 2
    assert not list((place.path / "store").rglob(".tmp-*"))
    assert place.run("verify") == 15


def test_a_recovery_that_was_cut_goes_on_and_is_no_store_before(place, tmp_path):
    target = copies.directory(tmp_path / "copy")
    with Store.open(place.path / "store") as store:
        copies.make(target, store, Plain())
        copies.replicate(store, target)
    new = tmp_path / "new"
    counted = []

    def check(last):
        def stop():
            counted.append(1)
            if len(counted) == last:
                raise Cancelled("stopped")

        return stop

    for last in range(1, 50):
        counted.clear()
        try:
            with opened(target) as copy, Recovery(copy, new, place.signer, check=check(last), tell=print) as recovery:
                done = recovery.run(1_790_000_000.0)
            break
        except Cancelled:
            with pytest.raises(StoreError, match="no store at"), Store.open(new):
                pass
    assert last > 3
    assert (done.snapshots, done.damaged) == (3, [])
    with Store.open(new) as store:
        assert store.id == place.id
    target.close()


def test_killed_at_any_step_it_goes_on_and_is_no_store_before(tmp_path):
    for name in ("source", "keys", "new"):
        (tmp_path / name).mkdir()
    signer = KeySigner(own_identity(tmp_path / "keys").key_pem)
    estate = Estate(tmp_path / "source", large=1 << 20)
    estate.pull("web1", "etc", {b"etc/f": Content(b"first"), b"etc/g": Content(b"same")})
    estate.pull("web1", "etc", {b"etc/f": Content(b"second")})
    estate.pull("web2", "data", {b"data/large": Content(LARGE[: 3 << 19])})
    target = copies.directory(tmp_path / "copy")
    copies.make(target, estate.store, Plain())
    copies.replicate(estate.store, target)
    estate.close()
    argv = [sys.executable, "-m", "tests.support.recover_child", target.path, tmp_path / "new", tmp_path / "keys"]
    steps = int(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
    assert steps > 15
    whole = []
    for number in range(1, steps + 1):
        new = tmp_path / "new" / str(number)
        with contextlib.suppress(StoreMissing), Store.open(new) as store:
            whole.append(number)
            assert contents(store) == 4
        if number < steps:
            with (
                opened(target) as copy,
                Recovery(copy, new, signer, check=copies.nothing, tell=copies.nothing) as recovery,
            ):
                done = recovery.run(1_790_000_000.0)
            assert (done.snapshots, done.damaged, done.absent) == (3, [], [])
            with Store.open(new, signer=signer) as store:
                assert contents(store) == 4
                assert [store.verify_log(host, module) for host, module in store.modules()] == [[], []]
            assert not list(new.rglob(".tmp-*"))
    # The last but one lacks nothing but the removal of its mark.
    assert whole == [steps - 1, steps]
    target.close()


def contents(store):
    """How many different contents all its snapshots have, each proven."""
    found = set()
    for host, module in store.modules():
        for snapshot in store.snapshots(host, module):
            for entry in store.entries(snapshot, verify=True):
                if entry.sha256:
                    found.add(store.objects.read_entry(entry))
    return len(found)


def test_one_that_was_killed_after_its_last_step_and_is_in_use_is_not_made_anew(place, tmp_path):
    target = copies.directory(tmp_path / "copy")
    with Store.open(place.path / "store") as store:
        copies.make(target, store, Plain())
        copies.replicate(store, target)
    (place.path / "store" / RECOVERING).write_text(place.id)
    with place.estate() as estate:
        estate.store.reconcile()
        estate.pull("web1", "etc", {b"etc/f01": Content(b"after that")})
    with (
        opened(target) as copy,
        Recovery(copy, place.path / "store", place.signer, check=copies.nothing, tell=copies.nothing) as recovery,
        pytest.raises(StoreError, match="there is a store already"),
    ):
        recovery.run(1_790_000_000.0)
    with Store.open(place.path / "store", signer=place.signer) as store:
        assert store.newest("web1", "etc").sequence == 3
        assert store.verify_log("web1", "etc") == []
    target.close()


def test_nothing_that_is_there_is_ever_replaced(place, tmp_path, capsys):
    place.configure(f'to = "{tmp_path}/copy"')
    assert place.run("copies", "init", "other") == 0
    assert place.run("replicate") == 0
    before = sorted(path for path in (place.path / "store").rglob("*"))
    assert place.run("recover", "--from", "other") == 10
    assert "there is a store already" in capsys.readouterr().err
    assert sorted(path for path in (place.path / "store").rglob("*")) == before
    (place.path / "store/format.json").unlink()
    assert place.run("recover", "--from", "other") == 10
    assert "not empty" in capsys.readouterr().err
    place.burn()
    with Store.open(tmp_path / "copy") as copy, pytest.raises(StoreError, match="copy itself"):
        Recovery(copy, Path(tmp_path / "copy"), place.signer, check=copies.nothing, tell=copies.nothing).run(0.0)


def test_the_empty_store_of_a_new_collector_gives_way_unless_a_daemon_holds_it(place, tmp_path, capsys):
    place.configure(f'to = "{tmp_path}/copy"')
    assert place.run("copies", "init", "other") == 0
    assert place.run("replicate") == 0
    place.burn("catalog.sqlite")
    new = Store.create(place.path / "store")
    Catalog.create(place.path / "catalog.sqlite", new).close()
    with (
        Store.open(place.path / "store", lock=True) as held,
        opened(copies.directory(tmp_path / "copy")) as copy,
        Recovery(copy, held.path, place.signer, check=copies.nothing, tell=copies.nothing) as recovery,
        pytest.raises(StoreBusy),
    ):
        recovery.run(0.0)
    assert place.run("recover", "--from", "other") == 0
    assert place.run("status") in (0, 14)
    with Store.open(place.path / "store") as store:
        assert store.id == place.id
