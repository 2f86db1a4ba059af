"""Reading a module: its entries, its fingerprint, the digests of its files, by directory descriptors alone."""

from pyrsyncbackup_agent.entries.attributes import Attributes
from pyrsyncbackup_agent.entries.digest import FileDigest, hash_files
from pyrsyncbackup_agent.entries.entry import Entry, Fingerprint, Kind, Problem
from pyrsyncbackup_agent.entries.lookup import Lookup
from pyrsyncbackup_agent.entries.tree import Tree
from pyrsyncbackup_agent.entries.walk import Walk, fingerprint, walk

__all__ = [
    "Attributes",
    "Entry",
    "FileDigest",
    "Fingerprint",
    "Kind",
    "Lookup",
    "Problem",
    "Tree",
    "Walk",
    "fingerprint",
    "hash_files",
    "walk",
]
