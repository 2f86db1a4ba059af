"""The catalog's rows of paths as they lie there; what commands ask it tells of kept snapshots alone."""

from __future__ import annotations

from dataclasses import dataclass

from pyrsyncbackup_collector.catalog import Catalog

_ROWS = """
    SELECT hosts.name, modules.name, path, from_seq, until_seq, ifnull(lower(hex(sha256)), ''), mark, rest,
    type, mode, size, mtime_s, mtime_ns, flags
    FROM versions JOIN modules ON modules.id = module_id JOIN hosts ON hosts.id = host_id
    ORDER BY hosts.name, modules.name, path, from_seq
"""


@dataclass(frozen=True)
class Version:
    """A path as it was from snapshot number `begin` up to, not including, `end`; None: it is so in the newest one.

    `mark` and `rest` are for quick comparison; rows of an old schema have none.
    """

    host: str
    module: str
    path: bytes
    begin: int
    end: int | None
    sha256: str
    mark: int
    rest: int
    more: tuple[object, ...]


def versions(catalog: Catalog, host: str = "", module: str = "", path: bytes | None = None) -> list[Version]:
    """All of them, or those of a host, a module, a path; by host, module and path, oldest first."""
    with catalog._database.reading() as raw:
        found = [Version(*row[:8], row[8:]) for row in raw.execute(_ROWS)]
    return [one for one in found if host in ("", one.host) and module in ("", one.module) and path in (None, one.path)]
