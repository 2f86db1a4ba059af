"""The two keys of an S3 account, from a file that only its owner may read, or from the environment."""

from __future__ import annotations

import configparser
import contextlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pyrsyncbackup_collector.errors import CopyRefused

_FORM = "it has a section [default] with aws_access_key_id and aws_secret_access_key"


@dataclass(frozen=True, slots=True)
class Credentials:
    """They are in no message and no log."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


def read_private(file: Path) -> str:
    """The text of a file that holds a secret. Raises CopyRefused if others may read it, or it cannot be read."""
    try:
        with file.open(encoding="utf-8") as opened:
            _must_be_private(file, os.fstat(opened.fileno()))
            return opened.read()
    except OSError as fault:
        raise CopyRefused(f"{file} cannot be read: {fault.strerror}") from fault
    except UnicodeDecodeError:
        raise CopyRefused(f"{file} is no text") from None


def must_be_private(file: Path) -> None:
    """Raise CopyRefused for a file with a secret that others may read; what is not there is for its reader to say."""
    with contextlib.suppress(OSError):
        _must_be_private(file, file.stat())


def _must_be_private(file: Path, found: os.stat_result) -> None:
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise CopyRefused(f"{file} may be read by others", f"`chmod 600 {file}`, and think of a new secret")


def from_file(file: Path) -> Credentials:
    """Read them as the AWS tools write them."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(read_private(file))
        section = parser["default"]
        return Credentials(section["aws_access_key_id"].strip(), section["aws_secret_access_key"].strip())
    except (configparser.Error, KeyError):
        # Its text is no part of the message: it holds the secret.
        raise CopyRefused(f"{file} has no credentials", _FORM) from None


def from_environment(environment: Mapping[str, str]) -> Credentials:
    """From AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the file that AWS_SHARED_CREDENTIALS_FILE names."""
    if file := environment.get("AWS_SHARED_CREDENTIALS_FILE"):
        return from_file(Path(file))
    try:
        return Credentials(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
    except KeyError as missing:
        raise CopyRefused(
            f"no credentials for S3: {missing.args[0]} is not set",
            "set it, or AWS_SHARED_CREDENTIALS_FILE to a file with mode 0600",
        ) from None
