"""The collector's side as an administrator has it: a configuration, the commands, the daemon as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.waiting import until

# Longer than anything here takes on a busy machine.
PATIENCE = 60.0


class Desk:
    """A collector below `folder`, which should be short: paths of sockets are. `prefix` is that of a network's node."""

    def __init__(self, folder: Path, prefix: Sequence[str] = ()) -> None:
        self.folder = folder
        self.prefix = tuple(prefix)
        self.collector = folder / "collector"
        self.config = self.collector / "collector.toml"
        self.daemon: subprocess.Popen[bytes] | None = None
        # Keys that the user of this machine knows shall not count.
        self.home = folder / "home"
        self.home.mkdir(parents=True, exist_ok=True)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PYRSYNCBACKUP")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYRSYNCBACKUP_CONFIG": str(self.config),
            "HOME": str(self.home),
        }

    def make(self, more: str = "") -> None:
        """`pyrsyncbackup init`; `more` is added to collector.toml."""
        self.run("init", str(self.collector))
        text = self.config.read_text()
        runtime = next(line for line in text.splitlines() if line.startswith("# runtime = "))
        self.config.write_text(text.replace(runtime, 'runtime = "run"') + more)

    def define(self, host: str, *lines: str) -> None:
        """Write the host's definition into a file of its own."""
        text = "\n".join(["[[host]]", f'name = "{host}"', *lines]) + "\n"
        (self.collector / "hosts.d" / f"{host}.toml").write_text(text)

    def start_daemon(self) -> None:
        """Start the collector's daemon, and wait until it says that it is there."""
        self.daemon = self.launch("daemon.log", *self.prefix, "pyrsyncbackup", "daemon")
        until(lambda: self.ended(self.daemon) or self.ask("status", codes=(0, 14))["daemon"], PATIENCE, "the daemon")
        assert not self.ended(self.daemon), (self.folder / "daemon.log").read_text()

    def stop_daemon(self) -> int:
        """End it in order; returns its exit code."""
        assert self.daemon is not None
        code = end(self.daemon)
        self.daemon = None
        return code

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `pyrsyncbackup` to its end, whatever that is."""
        return subprocess.run(
            [*self.prefix, "pyrsyncbackup", *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=4 * PATIENCE,
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

    def problems(self) -> list[dict[str, Any]]:
        """What `status` says that somebody should look at, save that no daemon runs."""
        found: list[dict[str, Any]] = self.ask("status", codes=(0, 14))["problems"]
        return [each for each in found if each["state"] != "stopped"]

    def launch(self, log: str, *argv: str) -> subprocess.Popen[bytes]:
        """Start a program whose output goes to the file `log` in the folder."""
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

    def close(self) -> None:
        """End the daemon; a second time does nothing."""
        if self.daemon is not None:
            end(self.daemon)

    @staticmethod
    def ended(process: subprocess.Popen[bytes] | None) -> bool:
        """Whether it has run, and runs no more."""
        return process is not None and process.poll() is not None


def end(process: subprocess.Popen[bytes]) -> int:
    """End a process in order, else at once; its exit code."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        # Its children are in its session: none is left behind.
        os.killpg(process.pid, signal.SIGKILL)
        return process.wait()
