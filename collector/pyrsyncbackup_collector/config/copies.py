"""Where second copies are: the forms of `to` in [[copy]] taken apart, and what else stands there by itself.

Names in it are held to characters that mean nothing to a shell, to rsync or to a URL, so nothing ever needs quoting.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SSH: Final = re.compile(
    r"ssh://(?:(?P<user>[A-Za-z0-9_][A-Za-z0-9_.-]*)@)?(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_][A-Za-z0-9._-]*)"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<path>/[A-Za-z0-9._/+@=,-]*)"
)
_S3: Final = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[A-Za-z0-9._/+=-]*))?")
_RECIPIENT: Final = re.compile(r"age1[0-9a-z]{50,2000}")
_URL: Final = re.compile(r"https?://[A-Za-z0-9._-]+(?::[0-9]{1,5})?|https?://\[[0-9a-fA-F:]+\](?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class DirectoryPlace:
    """A directory of this machine."""

    path: Path


@dataclass(frozen=True, slots=True)
class SshPlace:
    """A directory of another machine. No user: the one that ssh_config says; `port` 0: likewise."""

    host: str
    path: str
    user: str = ""
    port: int = 0


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket, or what is below a prefix of it."""

    bucket: str
    prefix: str = ""


Place = DirectoryPlace | SshPlace | S3Place

# Keys that are for one kind of place.
_FOR: Final = (
    ("endpoint", S3Place, "s3://"),
    ("region", S3Place, "s3://"),
    ("credentials", S3Place, "s3://"),
    ("key", SshPlace, "ssh://"),
)


def place(text: object) -> Place:
    """Read `to`; ValueError says how it is written."""
    if not isinstance(text, str):
        raise ValueError("must be text: a directory, ssh://USER@HOST:PORT/PATH or s3://BUCKET/PREFIX")
    if text.startswith("ssh:"):
        match = _SSH.fullmatch(text)
        if not match or ".." in match["path"].split("/"):
            raise ValueError(f'"{text}" is not ssh://USER@HOST:PORT/PATH, with A-Z a-z 0-9 . _ / + @ = , - in PATH')
        host, port = match["host"].strip("[]"), int(match["port"] or 0)
        if ":" in host:
            ipaddress.ip_address(host)
        if port > 65535:
            raise ValueError(f'"{text}": there is no port {port}')
        return SshPlace(host, match["path"].rstrip("/") or "/", match["user"] or "", port)
    if text.startswith("s3:"):
        match = _S3.fullmatch(text)
        if not match or {"..", "."} & set((match["prefix"] or "").split("/")):
            raise ValueError(
                f'"{text}" is not s3://BUCKET/PREFIX, with 3 to 63 of a-z 0-9 . - in BUCKET and '
                "A-Z a-z 0-9 . _ / + = - in PREFIX"
            )
        return S3Place(match["bucket"], (match["prefix"] or "").strip("/"))
    if "://" in text:
        raise ValueError(f'"{text}" is neither a directory nor ssh://... nor s3://...')
    if not text.startswith("/") or "\0" in text:
        raise ValueError(f'"{text}" is not the absolute path of a directory')
    return DirectoryPlace(Path(text))


def where(to: Place) -> str:
    """As a person would name the place."""
    if isinstance(to, S3Place):
        return f"s3://{to.bucket}/{to.prefix}".rstrip("/")
    if isinstance(to, SshPlace):
        host = f"[{to.host}]" if ":" in to.host else to.host
        return f"ssh://{f'{to.user}@' if to.user else ''}{host}{f':{to.port}' if to.port else ''}{to.path}"
    return str(to.path)


def recipient(value: str) -> str:
    """A public key of age; ValueError otherwise."""
    if value.startswith("AGE-SECRET-KEY-"):
        raise ValueError("is a secret key: write the public one, age1..., and keep the other where no collector is")
    if not _RECIPIENT.fullmatch(value):
        raise ValueError(f'"{value}" is not a public key of age: it begins with age1')
    return value


def endpoint(value: str) -> str:
    """The URL of a server; ValueError otherwise."""
    if not _URL.fullmatch(value.rstrip("/")):
        raise ValueError(f'"{value}" is not https://HOST:PORT')
    return value.rstrip("/")


def fit(to: Place, given: set[str]) -> None:
    """ValueError if one of the `given` keys is not for that kind of place, or one is missing."""
    for name, kind, scheme in _FOR:
        if name in given and not isinstance(to, kind):
            raise ValueError(f"`{name}` is for {scheme} only")
    if isinstance(to, S3Place) and "credentials" not in given:
        raise ValueError("`credentials` is missing: the file with the two keys of the S3 account")
