"""From a configured copy to its place and its seal: what needs keys, files and the environment comes together here."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from pyrsyncbackup.identity import write_atomically

from pyrsyncbackup_collector.config import Config, CopyConfig
from pyrsyncbackup_collector.config.copies import DirectoryPlace, Place, S3Place, SshPlace
from pyrsyncbackup_collector.copies import credentials, form
from pyrsyncbackup_collector.copies.directory import DirectoryTarget, translate
from pyrsyncbackup_collector.copies.s3 import Patience, S3Target
from pyrsyncbackup_collector.copies.seal import Opener, Plain, Seal, Sealed, new_key
from pyrsyncbackup_collector.copies.ssh import PAUSES, SshTarget
from pyrsyncbackup_collector.copies.target import Target
from pyrsyncbackup_collector.errors import BackupError, CopyMissing, CopyRefused, CopySealed

_CONNECT: Final = 30.0
_IMPATIENT: Final = Patience(request=30.0, connect=10.0, retries=1, total=20.0)

Check = Callable[[], None]
Wait = Callable[[float], None]


def open_target(config: Config, copy: CopyConfig, check: Check, wait: Wait, *, patient: bool = True) -> Target:
    """The place of a configured copy; close it. Nothing is made there. Raises CopyError.

    What fails in passing is tried again for minutes, unless somebody waits for the answer and is not `patient`.
    """
    place: Place = copy.to
    if isinstance(place, S3Place):
        assert copy.credentials is not None  # noqa: S101 - the configuration saw to it
        return S3Target(
            place.bucket,
            place.prefix,
            credentials.from_file(copy.credentials),
            region=copy.region or "us-east-1",
            endpoint=copy.endpoint or "",
            patience=Patience() if patient else _IMPATIENT,
            check=check,
        )
    if isinstance(place, SshPlace):
        return SshTarget(
            place,
            key=copy.key or config.state / "ssh" / "id_ed25519",
            known_hosts=[config.state / "known_hosts", Path("~/.ssh/known_hosts").expanduser()],
            connect=config.limits.connect,
            check=check,
            wait=wait,
            pauses=PAUSES if patient else (),
        )
    return _directory(place, check)


def make_room(copy: CopyConfig) -> None:
    """Make the directory of a copy on this machine, in one that is there. Raises CopyError."""
    place: Place = copy.to
    if isinstance(place, DirectoryPlace):
        try:
            place.path.mkdir(mode=0o700, exist_ok=True)
        except OSError as fault:
            raise translate(fault, place.path.parent) from fault


@contextlib.contextmanager
def stage() -> Iterator[Path]:
    """A private directory for a few small files."""
    with tempfile.TemporaryDirectory(prefix="pyrsyncbackup-copy-") as folder:
        yield Path(folder)


def open_unconfigured(place: Place, check: Check, wait: Wait) -> Target:
    """The place of a copy that no configuration names: with the user's own SSH keys, or AWS's environment."""
    if isinstance(place, S3Place):
        return S3Target(
            place.bucket,
            place.prefix,
            credentials.from_environment(os.environ),
            region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
            endpoint=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "",
            check=check,
        )
    if isinstance(place, SshPlace):
        known_hosts = [Path("~/.ssh/known_hosts").expanduser()]
        return SshTarget(place, key=None, known_hosts=known_hosts, connect=_CONNECT, check=check, wait=wait)
    return _directory(place, check)


def _directory(place: DirectoryPlace, check: Check) -> DirectoryTarget:
    try:
        there = stat.S_ISDIR(place.path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        there = False
    except OSError as fault:
        raise translate(fault, place.path) from fault
    if not there:
        raise CopyMissing(
            f"there is no directory {place.path}",
            "is its file system mounted? A new copy is made by `pyrsyncbackup copies init NAME`",
        )
    return DirectoryTarget(place.path, check)


def seal(config: Config, copy: CopyConfig) -> Seal:
    """How the copy is written. Raises CopySealed if it is encrypted and the key that names its objects is not here."""
    if not copy.encrypt_to:
        return Plain()
    file = _key_file(config, copy)
    if not file.exists():
        raise CopySealed(
            f"the key that names the objects of {copy.name} is missing: {file}",
            f"`pyrsyncbackup copies init {copy.name}` makes a new copy; with --identity it reads the key of this one",
        )
    try:
        return Sealed(copy.encrypt_to, bytes.fromhex(credentials.read_private(file).strip()))
    except ValueError:
        raise CopyRefused(f"{file} is damaged", f"`pyrsyncbackup copies init {copy.name} --identity FILE`") from None


def first_seal(config: Config, copy: CopyConfig, target: Target, identity: Path | None) -> Seal:
    """The seal of a copy that is just being made, or whose naming key is to be read from it with `identity`."""
    if not copy.encrypt_to:
        return Plain()
    file = _key_file(config, copy)
    there = target.read(form.NAMES)
    if identity is not None and there is not None:
        _keep(file, Opener(identity).names(there))
    elif not file.exists():
        if there is not None:
            raise CopySealed(
                f"{target.where} is encrypted, and the key that names its objects is not here",
                f"`pyrsyncbackup copies init {copy.name} --identity FILE` reads it from there",
            )
        _keep(file, new_key())
    return seal(config, copy)


def _keep(file: Path, key: bytes) -> None:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(file, key.hex().encode() + b"\n", 0o600)
    except OSError as fault:
        raise BackupError(f"{file} cannot be written: {fault.strerror}") from fault


def _key_file(config: Config, copy: CopyConfig) -> Path:
    return config.state / "copies" / f"{copy.name}.key"
