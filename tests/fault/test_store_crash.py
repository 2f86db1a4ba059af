"""A collector that dies, or is told lies by its disk, leaves either no snapshot or a whole one."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pyrsyncbackup_collector.entry import DIRECTORY, Entry
from pyrsyncbackup_collector.errors import StoreBusy, StoreError
from pyrsyncbackup_collector.store.commit import STEPS
from pyrsyncbackup_collector.store.signature import KeySigner
from pyrsyncbackup_collector.store.snapshot import Change, Snapshot
from pyrsyncbackup_collector.store.store import Store

ENTRIES = [Entry(path_text="etc", type=DIRECTORY), *(Entry(path_text=f"etc/{n:04}", size=n) for n in range(100))]
NEW = Entry(path_text="etc/0007", size=70)

CHILD = """
import os, signal, sys
from pathlib import Path
from pyrsyncbackup_collector.entry import Entry
from pyrsyncbackup_collector.store.snapshot import Change
from pyrsyncbackup_collector.store.store import Store

def step(name):
    if name == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)

store = Store.open(Path(sys.argv[1]), lock=True, step=step)
store.objects.ingest(os.open(__file__ if "__file__" in globals() else "/etc/hostname", os.O_RDONLY), 1 << 20)
(store.incoming("run-1") / "half").write_text("x")
new = Entry(path_text="etc/0007", size=70)
previous = store.newest("web1", "etc") if sys.argv[3] == "delta" else None
changes = [Change(b"etc/0007", new)] if previous else [
    Change(e.path, new if e.path == b"etc/0007" else e) for e in store.entries(store.newest("web1", "etc"))]
store.commit("web1", "etc", time=2e9, state="complete", changes=changes, previous=previous)
"""


def commit(store: Store, changes: list[Change] | None = None, previous: Snapshot | None = None) -> Snapshot:
    changes = [Change(e.path, e) for e in ENTRIES] if changes is None else changes
    return store.commit("web1", "etc", time=1.79e9, state="complete", changes=changes, previous=previous)


@pytest.fixture(scope="module")
def signer() -> KeySigner:
    key = ec.generate_private_key(ec.SECP256R1())
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return KeySigner(key.private_bytes(encoding, form, serialization.NoEncryption()))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Store.create(tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.parametrize("kind", ["full", "delta"])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_of_a_commit_there_is_no_snapshot_or_a_whole_one(path: Path, step: str, kind: str) -> None:
    with Store.open(path, lock=True) as store:
        first = commit(store)
    ended = subprocess.run([sys.executable, "-c", CHILD, path, step, kind], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    with Store.open(path) as reader:  # before anything is put in order
        for snapshot in reader.snapshots("web1", "etc"):
            assert len(list(reader.entries(snapshot, verify=True))) == 101
    with Store.open(path, lock=True) as store:
        report = store.reconcile()
        found = store.snapshots("web1", "etc")
        assert [(r.sequence, r.digest) for r in store.recorded("web1", "etc")] == [
            (s.sequence, s.digest) for s in found
        ]
        assert report.set_aside == report.missing == report.faults == []
        assert found[0] == first
        assert list(store.entries(first, verify=True)) == ENTRIES
        linked = STEPS.index(step) > STEPS.index("link")
        assert len(found) == (2 if linked else 1)
        assert bool(report.completed) == (linked and STEPS.index(step) <= STEPS.index("log"))
        if linked:
            assert found[1].base == (first.name if kind == "delta" else None)
            assert list(store.entries(found[1], verify=True)) == [*ENTRIES[:8], NEW, *ENTRIES[9:]]
        assert store.verify_log("web1", "etc") == []
        assert commit(store, [], found[-1]).sequence == len(found) + 1
    assert list(path.rglob(".tmp-*")) == []
    assert list((path / "incoming").iterdir()) == []


def log_of(path: Path) -> Path:
    return path / "manifests/web1/etc/log.jsonl"


def test_a_torn_last_line_of_the_log_is_cut_and_its_snapshot_completed(path: Path, signer: KeySigner) -> None:
    with Store.open(path, lock=True, signer=signer) as store:
        first = commit(store)
        second = commit(store, [], first)
    whole = log_of(path).read_bytes()
    log_of(path).write_bytes(whole[:-30])
    head = path / "manifests/web1/etc/log.head.json"
    os.truncate(head, 0)
    with Store.open(path) as reader:
        assert reader.snapshots("web1", "etc") == [first]
    with Store.open(path, lock=True, signer=signer) as store:
        report = store.reconcile()
        assert [r.sequence for r in report.completed] == [2]
        assert any("torn" in fault for fault in report.faults)
        assert store.snapshots("web1", "etc") == [first, second]
        assert store.verify_log("web1", "etc") == []


def test_a_manifest_that_is_not_whole_is_set_aside(path: Path) -> None:
    with Store.open(path, lock=True) as store:
        first = commit(store)
        full = path / "manifests/web1/etc" / f"{first.name}.full.zst"
        (full.parent / "000002-2026-09-21T141320Z.full.zst").write_bytes(full.read_bytes()[:-40])
        (full.parent / "000003-2026-09-21T141320Z.full.zst").write_bytes(full.read_bytes())
        report = store.reconcile()
        assert [p.name[:6] for p in report.set_aside] == ["000002", "000003"]
        assert [s.sequence for s in store.snapshots("web1", "etc")] == [1]
        assert store.reconcile().faults == []
        assert commit(store, [], first).sequence == 2


def test_a_missing_manifest_is_told_and_its_number_is_not_used_again(path: Path) -> None:
    with Store.open(path, lock=True) as store:
        first = commit(store)
        second = commit(store, [], first)
        (path / "manifests/web1/etc" / f"{second.name}.delta.zst").unlink()
        report = store.reconcile()
        assert [r.sequence for r in report.missing] == [2]
        assert report.faults == [f"web1/etc: the manifest {second.name}.delta.zst is missing"]
        assert store.snapshots("web1", "etc") == [first]
        assert commit(store, [], first).sequence == 3


def test_who_changes_the_log_is_found_and_it_stays_known(path: Path, signer: KeySigner) -> None:
    with Store.open(path, lock=True, signer=signer) as store:
        snapshot = commit(store)
        for _ in range(4):
            snapshot = commit(store, [], snapshot)
    whole = log_of(path).read_bytes()
    lines = whole.splitlines(keepends=True)
    head = (log_of(path).parent / "log.head.json").read_bytes()
    forged = {**json.loads(head), "lines": 4, "digest": json.loads(lines[4])["previous"]}
    wrong = {**json.loads(head), "signature": base64.b64encode(b"x" * 70).decode()}
    for data, seal, cause in [
        (b"".join(lines[:-1]), head, "has 4 lines, its head knows 5"),
        (b"".join(lines[:-1]), json.dumps(forged).encode(), "wrong signature"),
        (whole, json.dumps(wrong).encode(), "wrong signature"),
        (b"".join([*lines[:2], *lines[3:]]), head, "line 3 does not follow"),
        (whole.replace(b'"sequence":2', b'"sequence":7'), head, "line 3 does not follow"),
        (whole[:-9] + b'"}\n', head, "not the one that its head knows|cannot be read"),
        (whole + lines[-1] * 2, head, "its head only knows 5"),
        (whole, b"", "cannot be read"),
    ]:
        log_of(path).write_bytes(data)
        (log_of(path).parent / "log.head.json").write_bytes(seal)
        with Store.open(path, signer=signer) as store:
            faults = " | ".join(store.verify_log("web1", "etc"))
        assert re.search(cause, faults), (cause, faults)
    log_of(path).write_bytes(whole)
    (log_of(path).parent / "log.head.json").write_bytes(head)
    log_of(path).write_bytes(b"".join(lines[:2]))
    with Store.open(path, lock=True, signer=signer) as store:
        report = store.reconcile()
        assert any("its head knows 5" in fault for fault in report.faults)
    assert b'"op":"accept"' in log_of(path).read_bytes()
    with Store.open(path, lock=True, signer=signer) as store:
        assert store.reconcile().faults == []


def test_a_commit_that_fails_leaves_nothing(path: Path) -> None:
    class Broken(Exception):
        pass

    def changes():
        yield Change(ENTRIES[0].path, ENTRIES[0])
        raise Broken

    failing: list[str] = []

    def refuse(name: str) -> None:
        if name in failing:
            raise Broken

    with Store.open(path, lock=True, step=refuse) as store:
        with pytest.raises(Broken):
            store.commit("web1", "etc", time=1.0, state="complete", changes=changes(), previous=None)
        for step in STEPS[: STEPS.index("head")]:
            failing = [step]
            with pytest.raises(Broken):
                commit(store)
            assert [p.name for p in (path / "manifests/web1/etc").iterdir()] == []
        failing = []
        assert commit(store).sequence == 1


def test_the_lock_goes_with_its_process(path: Path) -> None:
    code = "import sys; from pathlib import Path; from pyrsyncbackup_collector.store.store import Store\n"
    code += "store = Store.open(Path(sys.argv[1]), lock=True); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        assert child.stdout.readline() == "held\n"
        with pytest.raises(StoreBusy, match=f"in use by process {child.pid} on "):
            Store.open(path, lock=True)
        child.kill()
        child.wait()
    Store.open(path, lock=True).close()


def test_a_store_that_somebody_else_writes_to_is_not_committed_to(path: Path) -> None:
    with Store.open(path, lock=True) as store:
        first = commit(store)

        def meddle(name: str) -> None:
            if name == "log":
                with log_of(path).open("ab") as log:
                    log.write(b"{}\n")

        store._step = meddle
        with pytest.raises(StoreError, match="changed by somebody else"):
            commit(store, [], first)
