"""The file of one object: opened so that nothing that was laid there by hand holds anybody up, and read as a whole.

What is in it, and whether that is right, is decided by `objects`.
"""

from __future__ import annotations

import os
import stat

from pyrsyncbackup_collector.errors import StoreDamaged
from pyrsyncbackup_collector.store.faults import translate


def opened(place: str, sha256: str) -> tuple[int, int]:
    """The object's file, and its size; without waiting for what a pipe, laid there by hand, would wait for."""
    try:
        file = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        raise missing(sha256) from None
    except OSError as fault:
        raise translate(fault, place) from fault
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        os.close(file)
        raise damaged(sha256, "it is no regular file")
    return file, found.st_size


def read_all(place: str, sha256: str) -> bytes:
    """The object's file as a whole, in as few system calls as can be: a restore makes them for each small file."""
    file, size = opened(place, sha256)
    try:
        data = os.read(file, size)
        while len(data) < size and (more := os.read(file, size - len(data))):
            data += more
    except OSError as fault:
        raise translate(fault, place) from fault
    finally:
        os.close(file)
    return data


def missing(sha256: str) -> StoreDamaged:
    """What is raised for an object that is not there."""
    return StoreDamaged(f"object {sha256} is missing", "`pyrsyncbackup pull` brings it again if the host still has it")


def damaged(sha256: str, why: str) -> StoreDamaged:
    """What is raised for an object that is not what it was."""
    return StoreDamaged(f"object {sha256} is damaged: {why}", "restore it from a second copy of the store")
