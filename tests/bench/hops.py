"""A host behind two relays, reached over none, one or both of them, directly or by SSH; and what each part costs.

The collector is this process. Its routes are those of the product: `Connections` opens them.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pyrsyncbackup_agent.processes import adopt_orphans
from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.fleet.hosts import Host
from pyrsyncbackup_collector.transport.agent_client import AgentClient
from pyrsyncbackup_collector.transport.connections import Connections
from pyrsyncbackup_collector.transport.invitations import own_identity

from tests.bench.scene import tree_cpu
from tests.support.agent import RunningAgent
from tests.support.fleet import direct_host, make_config, pin, relayed_host, ssh_host
from tests.support.puller import Puller
from tests.support.sshd import Sshd

Costs = dict[str, float]
Through = Callable[[Host], Host]


class Hops:
    """Everything below `base`. The way to the host has so many relays: the outer one is `relays[0]`."""

    def __init__(self, base: Path, **limits: Any) -> None:
        self.base = base
        adopt_orphans()
        base.chmod(0o755)  # so that what lies below is public, as configuration is on a server
        self._closing = contextlib.ExitStack()
        self.config = make_config(base, connect="60s", tunnels=250, idle="1h", **limits)
        self.identity = own_identity(self.config.state)
        self.sshd = Sshd(base / "sshd")
        self.sshd.start()
        self._closing.callback(self.sshd.kill)
        known = self.sshd.known_hosts_line()
        (self.config.state / "known_hosts").write_text(known)
        (self.sshd.folder / "known_hosts").write_text(known)
        self.agent = self.start_agent("agent", max_sessions=8)
        self.relays = [self.start_agent(name, relay=256) for name in ("relay1", "relay2")]
        self.peer(self.relays[0], "host", self.agent)
        self.peer(self.relays[0], "relay2", self.relays[1])
        self.peer(self.relays[1], "host", self.agent)
        self.connections = Connections(self.config, SystemClock())
        self._closing.callback(self.connections.close)
        self._stores = 0

    def close(self) -> None:
        self._closing.close()

    def start_agent(self, name: str, **settings: Any) -> RunningAgent:
        """A running agent that trusts the collector."""
        agent = RunningAgent(self.base / name, **settings)
        agent.trust("bench", self.identity.certificate_pem)
        agent.start()
        self._closing.callback(agent.stop)
        return agent

    def peer(self, relay: RunningAgent, name: str, peer: RunningAgent) -> None:
        relay.peer(name, peer.address)
        relay.reload()

    def pinned(self, host: Host, agent: RunningAgent) -> Host:
        pin(self.config, host.name, agent.certificate_pem)
        return host

    def first(self, kind: str, name: str, agent: RunningAgent) -> Host:
        """A host that is reached over no relay: "direct", "sshtunnel" or "openssh"."""
        if kind == "direct":
            return self.pinned(direct_host(agent.port, name), agent)
        return self.pinned(ssh_host(self.sshd, agent.port, name, transport=kind), agent)  # type: ignore[arg-type]

    def host(self, kind: str, relays: int, through: Through = lambda host: host) -> Host:
        """The host behind so many relays; `through` may change how the first hop is reached."""
        if not relays:
            return through(self.first(kind, f"{kind}-0", self.agent))
        way = through(self.first(kind, f"{kind}-relay1", self.relays[0]))
        if relays == 2:
            way = self.pinned(relayed_host(way, "relay2", f"{kind}-relay2"), self.relays[1])
        return self.pinned(relayed_host(way, "host", f"{kind}-{relays}"), self.agent)

    def port(self, host: Host) -> int:
        """Where a host is reached first that is behind no relay."""
        return host.agent_port if host.transport == "direct" else host.ssh.port

    def at_port(self, host: Host, port: int) -> Host:
        """It, reached first at that port, and called differently."""
        if host.transport == "direct":
            return replace(host, agent_port=port)
        line = self.sshd.known_hosts_line().replace(f":{self.sshd.port} ", f":{port} ")
        with (self.config.state / "known_hosts").open("a") as file:
            file.write(line)
        return replace(host, ssh=replace(host.ssh, port=port))

    @contextlib.contextmanager
    def store(self) -> Any:
        """A collector's store and catalog that know nothing yet, and that are gone afterwards."""
        self._stores += 1
        folder = self.base / f"store{self._stores}"
        puller = Puller(folder, self.identity)
        try:
            yield puller
        finally:
            puller.close()
            shutil.rmtree(folder)

    def pull(self, host: Host, module: str) -> tuple[float, Costs]:
        """The first pull of a module, on a route that is open: seconds, and processor time of each part."""
        with self.connections.agent(host) as client, self.store() as puller:
            return self.cost(lambda: puller.pull(client, module))

    def check(self, client: AgentClient, module: str) -> None:
        """What the daemon does to see whether anything changed."""
        offers = client.modules(fingerprints=True, names=[module])
        assert offers[0].fingerprint is not None

    def rsync(self, source: Path, jumps: int) -> tuple[float, Costs]:
        """`rsync -a` over ssh with so many jump hosts, into an empty directory."""
        config, target = self.sshd.folder / "ssh_config", self.base / "rsync-target"
        config.write_text(
            f"Host *\nHostName 127.0.0.1\nPort {self.sshd.port}\nUser {self.sshd.user}\n"
            f"IdentityFile {self.sshd.user_key}\nIdentitiesOnly yes\n"
            f"UserKnownHostsFile {self.sshd.folder}/known_hosts\n"
        )
        way = ["-J", ",".join(f"jump{number}" for number in range(jumps))] if jumps else []
        shell = " ".join(["ssh", "-F", str(config), *way])
        argv = ["rsync", "-a", "-e", shell, f"target:{source}/", f"{target}/"]
        try:
            return self.cost(lambda: subprocess.run(argv, check=True, stdin=subprocess.DEVNULL))
        finally:
            shutil.rmtree(target, ignore_errors=True)

    def cost(self, work: Callable[[], object]) -> tuple[float, Costs]:
        os.sync()  # what was written before is not this run's to wait for
        began, before = time.perf_counter(), self._cpu()
        work()
        wall, after = time.perf_counter() - began, self._cpu()
        return wall, {part: after[part] - before[part] for part in after}

    def _cpu(self) -> Costs:
        """Processor time so far: the collector, its children (rsync, or ssh), and what is on the way and at its end."""
        assert self.sshd._process is not None
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # what bubblewrap leaves behind: the rsync in it
                pass
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return {
            "collector": time.process_time(),
            "rsync": children.ru_utime + children.ru_stime,
            "sshd": tree_cpu(self.sshd._process.pid),
            "relay1": tree_cpu(self.relays[0].pid),
            "relay2": tree_cpu(self.relays[1].pid),
            "agent": tree_cpu(self.agent.pid),
        }


def peak_rss(agent: RunningAgent, *, anew: bool = False) -> int:
    """The most memory that its process had so far, in bytes; from now on, with `anew`."""
    if anew:
        Path(f"/proc/{agent.pid}/clear_refs").write_text("5")
    lines = Path(f"/proc/{agent.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
