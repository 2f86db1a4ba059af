"""A collector and hosts in a network of their own, with real sshds and agents, each in its node.

What is common to all tests of routes is done here by the shortest way: `introduce` writes pins, known hosts and
authorized keys as the commands would. A test of how trust comes about uses the commands instead.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pyrsyncbackup import identity

from tests.support.agent import RunningAgent
from tests.support.comparison import as_rsync_sees
from tests.support.desk import Desk
from tests.support.network import Network, Node
from tests.support.sshd import Sshd

AGENT_PORT = 9737
SSH_PORT = 2222


class Site:
    """A host in a node of the network: an agent that offers one module, "data", and an sshd if it is given one."""

    def __init__(self, folder: Path, node: Node, listen: str, peers: Mapping[str, str] | None) -> None:
        self.name, self.node = node.name, node
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        where = f"{listen}:{AGENT_PORT}"
        self.agent = RunningAgent(folder / "agent", node.prefix, relay=peers is not None, name=node.name, listen=where)
        for name, address in (peers or {}).items():
            self.agent.peer(name, address)
        self.agent.module("data", self.data)
        self.sshd: Sshd | None = None

    def fill(self, files: int, size: int, seed: int = 0) -> None:
        """So many files of so many bytes each, all different, in directories of a hundred."""
        for number in range(files):
            file = self.data / f"{number // 100:03}" / f"{number:05}"
            file.parent.mkdir(exist_ok=True)
            line = f"{self.name} {seed} {number}\n".encode()
            file.write_bytes((line * (size // len(line) + 1))[:size])


class RoutesWorld(Desk):
    """Everything below `folder`, which should be short. Make sites and sshds, then `start` and `introduce`."""

    def __init__(self, folder: Path) -> None:
        self.net = Network()
        self.net.__enter__()
        self.node = self.net.node("collector")
        super().__init__(folder, self.node.prefix)
        self.sites: dict[str, Site] = {}
        self.sshds: dict[str, Sshd] = {}

    def site(self, node: Node, *, listen: str = "127.0.0.1", peers: Mapping[str, str] | None = None) -> Site:
        """A host in `node`; `peers` (names to addresses) make its agent a relay."""
        site = self.sites[node.name] = Site(self.folder / node.name, node, listen, peers)
        return site

    def sshd(self, node: Node, address: str) -> Sshd:
        """An sshd in `node`, with the node's site or without."""
        server = self.sshds[node.name] = Sshd(self.folder / node.name / "sshd", node, address, SSH_PORT)
        if node.name in self.sites:
            self.sites[node.name].sshd = server
        return server

    def start(self) -> None:
        """Start all agents and sshds, and wait until they answer."""
        with ThreadPoolExecutor() as pool:
            started = [pool.submit(site.agent.start) for site in self.sites.values()]
            started += [pool.submit(sshd.start) for sshd in self.sshds.values()]
        for future in started:
            future.result()

    def introduce(self, *, agents: bool = True) -> None:
        """Let the collector in at every sshd, make those known, and let it and all agents trust each other."""
        certificate = (self.collector / "identity" / identity.CERTIFICATE_FILE).read_bytes()
        for sshd in self.sshds.values():
            sshd.authorize(self.collector / "ssh" / "id_ed25519.pub")
        (self.collector / "known_hosts").write_text("".join(each.known_hosts_line() for each in self.sshds.values()))
        (self.collector / "pins").mkdir(mode=0o700, exist_ok=True)
        for name, site in self.sites.items():
            if agents:
                site.agent.trust("backup1", certificate)
                identity.write_atomically(self.collector / "pins" / f"{name}.pem", site.agent.certificate_pem, 0o600)

    def make(self, more: str = "") -> None:
        """`pyrsyncbackup init`; no module but "data" is pulled by the daemon. `more` is added to collector.toml."""
        only_data = '[[rule]]\nmodules = "*"\nenabled = false\n[[rule]]\nmodules = "data"\nenabled = true\n'
        super().make(f"{more}{only_data}")

    def know(self, sshd: Sshd, jump: str) -> None:
        """Make the host key of a server known that is reached through the SSH connection of `jump`."""
        name, rest = sshd.known_hosts_line().split(" ", 1)
        with (self.collector / "known_hosts").open("a") as file:
            file.write(f"{name}@{jump} {rest}")

    def define(self, host: str, *lines: str) -> None:
        """Write a host's definition, with this one module; before `make`, too."""
        (self.collector / "hosts.d").mkdir(mode=0o700, parents=True, exist_ok=True)
        super().define(host, 'modules = { include = ["data"] }', *lines)

    def over_ssh(self, sshd: Sshd, jump: str = "") -> tuple[str, str]:
        """The lines of a host that is reached by its sshd, through the SSH connection of `jump` if given."""
        more = f', jump = "{jump}"' if jump else ""
        return f'address = "{sshd.known_as}"', f'ssh = {{ user = "{sshd.user}", port = {sshd.port}{more} }}'

    def pull(self, *hosts: str) -> dict[str, tuple[str, str | None]]:
        """Pull these; the outcome of each host's module, with the cause if it failed."""
        return {
            pull["host"]: (pull["outcome"], pull["error"] and pull["error"]["cause"])
            for pull in self.ask("pull", *hosts, codes=range(16))["pulls"]
        }

    def begin_pull(self, *hosts: str) -> subprocess.Popen[bytes]:
        """Start to pull these; `end_pull` says what came of it."""
        command = ("pyrsyncbackup", "pull", *hosts, "--json")
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return self.node.popen(*command, env=self.environment, cwd=self.folder, **pipes)

    @staticmethod
    def end_pull(process: subprocess.Popen[bytes], timeout: float = 150) -> dict[str, str]:
        """Wait for it; the outcome of each host's module. Fails if one failed."""
        try:
            answer, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"the pull did not end:\n{process.communicate()[1].decode()}") from None
        assert process.returncode == 0, f"{process.returncode}\n{answer.decode()}\n{errors.decode()}"
        return {pull["host"]: pull["outcome"] for pull in json.loads(answer)["pulls"]}

    def restored_alike(self, host: str) -> bool:
        """Whether a restored newest snapshot equals what the host has, in rsync's eyes."""
        data = self.sites[host].data
        with tempfile.TemporaryDirectory(dir=self.folder) as target:
            self.run("restore", f"{host}/data", "--to", target)
            return as_rsync_sees(data, Path(target) / data.relative_to("/")) == ""

    def close(self) -> None:
        """End all processes, and remove the network; a second time does nothing."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.net)
            for sshd in self.sshds.values():
                stack.callback(sshd.kill)
            for site in self.sites.values():
                stack.callback(site.agent.stop)
            stack.callback(super().close)


@contextlib.contextmanager
def routes_world() -> Iterator[RoutesWorld]:
    """A world with a collector that is configured, in a folder of its own."""
    # Sockets allow 107 bytes of path: pytest's own directories are too long.
    with tempfile.TemporaryDirectory(prefix="n-", dir="/tmp") as folder:
        world = RoutesWorld(Path(folder))
        try:
            yield world
        finally:
            world.close()
