"""Gives a restored entry its owner, mode, xattrs, ACLs and time, as far as this process may.

What it may not is told, not hidden. Set-id bits and file capabilities are given only where asked for, and set-id bits
only together with the right owner: a program that was set-uid alice never becomes set-uid of somebody else.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from pyrsyncbackup_collector.entry import DIRECTORY, SYMLINK, Entry, attribute_name
from pyrsyncbackup_collector.store.restore_report import Reason

# (reason, what): bound to the entry's path by the caller.
Note = Callable[[Reason, str], None]

_SET_ID = 0o6000
_CAPABILITY = "security.capability"
ACLS = ("system.posix_acl_access", "system.posix_acl_default")
# Beyond these seconds some file systems clamp in silence, so the result is looked at.
_EVERYWHERE = range(0, 2**31)
# Times come in steps of two seconds at worst (FAT).
_GRAIN = 2_000_000_000
_REFUSED = (OSError, OverflowError, ValueError)
# chown(2) takes this number for: leave it as it is.
_NO_ID = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Rights:
    """What may be given: owners (as root), set-id bits and capabilities (`special`), and who we are."""

    owner: bool
    special: bool
    uid: int
    groups: frozenset[int]
    # Whatever the entry says, its owner may read and write it and nobody else may write, and it gets no xattrs and no
    # ACLs: for a mirror.
    plain: bool = False

    @classmethod
    def of_this_process(cls, *, owner: bool, special: bool, plain: bool = False) -> Rights:
        """The rights of the user that runs this."""
        return cls(owner, special, os.geteuid(), frozenset({os.getegid(), *os.getgroups()}), plain)

    def mode(self, entry: Entry, *, owned: bool) -> int:
        """The permission bits that the entry gets, where its owner is right or not."""
        mode = entry.mode & 0o7777
        if self.plain:
            # Where others may write nothing is restored, so a mirror that let them could never be updated.
            mode = mode & ~0o1022 | (0o700 if entry.type == DIRECTORY else 0o600)
        return mode if self.special and owned else mode & ~_SET_ID


def apply(handle: int | str, entry: Entry, rights: Rights, note: Note) -> None:
    """Give the open file or directory, or the path of `beneath.node`, what the entry says.

    The order matters: a new owner clears set-id bits and capabilities, user xattrs need write permission, an ACL
    includes the group's bits of the mode, and all of it is a change that the time comes after.
    """
    if rights.plain:
        if entry.type != SYMLINK:
            _set_mode(handle, entry, rights, lambda _reason, _what: None, owned=False)
        _set_time(handle, entry, note)
        return
    owned = _set_owner(handle, entry, rights, note)
    for name, value in entry.xattrs.items():
        if name not in ACLS:
            _set_xattr(handle, name, value, rights, note)
    if entry.type != SYMLINK:
        _set_mode(handle, entry, rights, note, owned=owned)
    for name in ACLS:
        if name in entry.xattrs:
            _set_xattr(handle, name, entry.xattrs[name], rights, note)
    _set_time(handle, entry, note)


def has_owner(entry: Entry) -> bool:
    """Whether owner and group are numbers that anybody can have, and not those of whoever restores it."""
    return _NO_ID not in (entry.uid, entry.gid)


def fits(status: os.stat_result, handle: int | str, entry: Entry, rights: Rights) -> bool:
    """Whether what has this status, open at `handle`, has all that `apply` would give it."""
    if not _same_time(status.st_mtime_ns, entry.mtime_s * 1_000_000_000 + entry.mtime_ns):
        return False
    owned = (status.st_uid, status.st_gid) == (entry.uid, entry.gid)
    if rights.owner and not owned:
        return False
    if entry.type != SYMLINK and stat.S_IMODE(status.st_mode) != rights.mode(entry, owned=owned):
        return False
    if rights.plain:
        return True
    kinds = ("user.", "trusted.", "security.") if rights.owner else ("user.",)
    given = {name: value for name, value in entry.xattrs.items() if name.startswith(kinds) or name in ACLS}
    if not rights.special:
        given.pop(_CAPABILITY, None)
    return all(_has_xattr(handle, name, value) for name, value in given.items())


def _same_time(there: int, wanted: int) -> bool:
    """Equal, or equal to a file system that knows no fractions of a second."""
    return there == wanted or (there % 1_000_000_000 == 0 and abs(there - wanted) < _GRAIN)


def _has_xattr(handle: int | str, name: str, value: bytes) -> bool:
    try:
        return os.getxattr(handle, attribute_name(name)) == value
    except OSError as error:
        # Where the file system knows none of this kind, restoring again would bring none either.
        return error.errno in (errno.EOPNOTSUPP, errno.EPERM)


def _set_owner(handle: int | str, entry: Entry, rights: Rights, note: Note) -> bool:
    """Whether owner and group are the entry's."""
    if rights.owner:
        if not has_owner(entry):
            note(Reason.ATTRIBUTE, f"owner: {_why(ValueError())}")
            return False
        try:
            os.chown(handle, entry.uid, entry.gid)
        except _REFUSED as error:
            note(Reason.ATTRIBUTE, f"owner: {_why(error)}")
            return False
        return True
    mine = entry.uid == rights.uid and entry.gid in rights.groups
    if entry.gid in rights.groups:
        try:
            os.chown(handle, -1, entry.gid)
        except OSError as error:
            note(Reason.ATTRIBUTE, f"group: {_why(error)}")
            return False
    if not mine:
        note(Reason.OWNER, "")
    return mine


def _set_mode(handle: int | str, entry: Entry, rights: Rights, note: Note, *, owned: bool) -> None:
    mode = rights.mode(entry, owned=owned)
    if entry.mode & _SET_ID and not mode & _SET_ID:
        if rights.special:
            note(Reason.ATTRIBUTE, "set-id bits: not without the right owner")
        else:
            note(Reason.SPECIAL, "set-id bits")
    try:
        os.chmod(handle, mode)  # noqa: PTH101 (may be a descriptor)
    except OSError as error:
        note(Reason.ATTRIBUTE, f"mode: {_why(error)}")


def _set_xattr(handle: int | str, name: str, value: bytes, rights: Rights, note: Note) -> None:
    if name == _CAPABILITY and not rights.special:
        note(Reason.SPECIAL, "file capabilities")
        return
    try:
        os.setxattr(handle, attribute_name(name), value)
    except _REFUSED as error:
        kind = name if name in (*ACLS, _CAPABILITY) else name.partition(".")[0][:20] + ".*"
        note(Reason.ATTRIBUTE, f"xattr {kind}: {_why(error)}")


def _set_time(handle: int | str, entry: Entry, note: Note) -> None:
    mtime = entry.mtime_s * 1_000_000_000 + entry.mtime_ns
    try:
        os.utime(handle, ns=(mtime, mtime))
        if entry.mtime_s not in _EVERYWHERE and abs(_mtime(handle) - mtime) > _GRAIN:
            note(Reason.ATTRIBUTE, "time: out of this file system's range")
    except _REFUSED as error:
        note(Reason.ATTRIBUTE, f"time: {_why(error)}")


def _mtime(handle: int | str) -> int:
    return os.stat(handle).st_mtime_ns  # noqa: PTH116 (may be a descriptor)


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "impossible value"
