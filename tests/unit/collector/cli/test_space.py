"""`space` and `gc` as commands: what they say of a real store."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyrsyncbackup_collector import cli

from tests.support.estate import Content, Estate


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = Estate(tmp_path)
    made.pull("web1", "etc", {b"etc/a": Content(b"a" * 100), b"etc/b": Content(b"b" * 200)})
    made.pull("web1", "etc", {b"etc/a": Content(b"c" * 300)})
    made.pull("web2", "etc", {b"etc/b": Content(b"b" * 200)})
    made.prune("web1", "etc", 1)
    made.collect()
    with made.catalog._database.writing() as raw:
        raw.execute("UPDATE objects SET unnamed_since = 0, last_used = 0 WHERE unnamed_since IS NOT NULL")
    made.close()
    file = tmp_path / "collector.toml"
    file.write_text('store = "store"\ncatalog = "catalog.sqlite"\n[[host]]\nname = "web9"\n')
    return file


@pytest.fixture
def said(file: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    def say(*words: str) -> tuple[int, str, str]:
        code = cli.run([*words, "--config", str(file)])
        out, err = capsys.readouterr()
        return code, out, err

    return say  # type: ignore[return-value]


def test_space_shows_hosts_modules_and_snapshots(said) -> None:
    code, out, _ = said("space")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split() == ["HOST", "MODULES", "SNAPSHOTS", "SIZE", "STORED", "UNIQUE", "SHARED"]
    assert lines[1].split()[:5] == ["web1", "1", "1", "500", "B"]
    assert "in the store" in out
    assert "wait for `gc`" in out
    assert "pulls leave" in out
    code, out, _ = said("space", "web1")
    assert [line.split()[0] for line in out.splitlines()] == ["web1", "MODULE", "etc", "all"]
    code, out, _ = said("space", "web1/etc")
    assert out.splitlines()[2].startswith("000002-")


def test_space_as_json_adds_up(said) -> None:
    document = json.loads(said("space", "--json")[1])
    assert [each["host"] for each in document["hosts"]] == ["web1", "web2"]
    assert document["modules"][0]["stored"] == document["hosts"][0]["stored"]
    own = sum(each["unique"] for each in document["hosts"])
    assert document["stored"] == own + document["hosts"][1]["shared"] + document["unnamed"]
    assert document["min_free"] == document["total"] // 100
    document = json.loads(said("space", "web1/etc", "--json")[1])
    assert document["snapshots"][0]["stored"] == document["snapshots"][0]["unique"] + document["snapshots"][0]["shared"]


@pytest.mark.parametrize("which", ["web7", "web1/none", "web9"])
def test_space_of_what_is_not_there_is_said(said, which: str) -> None:
    code, out, err = said("space", which)
    assert (code, out) == (4, "")
    assert "next: " in err


def test_gc_says_what_would_go_then_removes_it(said) -> None:
    code, out, _ = said("gc", "--dry-run")
    assert code == 0
    assert re.search("named by nothing since (1970-01-01|1969-12-31)", out), "west of Greenwich it was the day before"
    assert "would remove 1 object and free" in out
    document = json.loads(said("gc", "--dry-run", "--json")[1])
    assert (document["objects"], document["waiting_objects"], len(document["groups"])) == (1, 0, 1)
    code, out, err = said("gc")
    assert code == 0, err
    assert "1 object removed" in out
    assert said("gc", "--dry-run")[1].startswith("nothing to remove")
    assert said("gc")[1] == "nothing to remove\n"


@pytest.mark.parametrize("grace", ["10m", "0s", "soon"])
def test_gc_refuses_a_grace_that_is_too_short(said, grace: str) -> None:
    code, _, err = said("gc", "--grace", grace)
    assert code == 2
    assert "--grace" in err


def test_gc_refuses_while_the_catalog_lacks_a_snapshot(said, file: Path) -> None:
    with sqlite3.connect(file.parent / "catalog.sqlite") as raw:
        raw.execute("DELETE FROM versions WHERE module_id = 2")
        raw.execute("DELETE FROM snapshots WHERE module_id = 2")
    raw.close()
    code, _, err = said("gc", "--dry-run")
    assert code == 11
    assert "the catalog lacks snapshot 000001-" in err
    assert "catalog rebuild" in err
