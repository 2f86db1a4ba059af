"""What is known of damaged objects: which they are, who needs them, and that their contents came again.

An object that was found damaged has no row in `objects`: so nobody can claim it, and whoever has the content sends it.
A row that is there again is how it is seen that the content came. Files are set aside by others (`store.aside`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection
from typing import Final

from pyrsyncbackup_collector.catalog import views
from pyrsyncbackup_collector.catalog.database import Database
from pyrsyncbackup_collector.clock import Clock

_LOST: Final = """
    SELECT DISTINCT lower(hex(versions.sha256)) FROM damaged_versions JOIN damaged USING (sha256)
    JOIN versions USING (module_id, path, from_seq)
    JOIN modules ON modules.id = module_id JOIN hosts ON hosts.id = host_id
    WHERE healed IS NULL AND until_seq IS NULL AND hosts.name = ? AND modules.name = ?
"""
# Contents that need the object: the one that it is, and those in chunks whose list or chunk it is. These keep their
# rows, and count as known again when nothing of them is missing.
_CONTENTS: Final = """
    SELECT :damaged UNION SELECT content FROM lists WHERE list = :damaged
    UNION SELECT lists.content FROM chunks JOIN lists ON lists.list = chunks.content WHERE chunks.chunk = :damaged
"""
_VERSIONS: Final = """
    INSERT OR IGNORE INTO damaged_versions (module_id, sha256, path, from_seq)
    SELECT module_id, :damaged, path, from_seq FROM versions WHERE sha256 = :content
"""
_OPEN: Final = """
    INSERT INTO damaged (sha256, since, kind, cause) VALUES (:sha256, :now, :kind, :cause)
    ON CONFLICT (sha256) DO UPDATE SET kind = :kind, cause = :cause, healed = NULL,
                                       since = iif(healed IS NULL, since, :now)
"""
_AWAITED: Final = "SELECT 1 FROM damaged WHERE sha256 = :sha256 AND healed IS NULL"
# A part of contents, unless a version names it as a content of its own.
_PUT_BACK: Final = """
    INSERT INTO objects (sha256, size, stored_size, public, last_used, part)
    VALUES (:sha256, :size, :stored_size, 0, :now,
            NOT EXISTS (SELECT 1 FROM versions WHERE sha256 = :sha256)
            AND (EXISTS (SELECT 1 FROM chunks WHERE chunk = :sha256)
                 OR EXISTS (SELECT 1 FROM objects WHERE chunks = :sha256)))
    ON CONFLICT (sha256) DO NOTHING
"""
_DAMAGE: Final = """
    SELECT lower(hex(damaged.sha256)), damaged.since, damaged.kind, damaged.cause, hosts.name, modules.name,
           snapshots.name
    FROM damaged JOIN damaged_versions USING (sha256) JOIN versions USING (module_id, path, from_seq)
    JOIN snapshots ON snapshots.module_id = versions.module_id AND sequence >= from_seq
                      AND sequence < ifnull(until_seq, 9223372036854775807)
    JOIN modules ON modules.id = versions.module_id JOIN hosts ON hosts.id = host_id
    WHERE healed IS NULL
    GROUP BY damaged.sha256, versions.module_id, sequence
    ORDER BY hosts.name, modules.name, damaged.since, damaged.sha256, sequence
"""


class DamageTables:
    """The part of the catalog that knows of damaged objects, and when each was read the last time."""

    _database: Database
    _clock: Clock

    def due_objects(self, before: float, limit: int) -> list[tuple[str, int]]:
        """Objects with a file that were not verified since then (seconds since 1970): digest, file's size in bytes.

        The oldest first. One that is new counts from when it was written, which was not without hashing it. One that
        was read in the future, by a clock that was wrong then, is due: nobody knows when that was.
        """
        with self._database.writing() as raw:
            raw.execute(
                "UPDATE objects SET verified = last_used WHERE sha256 IN "
                "(SELECT sha256 FROM objects WHERE verified = 0 LIMIT 5000)"
            )
            raw.execute(
                "UPDATE objects SET verified = 1 WHERE sha256 IN "
                "(SELECT sha256 FROM objects WHERE verified > ? LIMIT 5000)",
                (self._clock.now(),),
            )
            found = raw.execute(
                "SELECT lower(hex(sha256)), stored_size FROM objects WHERE verified < ? AND verified > 0 "
                "ORDER BY verified LIMIT ?",
                (before, limit),
            )
            return found.fetchall()

    def verified(self, digests: Collection[str]) -> None:
        """These were read and are sound, or need no look."""
        now = self._clock.now()
        with self._database.writing() as raw:
            raw.executemany(
                "UPDATE objects SET verified = ? WHERE sha256 = ?", [(now, bytes.fromhex(each)) for each in digests]
            )

    def damage_found(self, sha256: str, kind: str, cause: str, still: Callable[[], bool]) -> bool:
        """Forget the object, so that nobody can claim it, and record the damage; False if there is none.

        There is none if `still`, asked inside the transaction, says that the file is another one by now; or if it is
        missing and neither known nor needed: it was collected as garbage.
        """
        digest = bytes.fromhex(sha256)
        with self._database.writing() as raw:
            if not still():
                return False
            contents = [row[0] for row in raw.execute(_CONTENTS, {"damaged": digest})]
            known = raw.execute("SELECT 1 FROM objects WHERE sha256 = ?", (digest,)).fetchone()
            values = {"sha256": digest, "now": self._clock.now(), "kind": kind, "cause": cause}
            raw.execute(_OPEN, values)
            raw.execute("DELETE FROM objects WHERE sha256 = ?", (digest,))
            needed = 0
            for content in contents:
                needed += raw.execute(_VERSIONS, {"damaged": digest, "content": content}).rowcount
            if kind == "missing" and not known and not needed:
                raw.execute("DELETE FROM damaged WHERE sha256 = ? AND healed IS NULL", (digest,))
                return False
            return True

    def put_back(self, sha256: str, size: int, stored_size: int) -> bool:
        """Know a damaged object again that somebody put in its place, sound; False if none of that name is awaited.

        Sizes in bytes: of the content and of the file. Nobody may claim it who did not send it.
        """
        now = self._clock.now()
        values = {"sha256": bytes.fromhex(sha256), "size": size, "stored_size": stored_size, "now": now}
        with self._database.writing(durable=True) as raw:
            if not raw.execute(_AWAITED, values).fetchone():
                return False
            raw.execute(_PUT_BACK, values)
            heal(raw, now)
            return True

    def lost(self, host: str, module: str) -> set[str]:
        """Digests of contents of the module's present state that are damaged and did not come again."""
        with self._database.reading() as raw:
            return {digest for (digest,) in raw.execute(_LOST, (host, module))}

    def damage(self) -> list[views.DamageView]:
        """Damaged objects that snapshots need, one for each module that does."""
        found: dict[tuple[str, str, str], views.DamageView] = {}
        with self._database.reading() as raw:
            for sha256, since, kind, cause, host, module, name in raw.execute(_DAMAGE):
                key = (sha256, host, module)
                before = found[key].snapshots if key in found else ()
                snapshots = (*before, f"{host}/{module}@{name}")
                found[key] = views.DamageView(sha256, since, kind, cause, host, module, snapshots)
        return list(found.values())


def heal(raw: sqlite3.Connection, now: float) -> None:
    """Close the record of each damaged object that is known again. Inside a transaction."""
    raw.execute(
        "UPDATE damaged SET healed = ? WHERE healed IS NULL AND EXISTS "
        "(SELECT 1 FROM objects WHERE objects.sha256 = damaged.sha256)",
        (now,),
    )


def follow(raw: sqlite3.Connection, module_id: int, sequence: int) -> None:
    """Take note of new versions whose contents were found damaged while they were pulled. Inside a transaction."""
    if raw.execute("SELECT 1 FROM damaged WHERE healed IS NULL LIMIT 1").fetchone():
        raw.execute(
            "INSERT OR IGNORE INTO damaged_versions (module_id, sha256, path, from_seq) "
            "SELECT module_id, sha256, path, from_seq FROM versions WHERE module_id = ? AND from_seq = ? "
            "AND sha256 IN (SELECT sha256 FROM damaged WHERE healed IS NULL)",
            (module_id, sequence),
        )
