"""Names of users and groups, each asked for once: behind it may be a directory service."""

from __future__ import annotations

import grp
import os
import pwd


class Names:
    """A memory for one listing. A number without a name gives b""."""

    def __init__(self) -> None:
        self.users: dict[int, bytes] = {}
        self.groups: dict[int, bytes] = {}

    def user(self, uid: int) -> bytes:
        """Name of a user."""
        name = self.users.get(uid)
        if name is None:
            try:
                name = os.fsencode(pwd.getpwuid(uid).pw_name)
            except (KeyError, OSError):
                name = b""
            self.users[uid] = name
        return name

    def group(self, gid: int) -> bytes:
        """Name of a group."""
        name = self.groups.get(gid)
        if name is None:
            try:
                name = os.fsencode(grp.getgrgid(gid).gr_name)
            except (KeyError, OSError):
                name = b""
            self.groups[gid] = name
        return name
