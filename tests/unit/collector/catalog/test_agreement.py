"""What the catalog says of history, changes and hosts is what reading every kept manifest says."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyrsyncbackup_collector.catalog.rebuild import rebuild
from pyrsyncbackup_collector.entry import Entry, order, text_or_bytes
from pyrsyncbackup_collector.pull.ledger import ModuleMemory
from pyrsyncbackup_collector.store.difference import compare, differences
from pyrsyncbackup_collector.store.snapshot import Change, Facts, Snapshot

from tests.support.estate import Estate
from tests.support.memory import MEMORY
from tests.support.snapshots import digest

PATHS = (b"a", b"a-b", b"b\xff", b"c\n")
HOSTS = ("web1", "web2", "web3")
MODULE = "m"

States = dict[bytes, Entry]
Kept = list[tuple[Snapshot, States]]


def states() -> st.SearchStrategy[dict[str, Any] | None]:
    """What a path is like: nothing, a file, a directory or a link, with few values so that many are equal."""
    common = {"mode": st.sampled_from([0o600, 0o644]), "mtime_s": st.sampled_from([1, 2])}
    common |= {
        "user": st.sampled_from(["root", "www"]),
        "group": st.just("root"),
        "allocated": st.sampled_from([0, 4096]),
    }
    contents = st.sampled_from(["", "x", "yy"])
    file = st.fixed_dictionaries(
        {**common, "type": st.just("file"), "content": contents, "error": st.sampled_from(["", "denied"])},
        optional={"xattrs": st.just({"user.a": b"1"}), "stale": st.just(True), "claimed": st.just(True)},
    )
    directory = st.fixed_dictionaries({**common, "type": st.just("dir"), "size": st.sampled_from([0, 9])})
    link = st.fixed_dictionaries(
        {**common, "type": st.just("link"), "size": st.just(1), "target_text": st.sampled_from(["p", "q"])}
    )
    return st.one_of(st.none(), file, file, directory, link)


# For each pull: the host, and the paths that are looked at anew.
PULLS = st.lists(
    st.tuples(st.sampled_from(HOSTS), st.dictionaries(st.sampled_from(PATHS), states(), min_size=1)),
    min_size=2,
    max_size=9,
)


def entry(path: bytes, state: dict[str, Any]) -> Entry:
    values = dict(state)
    content = values.pop("content", "")
    if content:
        values |= {"sha256": digest(content), "size": len(content)}
    text, raw = text_or_bytes(path)
    return Entry(path_text=text, path_b64=raw, **values)


@contextmanager
def estate_of(pulls: list[tuple[str, dict[bytes, dict[str, Any] | None]]]) -> Iterator[Estate]:
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, closing(Estate(Path(folder))) as estate:
        for number, (host, found) in enumerate(pulls):
            previous = estate.store.newest(host, MODULE)
            present = {one.path for one in estate.store.entries(previous)} if previous else set()
            changes = [
                Change(path, entry(path, state) if state else None)
                for path, state in sorted(found.items(), key=lambda item: order(item[0]))
                if state or path in present
            ]
            snapshot = estate.store.commit(
                host,
                MODULE,
                time=1_790_000_000.0 + number,
                state="complete",
                changes=changes,
                previous=previous,
                facts=Facts(),
            )
            before = previous.sequence if previous else 0
            estate.catalog.commit("r", snapshot, changes, ModuleMemory(snapshot.sequence, b"", b""), previous=before)
        yield estate


def prune(estate: Estate, chosen: set[int]) -> None:
    """Remove the snapshots with these numbers, counted over all hosts, as retention does; never a newest or a base."""
    snapshots = estate.catalog.snapshots()
    newest = {one.host: one.sequence for one in snapshots}
    bases = {(one.host, one.base) for one in snapshots if one.base}
    for number, one in enumerate(snapshots):
        if number not in chosen or newest[one.host] == one.sequence or (one.host, one.name) in bases:
            continue
        (manifest,) = (estate.store.path / "manifests" / one.host / MODULE).glob(f"{one.name}.*")
        manifest.unlink()
        with estate.catalog._database.writing() as raw:
            raw.execute(
                "DELETE FROM snapshots WHERE sequence = ? AND module_id = "
                "(SELECT modules.id FROM modules JOIN hosts ON hosts.id = host_id WHERE hosts.name = ?)",
                (one.sequence, one.host),
            )
            raw.execute(
                "DELETE FROM versions WHERE NOT EXISTS (SELECT 1 FROM snapshots WHERE "
                "snapshots.module_id = versions.module_id AND sequence >= from_seq "
                "AND (until_seq IS NULL OR sequence < until_seq))"
            )


def manifests(estate: Estate) -> dict[str, Kept]:
    read: dict[str, Kept] = defaultdict(list)
    for host, module in estate.store.modules():
        for snapshot in estate.store.snapshots(host, module):
            read[host].append((snapshot, {one.path: one for one in estate.store.entries(snapshot)}))
    return read


def history_read(kept: Kept, path: bytes) -> list[tuple[int, int, int | None]]:
    """(first, last, first without) of each version, by sequence numbers."""
    found: list[tuple[int, int, int | None]] = []
    before: Entry | None = None
    for snapshot, entries in kept:
        now = entries.get(path)
        if before is not None and (now is None or compare(before, now)):
            found[-1] = (*found[-1][:2], snapshot.sequence)
        if now is not None:
            if before is None or compare(before, now):
                found.append((snapshot.sequence, snapshot.sequence, None))
            else:
                found[-1] = (found[-1][0], snapshot.sequence, None)
        before = now
    return found


def changes_read(before: States, after: States) -> set[tuple[bytes, str]]:
    ordered = [sorted(each.values(), key=lambda one: order(one.path)) for each in (before, after)]
    return {(one.path, one.kind) for one in differences(*ordered)}


def answers(estate: Estate) -> dict[str, Any]:
    """Everything that is asked of the catalog, by value."""
    catalog = estate.catalog
    told: dict[str, Any] = {"find": catalog.find("*"), "now": catalog.find("*", now=True)}
    told["changes"] = catalog.changes_since(0)
    told["unequal"] = catalog.compare_module(MODULE), catalog.compare_module(MODULE, strict=True)
    told["contents"] = list(catalog.whereabouts(every=True)), list(catalog.whereabouts())
    for path in PATHS:
        told[f"compare {path!r}"] = catalog.compare_path(MODULE, path)
        told[f"holders {path!r}"] = catalog.holders(MODULE, path)
        for host in HOSTS:
            told[f"history {host} {path!r}"] = catalog.path_history(host, MODULE, path)
    return told


def agree(estate: Estate) -> None:
    catalog, read = estate.catalog, manifests(estate)
    for host, kept in read.items():
        for path in PATHS:
            told = catalog.path_history(host, MODULE, path)
            spans = [(one.first.sequence, one.last.sequence, one.end.sequence if one.end else None) for one in told]
            assert spans == history_read(kept, path)
        for older, before in kept:
            for newer, after in kept:
                found = catalog.changes_between(host, MODULE, older.sequence, newer.sequence)
                assert {(one.path, one.kind) for one in found} == changes_read(before, after)
    told_changes = {
        (one.host, one.snapshot.sequence): {(change.path, change.kind) for change in one.changes}
        for one in catalog.changes_since(0).snapshots
        if not one.first
    }
    expected = {
        (host, newer.sequence): changes
        for host, kept in read.items()
        for (_, before), (newer, after) in pairwise(kept)
        if (changes := changes_read(before, after))
    }
    assert told_changes == expected
    newest = {host: kept[-1][1] for host, kept in read.items()}
    unequal = {one.path: one for one in catalog.compare_module(MODULE).paths}
    for path in PATHS:
        groups: dict[object, set[str]] = defaultdict(set)
        for host, entries in newest.items():
            one = entries.get(path)
            groups[(one.type, one.sha256, one.target) if one else None].add(host)
        alike = {frozenset(group) for group in groups.values()}
        found_groups = catalog.compare_path(MODULE, path).groups
        assert {frozenset(member.host for member in group.members) for group in found_groups} == alike
        if len(alike) == 1:
            assert path not in unequal
        else:
            assert {frozenset(variant.hosts) for variant in unequal[path].variants} == alike
    found_paths = {
        one.path: {(each.host, each.end is None) for each in one.sightings} for one in catalog.find("*").paths
    }
    seen: dict[bytes, set[tuple[str, bool]]] = defaultdict(set)
    for host, kept in read.items():
        for path in {path for _, entries in kept for path in entries}:
            seen[path].add((host, path in kept[-1][1]))
    assert found_paths == seen


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(PULLS, st.sets(st.integers(0, 8)))
def test_the_catalog_says_what_the_manifests_say_also_after_a_prune_and_a_rebuild(
    pulls: list[tuple[str, dict[bytes, dict[str, Any] | None]]], pruned: set[int]
) -> None:
    with estate_of(pulls) as estate:
        agree(estate)
        prune(estate, pruned)
        agree(estate)
        before = answers(estate)
        estate.catalog.close()
        estate.catalog = rebuild(estate.catalog_path, estate.store).catalog
        agree(estate)
        assert answers(estate) == before
