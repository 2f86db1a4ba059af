"""A whole world in one folder: a host (sshd and agent) and a collector that reaches it through the SSH forward.

Everything is run as an administrator runs it: by the two commands, as processes of their own. `close` ends them all.
"""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

from tests.support.desk import PATIENCE, Desk, end
from tests.support.sshd import Sshd
from tests.support.tcp import closed_port
from tests.support.waiting import until


class World(Desk):
    """A host called `host` and a collector. `folder` should be short: paths of sockets are."""

    def __init__(self, folder: Path, host: str = "web1") -> None:
        super().__init__(folder)
        self.host = host
        self.site = folder / "host" / "site"
        self.agent_folder = folder / "host" / "agent"
        self.invitation = folder / "invitation.txt"
        self.agent: subprocess.Popen[bytes] | None = None
        self.sshd = Sshd(folder / "host" / "sshd")
        self.agent_port = closed_port()

    # The host

    def make_host(self, module: str = "site", title: str = "A web site") -> None:
        """Write the agent's settings, and a module for the directory `site`."""
        modules = self.agent_folder / "modules.d"
        for directory in (self.site, modules):
            directory.mkdir(parents=True, exist_ok=True)
        (modules / f"{module}.toml").write_text(f'title = "{title}"\npaths = ["{self.site}"]\n')
        lines = {
            "name": self.host,
            "listen": f"127.0.0.1:{self.agent_port}",
            "state_dir": str(self.agent_folder / "state"),
            "runtime_dir": str(self.agent_folder / "run"),
            "collectors_dir": str(self.agent_folder / "collectors.d"),
        }
        text = "".join(f'{key} = "{value}"\n' for key, value in lines.items())
        (self.agent_folder / "agent.toml").write_text(f'{text}module_dirs = ["{modules}"]\n')

    def start_host(self) -> None:
        """Start sshd and the agent, and wait until both answer."""
        self.sshd.start()
        self.start_agent()

    def start_agent(self) -> None:
        """Start the agent, and wait until it answers."""
        address = self.agent_folder / "run" / "address"
        address.unlink(missing_ok=True)
        self.agent = self.launch("agent.log", *self.agent_command("serve"))
        until(lambda: address.exists() or self.ended(self.agent), PATIENCE, "the agent to start")
        assert address.exists(), (self.folder / "agent.log").read_text()

    def restart_agent(self) -> None:
        """End the agent and start it with the settings that are written now."""
        assert self.agent is not None
        end(self.agent)
        self.start_agent()

    def agent_command(self, *arguments: str) -> list[str]:
        """A command line of the agent's program with this agent's settings."""
        name, *rest = arguments
        return ["pyrsyncbackup-agent", name, "--config", str(self.agent_folder / "agent.toml"), *rest]

    # The collector

    def make_collector(self, *lines: str) -> None:
        """`pyrsyncbackup init`, and the host's definition with further `lines`."""
        self.make()
        self.define(
            self.host,
            'address = "127.0.0.1"',
            f'ssh = {{ user = "{self.sshd.user}", port = {self.sshd.port} }}',
            f"agent_port = {self.agent_port}",
            *lines,
        )

    def make_trust(self) -> None:
        """Invitation, accept, the line for authorized_keys, `host trust` with the right SSH fingerprint."""
        self.invitation.write_text(self.run("invitation", self.host))
        accept = self.agent_command("accept", str(self.invitation))
        done = subprocess.run(accept, env=self.environment, check=True, capture_output=True, text=True)
        self.sshd.let_in(done.stdout)
        self.run("host", "trust", self.host, "--ssh-fingerprint", self.sshd.fingerprint)

    # The end

    def close(self) -> None:
        """End all processes; a second time does nothing."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.sshd.kill)
            if self.agent is not None:
                stack.callback(end, self.agent)
            stack.callback(super().close)
