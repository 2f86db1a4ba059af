"""A real agent: a process of its own with its own identity, modules and trusted collectors.

It listens on a free loopback port, or where `listen` says, in a node of a network if `prefix` is that of one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
from pyrsyncbackup import identity
from pyrsyncbackup.v1 import agent_pb2 as pb
from pyrsyncbackup.v1 import agent_pb2_grpc, relay_pb2_grpc

from tests.support.waiting import until

_AGENT = (sys.executable, "-m", "pyrsyncbackup_agent")


class RunningAgent:
    """An agent below `base`. `start` and `stop` may be repeated; it keeps its key, modules and collectors.

    `address` is "127.0.0.1:PORT", `certificate_pem` what a collector pins. `collector` is an identity that it trusts
    from the first start on; `trust` adds others, and `accept` does what the command does. With `relay` it passes
    connections on; a number bounds them. With `restore` it takes restores into `base`/restore.
    """

    def __init__(
        self,
        base: Path,
        prefix: Sequence[str] = (),
        *,
        relay: int | bool = False,
        restore: bool = False,
        **settings: object,
    ) -> None:
        self.base = base
        self.prefix = tuple(prefix)
        base.mkdir(parents=True, exist_ok=True)
        self.modules_dir = base / "modules.d"
        self.collectors_dir = base / "collectors.d"
        self.runtime_dir = base / "run"
        self.log_file = base / "agent.log"
        self.peers_dir = base / "peers.d"
        for directory in (self.modules_dir, self.collectors_dir, self.peers_dir):
            directory.mkdir(exist_ok=True)
        values: dict[str, object] = {
            "name": "testhost",
            "listen": "127.0.0.1:0",
            "state_dir": str(base / "state"),
            "collectors_dir": str(self.collectors_dir),
            "runtime_dir": str(self.runtime_dir),
            "module_dirs": [str(self.modules_dir)],
            "peers_dir": str(self.peers_dir),
            **settings,
        }
        self.config = base / "agent.toml"
        lines = [f"{key} = {_toml(value)}" for key, value in values.items()]
        if relay:
            lines += ["[relay]", "enabled = true"]
            lines += [] if relay is True else [f"max_connections = {relay}"]
        lines += ["[restore]", "enabled = true", f"directory = {_toml(str(base / 'restore'))}"] if restore else []
        self.config.write_text("\n".join(lines) + "\n")
        self.collector = identity.load_or_create(base / "collector-identity", "collector")
        self.trust("collector", self.collector.certificate_pem)
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}
        self.grace = 1.0

    # What it offers and whom it trusts

    def module(
        self,
        name: str,
        *paths: Path | str,
        exclude: Sequence[str] = (),
        include: Sequence[str] = (),
        before: Sequence[Sequence[str]] = (),
        after: Sequence[Sequence[str]] = (),
        timeout: int = 120,
        text: str = "",
    ) -> None:
        """Define a module; `text` is added to its file, `timeout` is that of its hooks, in seconds."""
        lines = [f'title = "{name}"', f"paths = {_toml([str(path) for path in paths])}"]
        lines += [f"exclude = {_toml(list(exclude))}", f"include = {_toml(list(include))}"]
        if before or after:
            lines += ["[hooks]", f"before = {_toml([list(argv) for argv in before])}"]
            lines += [f"after = {_toml([list(argv) for argv in after])}", f'timeout = "{timeout}s"']
        (self.modules_dir / f"{name}.toml").write_text("\n".join([*lines, text]) + "\n")

    def peer(self, name: str, address: str, title: str = "") -> None:
        """Define a peer; a running agent knows it after `reload`."""
        lines = ["[[peer]]", f"name = {_toml(name)}", f"address = {_toml(address)}"]
        lines += [f"title = {_toml(title)}"] if title else []
        (self.peers_dir / f"{name}.toml").write_text("\n".join(lines) + "\n")

    def trust(self, name: str, certificate_pem: bytes, secret: bytes = b"") -> None:
        """Accept a collector, with the secret of its invitation if there is one."""
        if secret:
            identity.write_atomically(
                self.collectors_dir / f"{name}.secret", identity.format_secret(secret).encode(), 0o600
            )
        identity.write_atomically(self.collectors_dir / f"{name}.pem", certificate_pem, 0o644)

    def accept(self, invitation: str) -> str:
        """Run `pyrsyncbackup-agent accept`; what it said."""
        argv = [*_AGENT, "accept", "--config", self.config, "-"]
        return subprocess.run(argv, input=invitation, check=True, capture_output=True, text=True).stdout

    def distrust(self, name: str = "collector") -> None:
        """Remove a collector's certificate."""
        (self.collectors_dir / f"{name}.pem").unlink()

    # Its process

    def start(self) -> RunningAgent:
        """Start it, and wait until it is ready."""
        (self.runtime_dir / "address").unlink(missing_ok=True)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, *_AGENT, "serve", "--config", str(self.config), "--grace", str(self.grace)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | self.environment,
            )
        try:
            until(lambda: self._ready(self.process), what=f"the agent to start, see {self.log_file}")
        except BaseException:
            self.stop(signal.SIGKILL)
            raise
        return self

    def stop(self, number: int = signal.SIGTERM, timeout: float = 60) -> int:
        """Send a signal and wait for the end; returns the exit code. Does nothing if it does not run."""
        if self.process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self.process = None

    def reload(self) -> None:
        """Have it read its files again, and wait until it has."""
        before = self.log.count('"reloaded"')
        os.kill(self.pid, signal.SIGHUP)
        until(lambda: self.log.count('"reloaded"') > before, what="the agent to read its files again")

    def _ready(self, process: subprocess.Popen[bytes] | None) -> bool:
        if process is not None and process.poll() is not None:
            raise AssertionError(f"the agent ended at start:\n{self.log}")
        return (self.runtime_dir / "address").exists()

    def __enter__(self) -> RunningAgent:
        return self.start() if self.process is None else self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        """What it logged so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    # How to reach it

    @property
    def address(self) -> str:
        """Where it listens."""
        return (self.runtime_dir / "address").read_text().strip()

    @property
    def port(self) -> int:
        """Port of the address."""
        return int(self.address.rpartition(":")[2])

    @property
    def certificate_pem(self) -> bytes:
        """Its certificate."""
        return (self.base / "state" / "identity" / "certificate.pem").read_bytes()

    def channel(self, client: identity.Identity | None = None) -> grpc.Channel:
        """Open a channel as `client` (default: the trusted collector)."""
        client = client or self.collector
        credentials = grpc.ssl_channel_credentials(self.certificate_pem, client.key_pem, client.certificate_pem)
        name = identity.certificate_name(self.certificate_pem)
        options = [("grpc.ssl_target_name_override", name), ("grpc.max_receive_message_length", 4 << 20)]
        return grpc.secure_channel(self.address, credentials, options)

    @contextlib.contextmanager
    def stub(self, client: identity.Identity | None = None) -> Iterator[agent_pb2_grpc.AgentServiceStub]:
        """Yield a stub of the agent's service."""
        with self.channel(client) as channel:
            yield agent_pb2_grpc.AgentServiceStub(channel)

    @contextlib.contextmanager
    def relay(self, client: identity.Identity | None = None) -> Iterator[relay_pb2_grpc.RelayServiceStub]:
        """Yield a stub of its relay service."""
        with self.channel(client) as channel:
            yield relay_pb2_grpc.RelayServiceStub(channel)

    @contextlib.contextmanager
    def session(self, module: str, client: identity.Identity | None = None) -> Iterator[Session]:
        """Open a module, and close it at the end of the block."""
        with self.stub(client) as stub:
            lease = stub.OpenModule(pb.OpenModuleRequest(name=module))
            try:
                yield Session(stub, lease, next(lease))
            finally:
                lease.cancel()


class Session:
    """An open module, as raw messages."""

    def __init__(self, stub: agent_pb2_grpc.AgentServiceStub, lease: grpc.Call, opened: pb.OpenModuleResponse) -> None:
        self.stub = stub
        self.lease = lease
        self.token = opened.session
        self.module = opened.module

    def list(self, *paths: bytes) -> list[pb.Entry]:
        """Entries of the module, or of paths."""
        return self.list_all(*paths)[0]

    def list_all(self, *paths: bytes) -> tuple[list[pb.Entry], pb.Fingerprint | None]:
        """Entries with the listing's fingerprint."""
        entries: list[pb.Entry] = []
        fingerprint = None
        for message in self.stub.ListEntries(iter([pb.ListEntriesRequest(session=self.token, paths=paths)])):
            entries += message.entries
            if message.HasField("fingerprint"):
                fingerprint = message.fingerprint
        return entries, fingerprint

    def hash(self, *paths: bytes) -> list[pb.FileHash]:
        """Digests of paths."""
        requests = iter([pb.HashFilesRequest(session=self.token, paths=paths)])
        return [digest for message in self.stub.HashFiles(requests) for digest in message.hashes]


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return str(value).lower() if isinstance(value, bool) else str(value)
