"""Values of the agent as messages of the protocol. With `service` and `relay` the only user of the stubs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from pyrsyncbackup.v1 import agent_pb2 as pb

from pyrsyncbackup_agent.names import Names

if TYPE_CHECKING:
    from pyrsyncbackup_agent.entries import Entry, FileDigest, Fingerprint
    from pyrsyncbackup_agent.modules import DetectedModule

# Messages are cut at this size: none comes near gRPC's limit of 4 MB, and the collector has something to compare while
# the walk goes on (with 512 kB, 2,000 files are one message and nothing overlaps).
MESSAGE_BYTES: Final = 64 * 1024
# What an entry takes besides its path, target and attributes.
_ENTRY_BYTES: Final = 100
_DIGEST_BYTES: Final = 60
# Bytes read after which digests are sent at the latest: about a tenth of a second.
_PROGRESS_BYTES: Final = 64 * 1024 * 1024

_TYPES: Final[dict[int, int]] = {
    stat.S_IFREG: pb.ENTRY_TYPE_FILE,
    stat.S_IFDIR: pb.ENTRY_TYPE_DIRECTORY,
    stat.S_IFLNK: pb.ENTRY_TYPE_SYMLINK,
    stat.S_IFIFO: pb.ENTRY_TYPE_FIFO,
    stat.S_IFSOCK: pb.ENTRY_TYPE_SOCKET,
    stat.S_IFCHR: pb.ENTRY_TYPE_CHARACTER_DEVICE,
    stat.S_IFBLK: pb.ENTRY_TYPE_BLOCK_DEVICE,
}
_STATES: Final = {
    "ready": pb.MODULE_STATE_READY,
    "absent": pb.MODULE_STATE_ABSENT,
    "invalid": pb.MODULE_STATE_INVALID,
}
_SECOND: Final = 1_000_000_000
_FILE: Final = stat.S_IFREG
_DEVICES: Final = (stat.S_IFCHR, stat.S_IFBLK)


def module(value: DetectedModule, fingerprint: Fingerprint | None = None) -> pb.Module:
    """Return a module as detected, with its fingerprint if there is one."""
    message = pb.Module(
        name=value.name,
        title=value.title,
        state=_STATES[value.state.value],
        reason=value.reason,
        excludes=value.excludes,
        includes=value.includes,
        has_hooks=bool(value.hooks),
        hints=pb.Hints(check=value.hints.check, pull=value.hints.pull, keep=value.hints.keep),
    )
    if value.validator.command:
        validator = value.validator
        message.validator.CopyFrom(
            pb.Validator(command=validator.command, beside=validator.beside, directories=validator.directories)
        )
    for root in value.roots:
        message.roots.add(id=root.id, path=root.path, names=sorted(root.names), aliases=root.aliases)
    if fingerprint is not None:
        message.fingerprint.CopyFrom(fingerprint_message(fingerprint))
    return message


def fingerprint_message(value: Fingerprint) -> pb.Fingerprint:
    """Return a fingerprint."""
    return pb.Fingerprint(digest=value.digest, settled=value.settled, entries=value.entries)


def listings(found: Iterable[Entry]) -> Iterator[pb.ListEntriesResponse]:
    """Cut entries into messages."""
    names = Names()
    message = pb.ListEntriesResponse()
    add = message.entries.add
    size = 0
    for entry in found:
        size += _fill(add(), entry, names)
        if size >= MESSAGE_BYTES:
            yield message
            message = pb.ListEntriesResponse()
            add = message.entries.add
            size = 0
    if size:
        yield message


def _fill(message: Any, entry: Entry, names: Names) -> int:
    """Fill an empty Entry message, and return about how large it is."""
    # Assignment is faster than the constructor's keywords; defaults are left out, since each costs.
    path, status, root, public, token, young, target, link_to, xattrs, problem = entry
    message.path = path
    message.root = root
    size = len(path) + _ENTRY_BYTES
    if status is not None:
        mode = status.st_mode
        kind = mode & 0o170000
        message.type = _TYPES.get(kind, 0)
        message.mode = mode & 0o7777
        if uid := status.st_uid:
            message.uid = uid
        if gid := status.st_gid:
            message.gid = gid
        message.user = names.users.get(uid) or names.user(uid)
        message.group = names.groups.get(gid) or names.group(gid)
        if root or kind == _FILE:
            message.mtime_s, message.mtime_ns = divmod(status.st_mtime_ns, _SECOND)
        if kind == _FILE:
            message.size = status.st_size
            message.allocated = status.st_blocks * 512
        elif kind in _DEVICES:
            message.device_major = os.major(status.st_rdev)
            message.device_minor = os.minor(status.st_rdev)
        if public:
            message.public = True
        message.token = token
        if young:
            message.young = True
    if target:
        message.target = target
        size += len(target)
    if link_to:
        message.link_to = link_to
        size += len(link_to)
    for name, value in xattrs:
        message.xattrs.add(name=name, value=value)
        size += len(name) + len(value) + 10
    if problem is not None:
        message.error.kind = problem.kind
        message.error.message = problem.message
        size += len(problem.message)
    return size


def hashes(digests: Iterable[FileDigest]) -> Iterator[pb.HashFilesResponse]:
    """Cut digests into messages; one is also sent when much was read for it, so that a reader sees progress."""
    message = pb.HashFilesResponse()
    size = read = 0
    for digest in digests:
        hashed = message.hashes.add(path=digest.path, sha256=digest.sha256, size=digest.size, token=digest.token)
        if digest.problem is not None:
            hashed.error.kind = int(digest.problem.kind)  # type: ignore[assignment] # our names for the same numbers
            hashed.error.message = digest.problem.message
        size += len(digest.path) + _DIGEST_BYTES
        read += digest.size
        if size >= MESSAGE_BYTES or read >= _PROGRESS_BYTES:
            yield message
            message = pb.HashFilesResponse()
            size = read = 0
    if size:
        yield message
