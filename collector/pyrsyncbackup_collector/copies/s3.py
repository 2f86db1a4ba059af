"""A copy in an S3 bucket, through obstore: the one module that knows it, and what it says when something fails.

Requests that fail in passing are tried again by the library, within `Patience`. No condition goes with a PUT (servers
answer 501 to it): that a name is free is asked just before, and no other collector writes to this copy.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from pyrsyncbackup_collector.copies import directory, tasks
from pyrsyncbackup_collector.copies.credentials import Credentials
from pyrsyncbackup_collector.copies.proven import NO_SUMS, Proven, Sums
from pyrsyncbackup_collector.copies.target import Listed
from pyrsyncbackup_collector.errors import CopyDamaged, CopyError, CopyFull, CopyMissing, CopyRefused, CopyUnreachable
from pyrsyncbackup_collector.store.layout import TEMPORARY

# Small objects wait for the server's answer most of the time.
_REQUESTS: Final = 16
# Beyond so many names one list of the whole bucket costs less than a HEAD for each.
_MANY: Final = 1000
# S3 allows 10,000 parts; objects are far below 80 GB.
_PART: Final = 8 << 20
_DELETE: Final = 1000
_BLOCK: Final = 1 << 20
_TRIES: Final = 3

R = TypeVar("R")

_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w{1,64})</Code>")
# How the library's error calls it, and what it means.
_SILENT: Final = (
    ("kind: Timeout", "the server does not answer in time"),
    ("kind: Connect", "there is no connection with the server"),
)
_FULL: Final = frozenset({"QuotaExceeded", "InsufficientStorage", "StorageFull", "XMinioStorageFull"})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a request may take, how often and how long it is tried again; seconds."""

    request: float = 300.0
    connect: float = 20.0
    retries: int = 8
    total: float = 180.0


class S3Target:
    """The Target in `bucket`, below `prefix` ("" for all of it). No `endpoint`: Amazon's of that region."""

    def __init__(
        self,
        bucket: str,
        prefix: str,
        credentials: Credentials,
        *,
        region: str = "us-east-1",
        endpoint: str = "",
        patience: Patience = Patience(),
        check: Callable[[], None] = tasks.nothing,
    ) -> None:
        """`check` raises to end what takes long."""
        self._check = check
        self.where = f"s3://{bucket}/{prefix}".rstrip("/")
        options: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
        self._store = S3Store(
            bucket,
            prefix=prefix or None,
            region=region,
            access_key_id=credentials.access_key,
            secret_access_key=credentials.secret_key,
            virtual_hosted_style_request=not endpoint,
            client_options={
                # A server of one's own in one's own network: `check` has a word about it.
                "allow_http": endpoint.startswith("http://"),
                "timeout": timedelta(seconds=patience.request),
                "connect_timeout": timedelta(seconds=patience.connect),
            },
            retry_config={"max_retries": patience.retries, "retry_timeout": timedelta(seconds=patience.total)},
            **options,
        )
        self._workers = ThreadPoolExecutor(_REQUESTS, thread_name_prefix="copy")
        self._known: dict[str, int] | None = None

    def read(self, name: str) -> bytes | None:
        """By one GET."""
        with self._translated():
            try:
                return bytes(obstore.get(self._store, name).bytes())
            except FileNotFoundError as fault:
                self._must_be_the_name(fault)
                return None

    def sizes(self, names: Sequence[str]) -> dict[str, int]:
        """By a HEAD for each of a few; for many from one list, which is kept up to date from then on."""
        if self._known is None and len(names) > _MANY:
            self._known = dict(self.walk(""))
        if self._known is not None:
            return {name: self._known[name] for name in names if name in self._known}
        each: list[int | None] = self._each(self._size, names)
        return {name: size for name, size in zip(names, each, strict=True) if size is not None}

    def _size(self, name: str) -> int | None:
        with self._translated():
            try:
                return obstore.head(self._store, name)["size"]
            except FileNotFoundError as fault:
                self._must_be_the_name(fault)
                return None

    def walk(self, prefix: str) -> Iterator[Listed]:
        """By pages of 1,000."""
        with self._translated():
            for page in obstore.list(self._store, prefix or None):
                for item in page:
                    yield Listed(item["path"], item["size"])

    def put(self, root: Path, names: Sequence[str], sums: Sums = NO_SUMS) -> None:
        """Upload those that are not there, several at a time; an object is there once it is whole."""
        present = self.sizes(names)
        self.replace(root, [name for name in names if name not in present], sums)

    def replace(self, root: Path, names: Sequence[str], sums: Sums = NO_SUMS) -> None:
        """Upload all, several at a time."""
        self._each(lambda name: self._upload(root / name, name, sums.get(name, "")), names)

    def _upload(self, place: Path, name: str, sum: str) -> None:
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(open(place, "rb", buffering=0))
                size = os.fstat(file.fileno()).st_size
                proven = Proven(file, sum, place)
                # What is small goes in one request, without the three of a multipart upload.
                source = proven.blocks(_BLOCK) if size > _PART else proven.read()
            except OSError as fault:
                raise directory.translate(fault, place) from fault
            with self._translated():
                try:
                    obstore.put(self._store, name, source, chunk_size=_PART, max_concurrency=4)
                except FileNotFoundError as fault:
                    raise failure(self.where, str(fault)) from None
        if self._known is not None:
            self._known[name] = size

    def fetch(self, root: Path, names: Sequence[str]) -> None:
        """Download, several at a time."""
        self._each(partial(self._download, root), names)

    def _download(self, root: Path, name: str) -> None:
        place = root / name
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = place.with_name(TEMPORARY + place.name)
        for left in reversed(range(_TRIES)):
            try:
                with self._translated(root):
                    result = obstore.get(self._store, name)
                    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                        for block in result.stream(min_chunk_size=_BLOCK):
                            file.write(block)
                        if file.tell() != result.meta["size"]:
                            raise CopyUnreachable(f"{self.where} sent {file.tell()} bytes of {result.meta['size']}")
                draft.replace(place)
                return
            except FileNotFoundError as fault:
                self._must_be_the_name(fault)
                return
            except CopyUnreachable:
                if not left:
                    raise
            finally:
                draft.unlink(missing_ok=True)

    def delete(self, names: Sequence[str]) -> None:
        """By requests for 1,000 each."""
        with self._translated():
            for start in range(0, len(names), _DELETE):
                obstore.delete(self._store, list(names[start : start + _DELETE]))
        if self._known is not None:
            for name in names:
                self._known.pop(name, None)

    def close(self) -> None:
        """End the threads."""
        self._workers.shutdown(cancel_futures=True)

    def _each(self, work: Callable[[str], R], names: Sequence[str]) -> list[R]:
        """Do it for each, several at a time; the first failure ends it, and what was not begun is not begun."""
        return tasks.results([self._workers.submit(work, name) for name in names], self._check)

    @contextlib.contextmanager
    def _translated(self, local: Path | None = None) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except BaseError as fault:
            raise failure(self.where, str(fault)) from None
        except OSError as fault:
            raise directory.translate(fault, local or Path("/")) from fault

    def _must_be_the_name(self, fault: FileNotFoundError) -> None:
        """A missing bucket is no missing name."""
        if "NoSuchBucket" in str(fault):
            raise failure(self.where, str(fault)) from None


def failure(where: str, words: str) -> CopyError:
    """The CopyError for the library's words: they hold the server's answer, and never the secret key."""
    status = int(found[1]) if (found := _STATUS.search(words)) else 0
    code = found[1] if (found := _CODE.search(words)) else ""
    # No status: no server answered.
    answer = f"{status} {code}".strip() if status else code
    if status in (401, 403):
        hint = "check the credentials, what they may do, and this machine's clock"
        return CopyRefused(f"{where}: the server refuses: {answer}", hint)
    if code == "NoSuchBucket" or status == 404:
        return CopyMissing(f"{where}: no such bucket", "make it, or correct `to`")
    if status == 507 or code in _FULL:
        return CopyFull(f"{where}: no space left: {answer}", "raise the quota, or let the copy keep less (`keep`)")
    if status in (400, 405, 409, 411, 501):
        return CopyDamaged(f"{where}: the server does not do what is asked: {answer}")
    if not answer and (silent := next((said for kind, said in _SILENT if kind in words), "")):
        return CopyUnreachable(
            f"{where}: {silent}", "check `endpoint`, the network and the server; the next run goes on"
        )
    cause = f"the server fails: {answer}" if answer else words.partition("\n")[0].rpartition(" - ")[2][:200]
    return CopyUnreachable(f"{where}: {cause}", "tried again several times; the next run goes on")
