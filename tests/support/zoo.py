"""A tree with everything that a backup gets wrong: strange names, links, special files, attributes, times, depth.

`build` makes what every user may make, and more as root. The same tree goes through restore alone and through the
whole way from an agent.
"""

# ruff: noqa: S103 (odd modes are the point)
from __future__ import annotations

import os
import stat
import struct
from pathlib import Path

STRANGE_NAMES = (
    b"new\nline",
    b" spaces at both ends ",
    b"quote'and\"double",
    b"back\\slash",
    b"-rf",
    b"--delete",
    b"invalid \xff\xfe utf-8",
    b"wild*card?[x]",
    b"escape \x1b[31m sequence",
    "umlaut äöü".encode(),
    b"x" * 255,
    b"#comment",
    b"~",
)

# The parts of a binary ACL: version 2, then tag, permissions, id.
_ACL_UNDEFINED = 0xFFFFFFFF
_ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *each)
    for each in (
        (0x01, 6, _ACL_UNDEFINED),  # owner rw
        (0x02, 4, 12345),  # user 12345 r
        (0x04, 4, _ACL_UNDEFINED),  # group r
        (0x10, 4, _ACL_UNDEFINED),  # mask r
        (0x20, 0, _ACL_UNDEFINED),  # others nothing
    )
)
# cap_net_bind_service=ep, revision 2.
_CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)

SPARSE_SIZE = 64 * 1024 * 1024
_SECOND = 1_000_000_000
TIMES = {
    "before-1970": -86_400 * _SECOND - 1,
    "long-before-1970": -2_000_000_000 * _SECOND,
    "epoch": 0,
    "after-2038": 2_500_000_000 * _SECOND + 7,
    "nanoseconds": 1_790_000_000_123_456_789,
}


def build(root: Path, *, privileged: bool | None = None, devices: bool = True) -> None:
    """Make the zoo in the new directory `root`; owners, devices and capabilities only where `privileged` (as root)."""
    privileged = os.geteuid() == 0 if privileged is None else privileged
    root.mkdir()
    _names(root / "names")
    _sparse(root / "sparse")
    _links(root / "links")
    _special(root / "special", devices=privileged and devices)
    _attributes(root / "attributes", privileged=privileged)
    _deep(root / "deep")
    _times(root)
    # Last, since nobody but root could write there afterwards.
    _directories(root / "directories")


def build_too_deep(root: Path, levels: int = 60) -> None:
    """Directories with names of 255 bytes, each with a file: their paths are longer than a system call takes."""
    root.mkdir()
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for level in range(levels):
        name = b"%02d" % level + b"d" * 253
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
        file = os.open(b"file", os.O_WRONLY | os.O_CREAT, 0o640, dir_fd=fd)
        os.write(file, b"level %d\n" % level)
        os.close(file)
    os.close(fd)


def _names(root: Path) -> None:
    root.mkdir()
    here = os.fsencode(root)
    for number, name in enumerate(STRANGE_NAMES):
        path = os.path.join(here, name)
        with open(path, "wb") as file:
            file.write(b"content %d\n" % number)
        os.mkdir(os.path.join(here, b"d" + name[:254]))
        os.symlink(name, os.path.join(here, b"l" + name[:254]))
    # In byte order "a-b" would come between "a" and "a/b".
    (root / "a").mkdir()
    for name in ("a/b", "a-b", "a.b", "a/b-c"):
        (root / name).write_text(name)


def _sparse(root: Path) -> None:
    root.mkdir()
    with open(root / "hole-at-both-ends", "wb") as file:
        file.seek(SPARSE_SIZE // 2 + 1234)
        file.write(b"in the middle")
        file.truncate(SPARSE_SIZE)
    with open(root / "only-hole", "wb") as file:
        file.truncate(SPARSE_SIZE + 17)
    (root / "zeros-that-are-there").write_bytes(bytes(100_000))
    (root / "empty").touch()


def _links(root: Path) -> None:
    root.mkdir()
    (root / "first").write_text("one inode, four names\n")
    (root / "sub").mkdir()
    for name in ("second", "sub/third", "zzz"):
        os.link(root / "first", root / name)
    for name, target in {
        "dangling": "does/not/exist",
        "absolute": "/etc/hostname",
        "to-root": "/",
        "upwards": "../../../../../../..",
        "to-directory": "sub",
        "long": "x/" * 2000,
        "itself": "itself",
    }.items():
        (root / name).symlink_to(target)
    os.symlink(b"invalid \xff\n", os.path.join(os.fsencode(root), b"bytes"))
    os.link(root / "dangling", root / "sub" / "dangling-hard", follow_symlinks=False)


def _special(root: Path, *, devices: bool) -> None:
    root.mkdir()
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "socket", stat.S_IFSOCK | 0o660)
    if devices:
        os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(root / "loop", stat.S_IFBLK | 0o660, os.makedev(7, 77))
        os.chmod(root / "null", 0o666)


def _attributes(root: Path, *, privileged: bool) -> None:
    root.mkdir()
    for name, mode in {"none": 0o000, "all": 0o777, "read-only": 0o444, "execute": 0o711, "odd": 0o604}.items():
        (root / name).write_text(name)
        os.chmod(root / name, mode)
    for name, mode in {"setuid": 0o4755, "setgid": 0o2755, "both": 0o6711}.items():
        (root / name).write_text(name)
        os.chmod(root / name, mode)
    for name, mode in {"sticky": 0o1777, "setgid-directory": 0o2775}.items():
        (root / name).mkdir()
        os.chmod(root / name, mode)
    (root / "xattr").write_text("xattr")
    os.setxattr(root / "xattr", "user.text", b"value")
    os.setxattr(root / "xattr", "user.binary", bytes(range(256)))
    os.setxattr(root / "xattr", "user.empty", b"")
    os.setxattr(root / "xattr", b"user.\xff\xfe", b"no text")
    os.setxattr(root / "xattr", r"user.\xff", b"text")
    os.chmod(root / "xattr", 0o400)
    (root / "acl").write_text("acl")
    os.setxattr(root / "acl", "system.posix_acl_access", _ACL)
    (root / "acl-directory").mkdir()
    os.setxattr(root / "acl-directory", "system.posix_acl_default", _ACL)
    (root / "acl-directory" / "inherits").write_text("inherits")
    os.setxattr(root / "acl-directory", "user.directory", b"1")
    if privileged:
        _privileged_attributes(root)


def _privileged_attributes(root: Path) -> None:
    for name in ("owned", "owned-setuid"):
        (root / name).write_text(name)
        os.chown(root / name, 12345, 23456)
    os.chmod(root / "owned-setuid", 0o4711)
    (root / "capability").write_text("capability")
    os.chown(root / "capability", 1, 2)
    os.setxattr(root / "capability", "security.capability", _CAPABILITY)
    os.setxattr(root / "capability", "trusted.secret", b"\0\xff")
    (root / "owned-directory").mkdir()
    os.chown(root / "owned-directory", 54321, 0)
    (root / "owned-link").symlink_to("owned")
    os.chown(root / "owned-link", 7, 8, follow_symlinks=False)


def _deep(root: Path) -> None:
    path = root
    path.mkdir()
    for level in range(60):
        path /= f"level-{level:02}"
        path.mkdir()
    (path / "bottom").write_text("bottom")


def _times(root: Path) -> None:
    (root / "times").mkdir()
    for name, time in TIMES.items():
        (root / "times" / name).write_text(name)
        (root / "times" / f"{name}-link").symlink_to(name)
        (root / "times" / f"{name}-directory").mkdir()
        for path in (name, f"{name}-link", f"{name}-directory"):
            os.utime(root / "times" / path, ns=(time, time), follow_symlinks=False)
    # Directories outside have times of their own as well.
    os.utime(root / "deep" / "level-00", ns=(TIMES["nanoseconds"],) * 2)


def _directories(root: Path) -> None:
    root.mkdir()
    (root / "empty").mkdir()
    (root / "read-only").mkdir()
    (root / "read-only" / "file").write_text("file")
    (root / "read-only" / "below").mkdir()
    os.chmod(root / "read-only" / "below", 0o555)
    os.chmod(root / "read-only", 0o555)
