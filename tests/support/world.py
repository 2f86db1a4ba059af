"""A whole world in one folder: a host (sshd and agent) and a collector that reaches it through the SSH forward.

Everything is run as an administrator runs it: by the two commands, as processes of their own. `close` ends them all.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.sshd import Sshd
from tests.support.waiting import until

# Longer than anything here takes on a busy machine.
PATIENCE = 60.0


class World:
    """A host called `host` and a collector. `folder` should be short: paths of sockets are."""

    def __init__(self, folder: Path, host: str = "web1") -> None:
        self.folder = folder
        self.host = host
        self.site = folder / "host" / "site"
        self.agent_folder = folder / "host" / "agent"
        self.collector = folder / "collector"
        self.invitation = folder / "invitation.txt"
        self.config = self.collector / "collector.toml"
        self.daemon: subprocess.Popen[bytes] | None = None
        self.agent: subprocess.Popen[bytes] | None = None
        home = folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PYRSYNCBACKUP")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYRSYNCBACKUP_CONFIG": str(self.config),
            # Keys that the user of this machine knows shall not count.
            "HOME": str(home),
        }
        self.sshd = Sshd(folder / "host" / "sshd")
        self.agent_port = _free_port()

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
        address = self.agent_folder / "run" / "address"
        address.unlink(missing_ok=True)
        self.agent = self._start("agent.log", *self.agent_command("serve"))
        until(lambda: address.exists() or self._ended(self.agent), PATIENCE, "the agent to start")
        assert address.exists(), (self.folder / "agent.log").read_text()

    def agent_command(self, *arguments: str) -> list[str]:
        """A command line of the agent's program with this agent's settings."""
        name, *rest = arguments
        return ["pyrsyncbackup-agent", name, "--config", str(self.agent_folder / "agent.toml"), *rest]

    # The collector

    def make_collector(self, *lines: str) -> None:
        """`pyrsyncbackup init`, and the host's definition with further `lines`."""
        self.run("init", str(self.collector))
        text = self.config.read_text()
        runtime = next(line for line in text.splitlines() if line.startswith("# runtime = "))
        self.config.write_text(text.replace(runtime, 'runtime = "run"'))
        definition = [
            "[[host]]",
            f'name = "{self.host}"',
            'address = "127.0.0.1"',
            f'ssh = {{ user = "{self.sshd.user}", port = {self.sshd.port} }}',
            f"agent_port = {self.agent_port}",
            *lines,
        ]
        (self.collector / "hosts.d" / f"{self.host}.toml").write_text("\n".join(definition) + "\n")

    def make_trust(self) -> None:
        """Invitation, accept, the line for authorized_keys, `host trust` with the right SSH fingerprint."""
        self.invitation.write_text(self.run("invitation", self.host))
        accept = self.agent_command("accept", str(self.invitation))
        done = subprocess.run(accept, env=self.environment, check=True, capture_output=True, text=True)
        self.let_in(done.stdout)
        self.run("host", "trust", self.host, "--ssh-fingerprint", self.ssh_fingerprint)

    def let_in(self, accepted: str) -> None:
        """Put the line that `accept` printed where the host's sshd looks."""
        line = next(line for line in accepted.splitlines() if "permitopen" in line)
        self.sshd.authorized_keys.write_text(line + "\n")

    @property
    def ssh_fingerprint(self) -> str:
        """The fingerprint of the SSH host key, as the host's administrator reads it."""
        key = self.sshd.folder / "host_ed25519.pub"
        return subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, check=True, text=True).stdout.split()[1]

    def start_daemon(self) -> None:
        """Start the collector's daemon, and wait until it says that it is there."""
        self.daemon = self._start("daemon.log", "pyrsyncbackup", "daemon")
        until(lambda: self._ended(self.daemon) or self.ask("status", codes=(0, 14))["daemon"], PATIENCE, "the daemon")
        assert not self._ended(self.daemon), (self.folder / "daemon.log").read_text()

    def stop_daemon(self) -> int:
        """End it in order; returns its exit code."""
        assert self.daemon is not None
        code = _end(self.daemon)
        self.daemon = None
        return code

    # Commands

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `pyrsyncbackup` to its end, whatever that is."""
        return subprocess.run(
            ["pyrsyncbackup", *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=2 * PATIENCE,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def run(self, *arguments: str, codes: Sequence[int] = (0,)) -> str:
        """Run `pyrsyncbackup`; its output. Fails if it ends with none of `codes`."""
        done = self.command(*arguments)
        assert done.returncode in codes, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def ask(self, *arguments: str, codes: Sequence[int] = (0,)) -> Any:
        """Run `pyrsyncbackup ... --json`; its answer."""
        return json.loads(self.run(*arguments, "--json", codes=codes))

    # The end

    def close(self) -> None:
        """End all processes; a second time does nothing."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.sshd.kill)
            for process in (self.agent, self.daemon):
                if process is not None:
                    stack.callback(_end, process)

    def _start(self, log: str, *argv: str) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as output:
            return subprocess.Popen(
                argv,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C is for who runs this; it ends these in its order.
                start_new_session=True,
            )

    @staticmethod
    def _ended(process: subprocess.Popen[bytes] | None) -> bool:
        return process is not None and process.poll() is not None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        # Its children are in its session: none is left behind.
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()
