"""Each command that writes, killed at several of its steps: the next goes on, and nothing that is listed is missing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.errors import NotFound, StoreDamaged
from pyrsyncbackup_collector.store.store import Store

from tests.support.estate import Content
from tests.support.vault import Vault, flip

# Steps between the first and the last one at which a command is killed, too.
BETWEEN = 1
WEEK = 7 * 86400
CHILD = """
import os, signal, sys
from pathlib import Path
from pyrsyncbackup_collector import cli

END, COUNT, WORDS = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
CHANGES = {"os.link", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.chmod", "os.utime"}
steps = 0

def watch(event, arguments):
    global steps
    if event in CHANGES or (event == "open" and (arguments[2] or 0) & os.O_ACCMODE):
        steps += 1
        if steps == END:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
code = cli.run(WORDS)
COUNT.write_text(str(steps))
sys.exit(code)
"""


@dataclass(frozen=True)
class Case:
    """A command, the exit code of one that nobody kills, and what makes it have something to do."""

    words: tuple[str, ...]
    code: int = 0
    prepare: Callable[[Path], None] = lambda _: None


def run(place: Path, words: tuple[str, ...], kill_at: int = 0) -> int:
    """The command in a process of its own; its exit code, negative if it was killed."""
    argv = [sys.executable, "-c", CHILD, str(kill_at), str(place / "steps"), *words]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    config = ["--config", str(place / "collector.toml")]
    done = subprocess.run([*argv, *config], cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode


def ran(place: Path, *words: str) -> None:
    assert run(place, words) == 0


def make_old(place: Path) -> None:
    """What was pruned is garbage that had its day."""
    ran(place, "prune")
    ran(place, "gc")
    with Catalog.open(place / "catalog.sqlite", store_id(place)) as catalog, catalog._database.writing() as raw:
        raw.execute("UPDATE objects SET unnamed_since = unnamed_since - ?, last_used = last_used - ?", (WEEK, WEEK))


def damage(place: Path) -> None:
    with Store.open(place / "store") as store:
        newest = store.newest("web2", "etc")
        assert newest is not None
        entry = next(entry for entry in store.entries(newest) if entry.sha256)
        flip(store.objects.place(entry.sha256))


def store_id(place: Path) -> str:
    with Store.open(place / "store") as store:
        return store.id


CASES = {
    "prune": Case(("prune",)),
    "forget": Case(("forget", "web1", "--yes")),
    "pin": Case(("pin", "web1/etc@1", "--why", "a test")),
    "gc": Case(("gc",), prepare=make_old),
    "verify": Case(("verify",), 15, damage),
    "restore": Case(("restore", "web1/etc", "--to", "restored", "--overwrite", "always")),
    "tar": Case(("restore", "web1/etc", "--tar", "restored.tar", "--overwrite", "always")),
    "replicate": Case(("replicate", "disk2"), prepare=lambda place: ran(place, "copies", "init", "disk2")),
    "drill": Case(("drill", "web1/etc")),
    "rebuild": Case(("catalog", "rebuild")),
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    vault = Vault(tmp_path / "base")
    with closing(vault):
        vault.fill()
        vault.pull("web1", "etc", {b"etc/more/%d" % number: Content(b"%d" % number) for number in range(20)})
    return tmp_path / "base"


def configured(place: Path) -> Path:
    text = 'store = "store"\ncatalog = "catalog.sqlite"\nruntime = "run"\nsandbox = "off"\n'
    text += f'[policy]\nkeep = {{ last = 1 }}\n[[copy]]\nname = "disk2"\nto = "{place}/copy"\n'
    (place / "collector.toml").write_text(text)
    return place


def what_is_missing(store_path: Path) -> tuple[int, list[str]]:
    """How many contents all listed snapshots have, and the digests of those that are not sound."""
    count, missing = 0, []
    with Store.open(store_path) as store:
        for host, module in store.modules():
            for snapshot in store.snapshots(host, module):
                for entry in store.entries(snapshot, verify=True):
                    try:
                        count += bool(entry.sha256) and store.objects.read_entry(entry) is not None
                    except (NotFound, StoreDamaged):
                        missing.append(entry.sha256)
    return count, missing


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CASES)
def test_killed_anywhere_the_next_one_goes_on_and_nothing_listed_is_missing(base: Path, name: str) -> None:
    case = CASES[name]
    case.prepare(configured(base))
    whole = base.with_name("whole")
    shutil.copytree(base, whole, symlinks=True)
    assert run(configured(whole), case.words) == case.code
    expected = what_is_missing(whole / "store")
    steps = int((whole / "steps").read_text())
    assert steps
    killed = 0
    for number in range(BETWEEN + 2):
        place = base.with_name(f"killed-{number}")
        shutil.copytree(base, place, symlinks=True)
        configured(place)
        ended = run(place, case.words, kill_at=1 + (steps - 1) * number // (BETWEEN + 1))
        killed += ended == -signal.SIGKILL
        assert ended in (-signal.SIGKILL, case.code)
        assert what_is_missing(place / "store")[1] in ([], expected[1])
        if name == "replicate":
            assert run(place, ("verify", "--from", "disk2")) == 0
        # Of what is forgotten nothing may be left for the next one.
        assert run(place, case.words) in ({case.code, 4} if name == "forget" else {case.code})
        assert what_is_missing(place / "store") == expected
        with Store.open(place / "store") as store, Catalog.open(place / "catalog.sqlite", store.id) as catalog:
            assert name != "forget" or {one.host for one in catalog.retained()} == {"web2"}
            difference = catalog.difference(store)
            assert (difference.lacking, difference.pruned) == ([], {})
    assert killed
