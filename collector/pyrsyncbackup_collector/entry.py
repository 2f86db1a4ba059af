"""One file, directory, link or special file of a module: the one type for it, from the wire to the manifest.

In memory a path is bytes. In JSON it is text under `path`, or base64 under `path_b64` where it is not UTF-8; likewise
`target` and `link_to`. Field order is the order in a manifest's line. Entries are sorted by `order(path)`.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from pyrsyncbackup_collector.errors import AgentMisbehaved

FILE: Final = "file"
DIRECTORY: Final = "dir"
SYMLINK: Final = "link"
FIFO: Final = "fifo"
SOCKET: Final = "socket"
CHARACTER_DEVICE: Final = "char"
BLOCK_DEVICE: Final = "block"
# Could not be read at all and was never known: only its name and the error are.
UNKNOWN: Final = "unknown"

TYPES: Final = frozenset({FILE, DIRECTORY, SYMLINK, FIFO, SOCKET, CHARACTER_DEVICE, BLOCK_DEVICE, UNKNOWN})

# The form of a SHA-256 in manifests and in names of objects: `is_digest(text)`. Four times as quick as `str.strip`.
is_digest: Final = re.compile(r"[0-9a-f]{64}").fullmatch

# Linux: PATH_MAX bounds what a system call takes, not what exists; 60 levels of 255 bytes must pass.
MAX_PATH: Final = 32768
MAX_NAME: Final = 255


class Entry(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """An entry with all its metadata and, for a file, the name of its content.

    Bytes go in through `text_or_bytes` and come out of `path`, `target` and `link_to`. `mode` is the permission bits
    (& 07777), `mtime_s` seconds since 1970 rounded down and `mtime_ns` the nanoseconds above them, `size` and
    `allocated` bytes, `xattrs` name to value with ACLs and capabilities in the kernel's form, `link_to` the earlier
    entry that is the same inode.
    """

    path_text: str = msgspec.field(default="", name="path")
    path_b64: bytes = b""
    type: str = FILE
    mode: int = 0
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    size: int = 0
    allocated: int = 0
    mtime_s: int = 0
    mtime_ns: int = 0
    target_text: str = msgspec.field(default="", name="target")
    target_b64: bytes = b""
    rdev: tuple[int, int] = (0, 0)
    link_to_text: str = msgspec.field(default="", name="link_to")
    link_to_b64: bytes = b""
    xattrs: dict[str, bytes] = {}
    # Anyone on the host may read it, as the host said.
    public: bool = False
    # SHA-256 of the content in hexadecimal; empty for all but files.
    sha256: str = ""
    # Digest of the object that lists chunk digests, for large contents.
    chunks: str = ""
    # The content was not sent by this host but known already, and claimed by its digest.
    claimed: bool = False
    # Carried forward from an earlier snapshot because it could not be read now.
    stale: bool = False
    # It kept changing while it was read: content and metadata may not belong together.
    changing: bool = False
    # Why it, or what is below it, could not be read.
    error: str = ""

    @property
    def path(self) -> bytes:
        """Path relative to "/"."""
        return self.path_b64 or self.path_text.encode()

    @property
    def target(self) -> bytes:
        """Where a symbolic link points."""
        return self.target_b64 or self.target_text.encode()

    @property
    def link_to(self) -> bytes:
        """Path of the earlier entry that is the same inode, or nothing."""
        return self.link_to_b64 or self.link_to_text.encode()


def text_or_bytes(value: bytes) -> tuple[str, bytes]:
    """Split for JSON: (text, b"") where `value` is UTF-8, else ("", value)."""
    try:
        return value.decode(), b""
    except UnicodeDecodeError:
        return "", value


def attribute_text(name: bytes) -> str:
    """The name of an extended attribute for JSON: each byte that is not UTF-8 is a NUL and two hexadecimal digits.

    No name has a NUL of its own.
    """
    text = name.decode("utf-8", "surrogateescape")
    return text if text.isascii() else _STRAY.sub(lambda byte: f"\0{ord(byte[0]) - _STRAYS:02x}", text)


def attribute_name(text: str) -> bytes:
    """The reverse. Whatever the text says, only bytes beyond ASCII come of it: none makes another name of a NUL."""
    plain = _ESCAPED.sub(lambda found: chr(_STRAYS + int(found[1], 16)), text) if "\0" in text else text
    return plain.encode("utf-8", "surrogateescape")


_STRAYS: Final = 0xDC00
_STRAY: Final = re.compile("[\udc80-\udcff]")
_ESCAPED: Final = re.compile("\0([89a-f][0-9a-f])")


def order(path: bytes) -> bytes:
    """Sort key of a path: as if "/" were the lowest byte, so that a directory precedes its content."""
    return path.replace(b"/", b"\0")


def parent(path: bytes) -> bytes:
    """The directory that holds `path`; b"" for the top."""
    return path.rpartition(b"/")[0]


def check_path(path: bytes) -> bytes:
    """Return `path` if it is relative and plain; raise AgentMisbehaved otherwise."""
    if not path or len(path) > MAX_PATH or b"\0" in path:
        raise AgentMisbehaved(f"the agent sent an impossible path: {printable(path[:200])}")
    for name in path.split(b"/"):
        if name in (b"", b".", b"..") or len(name) > MAX_NAME:
            raise AgentMisbehaved(f"the agent sent an impossible path: {printable(path[:200])}")
    return path


def printable(value: bytes | str) -> str:
    r"""`value` for a terminal or a log: printable characters as they are, the rest as \n, \x1b, \udcff escapes.

    Nothing that a host chose (names, messages) is shown without it.
    """
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    if text.isprintable() and "\\" not in text:
        return text
    return "".join(_escape(char) for char in text)


def printable_line(value: bytes | str) -> str:
    r"""A line of a text for a terminal: escaped as by `printable`, but tabs and backslashes stay what they are.

    A line is read and copied (`location ~ \.php$`), and no name that has to be told from another.
    """
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    if text.isprintable():
        return text
    return "".join(char if char in "\\\t" else _escape(char) for char in text)


def _escape(char: str) -> str:
    if char == "\\":
        return "\\\\"
    if char.isprintable():
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode()
