"""An agent that can lie in every answer: a tree in memory and a real rsync daemon, bent as a test wants.

Left alone it is honest: it lists `files` below `TOP`, hashes them, and serves them by a real rsync daemon. A test bends
what it is about: entries, digests, the tree that the daemon serves, the bytes that pass.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import grpc
from pyrsyncbackup import identity
from pyrsyncbackup.v1 import agent_pb2 as pb

from tests.support.plain_agent import SESSION, PlainAgent

TOP = b"srv/data"
CHUNK = 256 * 1024
# Bytes of a message of a listing.
BATCH = 256 * 1024

Passage = Callable[[bytes], bytes]


class HostileAgent(PlainAgent):
    """`files` are contents by name below TOP; what does not differ by a test's will is told as it is."""

    def __init__(self, folder: Path, files: dict[bytes, bytes] | None = None, module: str = "data") -> None:
        super().__init__(identity.load_or_create(folder / "identity"))
        self.files = dict(files or {})
        self.served = folder / "served"
        self.module = pb.Module(name=module, title="Data", state=pb.MODULE_STATE_READY, roots=[pb.Root(id=1, path=TOP)])
        self.modules = [self.module]
        self.fingerprint: pb.Fingerprint | None = None
        self.info: dict[str, str] = {}
        # What it says: replace, change or add entries; a digest for a path; None as digest: the honest one.
        self.bend: Callable[[list[pb.Entry]], Iterable[pb.Entry]] = lambda entries: entries
        self.digest: Callable[[bytes], pb.FileHash | None] = lambda path: None
        # Done to the served tree before each daemon starts, to the bytes that it sends, and in place of it.
        self.plant: Callable[[Path], None] = lambda served: None
        self.passing: Passage = lambda data: data
        self.sender: Callable[[Iterator[pb.TransferRequest]], Iterator[pb.TransferResponse]] | None = None
        self.last_words = "done"
        # Called when a module is opened; may abort.
        self.opening: Callable[[grpc.ServicerContext], object] = lambda context: None
        self.hashed: list[bytes] = []
        self.transfers = 0
        self._folder = folder

    # What it says

    def GetInfo(self, request, context):
        return pb.GetInfoResponse(**({"name": "evil", "version": "1"} | self.info), protocol_min=1, protocol_max=1)

    def ListModules(self, request, context):
        return pb.ListModulesResponse(modules=[m for m in self.modules if not request.names or m.name in request.names])

    def OpenModule(self, request, context):
        self.opening(context)
        ended = threading.Event()
        context.add_callback(ended.set)
        offered = next(module for module in self.modules if module.name == request.name)
        yield pb.OpenModuleResponse(session=SESSION, module=offered)
        while not ended.wait(0.1) and not self.lease_ended.is_set():
            pass

    def ListEntries(self, requests, context):
        first = next(requests)
        if not first.paths:
            yield from self.listing or self.messages(self.bend(self.honest()))
            return
        for request in (first, *requests):
            known = {entry.path: entry for entry in self.bend(self.honest())}
            gone = pb.EntryError(kind=pb.ENTRY_ERROR_KIND_VANISHED)
            yield pb.ListEntriesResponse(
                entries=[known.get(path) or pb.Entry(path=path, root=1, error=gone) for path in request.paths]
            )

    def messages(self, entries: Iterable[pb.Entry]) -> Iterator[pb.ListEntriesResponse]:
        batch: list[pb.Entry] = []
        size = 0
        for entry in entries:
            batch.append(entry)
            size += entry.ByteSize()
            if size >= BATCH:
                yield pb.ListEntriesResponse(entries=batch)
                batch, size = [], 0
        yield pb.ListEntriesResponse(entries=batch, fingerprint=self.fingerprint)

    def honest(self) -> list[pb.Entry]:
        """The entries of the tree, the directories above it and within included."""
        directories = {b"srv", TOP}
        for name in self.files:
            parts = name.split(b"/")[:-1]
            directories |= {TOP + b"/" + b"/".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
        entries = [directory(path, root=0 if path == b"srv" else 1) for path in directories]
        entries += [file(TOP + b"/" + name, content) for name, content in self.files.items()]
        return sorted(entries, key=lambda entry: entry.path.replace(b"/", b"\0"))

    def HashFiles(self, requests, context):
        for request in requests:
            self.hashed += request.paths
            yield pb.HashFilesResponse(hashes=[self.digest(path) or self.honest_digest(path) for path in request.paths])

    def honest_digest(self, path: bytes) -> pb.FileHash:
        content = self.files.get(path.removeprefix(TOP + b"/"))
        if content is None:
            return pb.FileHash(path=path, error=pb.EntryError(kind=pb.ENTRY_ERROR_KIND_VANISHED))
        return digest(path, content)

    # What it sends

    def Transfer(self, requests, context):
        first = next(requests)
        assert first.session == SESSION
        self.transfers += 1
        if self.sender is not None:
            yield from self.sender(requests)
            return
        self.write_tree()
        self.plant(self.served)
        with self.daemon(f"{self._folder}/rsyncd-{self.transfers}.conf") as (process, ours):
            context.add_callback(process.kill)
            feeder = threading.Thread(target=feed, args=(requests, ours), daemon=True)
            feeder.start()
            with contextlib.suppress(OSError):
                while data := ours.recv(CHUNK):
                    yield pb.TransferResponse(data=self.passing(data))
            code = process.wait()
        yield pb.TransferResponse(exit=pb.DaemonExit(code=code, messages=self.last_words))

    def write_tree(self) -> None:
        """The files as rsync's daemon serves them."""
        shutil.rmtree(self.served, ignore_errors=True)
        self.served.mkdir(parents=True)
        for name, content in self.files.items():
            path = self.served / name.decode("utf-8", "surrogateescape")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    @contextlib.contextmanager
    def daemon(self, config: str) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
        Path(config).write_text(
            f"use chroot = no\nmunge symlinks = no\n[m]\npath = {self.served}\nread only = yes\nuid = 0\ngid = 0\n"
        )
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                argv = ["rsync", "--server", "--daemon", f"--config={config}", "."]
                process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL)
            try:
                yield process, ours
            finally:
                process.kill()
                process.wait()


def feed(requests: Iterator[pb.TransferRequest], sink: socket.socket) -> None:
    """Pass what the collector's rsync says on to the daemon, whoever ends first."""
    with contextlib.suppress(Exception):  # gRPC raises a bare one when the client is gone
        for request in requests:
            sink.sendall(request.data)
        sink.shutdown(socket.SHUT_WR)


def directory(path: bytes, root: int = 1, **fields: object) -> pb.Entry:
    """A directory's entry."""
    values = {"mode": 0o755, "token": token(path), "public": True} | fields
    return pb.Entry(path=path, type=pb.ENTRY_TYPE_DIRECTORY, root=root, **values)


def file(path: bytes, content: bytes, **fields: object) -> pb.Entry:
    """A file's entry; private unless said otherwise."""
    values = {"mode": 0o600, "size": len(content), "allocated": len(content), "token": token(path + content)} | fields
    return pb.Entry(path=path, type=pb.ENTRY_TYPE_FILE, root=1, **values)


def digest(path: bytes, content: bytes) -> pb.FileHash:
    """The digest that `content` has, with the token of `file`."""
    return pb.FileHash(
        path=path, sha256=hashlib.sha256(content).digest(), size=len(content), token=token(path + content)
    )


def token(what: bytes) -> int:
    """A change token for this state of a path."""
    return int.from_bytes(hashlib.blake2b(what, digest_size=8).digest(), "little") or 1
