"""Catalogs of every schema before, with data in them, are brought up to date and answer as one of today's does."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from pyrsyncbackup_collector.catalog import Catalog, migrations

from tests.support.estate import Content, Estate
from tests.support.still_clock import StillClock
from tests.support.versions import Version, versions

DAY = 86400.0
PATHS = (b"etc/a", b"etc/b", b"etc/c", b"etc/d")
# What each snapshot changes; the same content comes back, one file goes, one has a new content each time.
CHANGES = (
    {b"etc/a": b"1", b"etc/b": b"same", b"etc/c": b"c"},
    {b"etc/a": b"2", b"etc/c": None},
    {b"etc/a": b"1", b"etc/d": b"d"},
    {b"etc/a": b"3", b"etc/c": b"c"},
)


def downgrade(new: Path, old: Path, schema: int) -> None:
    """Write a catalog of an old schema that holds what that schema has of the new one's rows."""
    with closing(sqlite3.connect(old, isolation_level=None)) as raw:
        for number in sorted(migrations.STEPS):
            if number <= schema:
                migrations.STEPS[number](raw)
        raw.execute("ATTACH ? AS new", (str(new),))
        tables = [row[0] for row in raw.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
        for table in tables:
            if table.startswith("sqlite_"):
                continue
            names = ", ".join(row[1] for row in raw.execute(f"PRAGMA main.table_info({table})"))
            raw.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}")  # noqa: S608
        raw.execute("UPDATE main.meta SET value = ? WHERE key = 'schema_version'", (str(schema),))


def rows(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as raw:
        return int(raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608


def answers(catalog: Catalog) -> list[object]:
    return [
        catalog.snapshots("web1", "etc"),
        [replace(one, mark=0, rest=0) for one in versions(catalog)],
        catalog.modules(),
        catalog.runs(host="web1"),
        catalog.requests(),
        catalog.memory("web1", "etc"),
        catalog.space(),
        catalog.damage(),
        catalog.chores(),
        [(one.host, one.frozen, one.judged) for one in catalog.retained()],
    ]


def at(found: list[Version], sequence: int) -> str:
    """The digest that a path has in a snapshot; nothing where it is not there."""
    digests = [one.sha256 for one in found if one.begin <= sequence and (one.end is None or sequence < one.end)]
    assert len(digests) <= 1
    return digests[0] if digests else ""


@pytest.fixture
def estate(tmp_path: Path):
    made = Estate(tmp_path, StillClock())
    for host in ("web1", "web2"):
        for changes in CHANGES:
            made.pull(host, "etc", {path: Content(data) if data else None for path, data in changes.items()})
    made.catalog.request("web1", "etc")
    made.catalog.run_end(made.catalog.run_begin("web2", "etc"), "failed", problems=[(b"etc/a", "cannot be read")])
    yield made
    made.close()


@pytest.mark.parametrize("schema", sorted(migrations.STEPS)[:-1])
def test_an_old_catalog_answers_and_prunes_like_one_of_today(estate: Estate, tmp_path: Path, schema: int) -> None:
    expected = answers(estate.catalog)
    estate.catalog.close()
    old = tmp_path / "old.sqlite"
    downgrade(estate.catalog_path, old, schema)
    counted = {name: rows(old, name) for name in ("versions", "objects", "sent", "run_paths")}
    assert all(counted.values())

    estate.catalog = Catalog.open(old, estate.store.id, clock=estate.clock, verify=True)
    assert answers(estate.catalog) == expected
    assert {name: rows(old, name) for name in counted} == counted

    # What was there before is never taken for something else, however few of its snapshots stay.
    estate.prune("web1", "etc", 2, 3)
    estate.clock.time += 2 * DAY
    estate.collect()
    estate.clock.time += 2 * DAY
    estate.collect()
    for host, sequences in (("web1", (1, 4)), ("web2", (1, 2, 3, 4))):
        kept = estate.store.snapshots(host, "etc")
        assert tuple(one.sequence for one in kept) == sequences
        for snapshot in kept:
            entries = {entry.path: entry for entry in estate.store.entries(snapshot) if entry.sha256}
            for path in PATHS:
                in_manifest = entries[path].sha256 if path in entries else ""
                assert at(versions(estate.catalog, host, "etc", path), snapshot.sequence) == in_manifest
            for entry in entries.values():
                assert estate.store.objects.read_entry(entry) is not None
