"""A host and a collector on this machine, reached over a real sshd and directly, with what each side costs."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pyrsyncbackup_collector.clock import SystemClock
from pyrsyncbackup_collector.config.load import load
from pyrsyncbackup_collector.fleet.hosts import Fleet
from pyrsyncbackup_collector.pull.report import PullReport
from pyrsyncbackup_collector.transport.agent_client import AgentClient
from pyrsyncbackup_collector.transport.connections import Connections

from tests.support.agent import RunningAgent
from tests.support.openssh import clients
from tests.support.puller import Puller
from tests.support.sshd import Sshd

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """Seconds: wall, processor time at the collector (or rsync's client) and at the host (agent, sshd, or rsync)."""

    wall: float
    collector: float
    host: float

    @staticmethod
    def median(costs: list[Cost]) -> Cost:
        return Cost(*(statistics.median(getattr(c, name) for c in costs) for name in ("wall", "collector", "host")))

    def line(self) -> dict[str, float]:
        return {
            "wall_s": round(self.wall, 4),
            "collector_cpu_s": round(self.collector, 4),
            "host_cpu_s": round(self.host, 4),
        }


class Scene:
    """Everything below `base`. `direct` and `tunnel` are connections with the agent; names of hosts are free."""

    def __init__(self, base: Path) -> None:
        self.base = base
        base.chmod(0o755)  # so that what lies below is public, as configuration is on a server
        self.sshd = Sshd(base / "sshd")
        self.sshd.start()
        (self.sshd.folder / "known_hosts").write_text(self.sshd.known_hosts_line())
        self.agent = RunningAgent(base / "agent", max_sessions=8)
        self.agent.start()
        self.puller = Puller(base / "collector", self.agent.collector)
        self._connections: list[object] = []

    def close(self) -> None:
        for connection in self._connections:
            connection.close()  # type: ignore[attr-defined]
        self.puller.close()
        self.agent.stop()
        self.sshd.kill()

    def direct(self, host: str = "web1") -> AgentClient:
        client = self.puller.client(self.agent.address, self.agent.certificate_pem, host)
        self._connections.append(client)
        return client

    def tunnel(self, transport: str = "sshtunnel") -> AgentClient:
        """An open connection through SSH, as the daemon makes it."""
        state = self.base / f"state-{transport}"
        for name in ("identity", "pins", "hosts.d"):
            (state / name).mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.agent.base / "collector-identity", state / "identity", dirs_exist_ok=True)
        (state / "pins" / "web1.pem").write_bytes(self.agent.certificate_pem)
        (state / "known_hosts").write_text(self.sshd.known_hosts_line())
        (state / "collector.toml").write_text(f'store = "store"\ncatalog = "c"\nruntime = "{state}/run"\n')
        (state / "hosts.d" / "web.toml").write_text(
            f'[[host]]\nname = "web1"\naddress = "127.0.0.1"\nagent_port = {self.agent.port}\n'
            f'transport = "{transport}"\n'
            f'ssh = {{ user = "{self.sshd.user}", port = {self.sshd.port}, key = "{self.sshd.user_key}" }}\n'
        )
        config = load(state / "collector.toml")
        connections = Connections(config, SystemClock())
        held = connections.agent(Fleet.from_config(config).host("web1"))
        client = held.__enter__()
        self._connections.append(_Held(held, connections))
        return client

    def openssh(self) -> AgentClient:
        """An open connection by OpenSSH's own client."""
        return self.tunnel("openssh")

    def pull(self, client: AgentClient, module: str) -> tuple[Cost, PullReport]:
        reports: list[PullReport] = []
        cost = self.cost(lambda: reports.append(self.puller.pull(client, module)))
        return cost, reports[0]

    def rsync(self, source: Path, target: Path) -> Cost:
        """`rsync -a` over ssh, a login each time, as plain backup scripts do."""
        sshd = self.sshd
        shell = f"ssh -p {sshd.port} -i {sshd.user_key} -o UserKnownHostsFile={sshd.folder}/known_hosts"
        argv = ["rsync", "-a", "-e", shell, f"{sshd.user}@127.0.0.1:{source}/", f"{target}/"]
        return self.cost(lambda: subprocess.run(argv, check=True, stdin=subprocess.DEVNULL))

    def cost(self, work: Callable[[], object]) -> Cost:
        assert self.sshd._process is not None
        host = (self.agent.pid, self.sshd._process.pid)
        os.sync()  # source and store share a file system here: what was written before is not this run's to wait for
        before = (time.perf_counter(), _own(), sum(map(tree_cpu, host)))
        work()
        wall = time.perf_counter() - before[0]
        return Cost(wall, _own() - before[1], sum(map(tree_cpu, host)) - before[2])


class _Held:
    def __init__(self, held: object, connections: Connections) -> None:
        self._held, self._connections = held, connections

    def close(self) -> None:
        self._held.__exit__(None, None, None)  # type: ignore[attr-defined]
        self._connections.close()


def _own() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    connections = sum(map(tree_cpu, clients()))  # processes that go on
    return time.process_time() + children.ru_utime + children.ru_stime + connections


def tree_cpu(pid: int) -> float:
    """Processor time of a process, its living descendants, and its children that were waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    total = sum(int(field) for field in fields[11:15]) / TICK
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # ended meanwhile
            total += sum(tree_cpu(int(child)) for child in (thread / "children").read_text().split())
    return total
