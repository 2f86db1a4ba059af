"""agent.toml: what the administrator decides about this agent, as one frozen value.

Strict: an unknown key is a problem, and all problems are told at once. What the settings lead to (whether rsync is
there, whether directories can be read) is `check`'s business.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from pathlib import Path

from pyrsyncbackup import DEFAULT_AGENT_PORT, valid_name

from pyrsyncbackup_agent import address, peers, toml
from pyrsyncbackup_agent.errors import SettingsError
from pyrsyncbackup_agent.peers import Peer

DEFAULT_FILE = Path("/etc/pyrsyncbackup-agent/agent.toml")
MODULE_DIRS = (Path("/usr/share/pyrsyncbackup-agent/modules.d"), Path("/etc/pyrsyncbackup-agent/modules.d"))


@dataclass(frozen=True)
class Relay:
    """Whether connections are passed on, at most how many at a time, and the peers in agent.toml itself."""

    enabled: bool = False
    max_connections: int = 256
    peers: tuple[Peer, ...] = ()


@dataclass(frozen=True)
class Restore:
    """Whether collectors may send restores, and into which directory: never over files that are in use."""

    enabled: bool = False
    directory: Path = Path("/var/lib/pyrsyncbackup-agent/restore")


@dataclass(frozen=True)
class Settings:
    """One agent's settings. Paths are absolute.

    `listen` is "address:port" ("[address]:port" for IPv6); port 0 takes any free one, and the agent then writes the
    actual address to `runtime_dir`/address. `module_dirs` come after the catalogue in the package, a later one wins.
    `max_sessions` bounds the modules that are open at a time. `rsync` is a command name or a path. `peers_dir` has more
    peers for relay mode.
    """

    name: str
    listen: str = f"127.0.0.1:{DEFAULT_AGENT_PORT}"
    state_dir: Path = Path("/var/lib/pyrsyncbackup-agent")
    identity_dir: Path = Path("/var/lib/pyrsyncbackup-agent/identity")
    collectors_dir: Path = Path("/etc/pyrsyncbackup-agent/collectors.d")
    runtime_dir: Path = Path("/run/pyrsyncbackup-agent")
    module_dirs: tuple[Path, ...] = MODULE_DIRS
    peers_dir: Path = Path("/etc/pyrsyncbackup-agent/peers.d")
    max_sessions: int = 2
    rsync: str = "rsync"
    relay: Relay = Relay()
    restore: Restore = Restore()
    file: Path | None = None

    @property
    def listen_port(self) -> int:
        """The port of `listen`."""
        return int(self.listen.rpartition(":")[2])


def load(path: Path | None = None) -> Settings:
    """Read `path`; without it the default file, which may be missing.

    Paths in the file may be relative to the file's directory. Raises SettingsError with every problem.
    """
    file = (path or DEFAULT_FILE).absolute()
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        if path is None:
            return Settings(name=host_name())
        raise SettingsError(
            [f"{file}: no such file"], "name an existing file with --config, or leave the option out"
        ) from None
    except OSError as error:
        raise SettingsError([f"{file}: {error.strerror}"]) from error
    return parse(content, file)


def parse(content: bytes, file: Path) -> Settings:
    """The settings in `content`, which was read from `file`; SettingsError with every problem."""
    try:
        values = toml.parse(content)
    except ValueError as error:
        raise SettingsError([f"{file}: {error}"]) from None
    table = toml.Table(values, [], f"{file}: ")
    settings = _read(table, file)
    table.done()
    if table.problems:
        raise SettingsError(table.problems)
    return settings


def _read(table: toml.Table, file: Path) -> Settings:
    default = Settings(name=host_name())

    def path(key: str, fallback: Path) -> Path:
        return file.parent / table.text(key, str(fallback))

    state_dir = path("state_dir", default.state_dir)
    name = table.text("name", default.name)
    if not valid_name(name):
        table.problem("name", f"{name!r} must be lower-case letters, digits, dots, dashes or underscores, at most 63")
    listen = table.text("listen", default.listen)
    try:
        address.split(listen)
    except ValueError as error:
        table.problem("listen", str(error))
    module_dirs = table.texts("module_dirs", map(str, default.module_dirs))
    return Settings(
        name=name,
        listen=listen,
        state_dir=state_dir,
        identity_dir=path("identity_dir", state_dir / "identity"),
        collectors_dir=path("collectors_dir", default.collectors_dir),
        runtime_dir=path("runtime_dir", default.runtime_dir),
        module_dirs=tuple(file.parent / entry for entry in module_dirs),
        max_sessions=table.integer("max_sessions", default.max_sessions, 1, 64),
        peers_dir=path("peers_dir", default.peers_dir),
        rsync=table.text("rsync", default.rsync),
        relay=_relay(table.table("relay"), default.relay),
        restore=_restore(table.table("restore"), default.restore, state_dir, file),
        file=file,
    )


def _relay(table: toml.Table, default: Relay) -> Relay:
    relay = Relay(
        enabled=table.flag("enabled", default.enabled),
        max_connections=table.integer("max_connections", default.max_connections, 1, 1024),
        peers=peers.of_tables(table.tables("peer")),
    )
    peers.first_of_each_name(relay.peers, table.problems)
    table.done()
    return relay


def _restore(table: toml.Table, default: Restore, state_dir: Path, file: Path) -> Restore:
    restore = Restore(
        enabled=table.flag("enabled", default.enabled),
        directory=file.parent / table.text("directory", str(state_dir / "restore")),
    )
    table.done()
    return restore


def host_name() -> str:
    """Name of the host, made fit to be a name of ours."""
    name = re.sub(r"[^a-z0-9._-]", "-", socket.gethostname().lower()).lstrip("._-")[:63]
    return name or "localhost"
