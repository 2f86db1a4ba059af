"""A real collector daemon: a process of its own below one directory, with keys, store, catalog and configuration."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyrsyncbackup import identity
from pyrsyncbackup_collector.catalog import Catalog
from pyrsyncbackup_collector.config import Config, load
from pyrsyncbackup_collector.store.store import Store
from pyrsyncbackup_collector.transport.invitations import own_identity

from tests.support.agent import RunningAgent
from tests.support.waiting import until

_MAIN = """
import sys
from pathlib import Path
from pyrsyncbackup_collector import config, daemon, logs
logs.configure(level="debug")
daemon.run(config.load(Path(sys.argv[1])))
"""


# Settings with which it checks at its start, and then pulls what is asked for and what changed until then. Times of a
# day or an hour come by in the middle of some test.
NEVER_BY_ITSELF = '[policy]\ncheck = "100y"\npull = "100y"\n'


class RunningCollector:
    """A collector below `base`. `configure` writes its files; `start` and `stop` may be repeated.

    `settings` is what stands in collector.toml below store and catalog.
    """

    def __init__(self, base: Path, settings: str = "") -> None:
        self.base = base
        self.file = base / "collector.toml"
        (base / "hosts.d").mkdir(parents=True)
        self.log_file = base / "daemon.log"
        self.settings(settings)
        store = Store.create(base / "store")
        Catalog.create(base / "catalog.sqlite", store).close()
        self.identity = own_identity(base)
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}

    @property
    def config(self) -> Config:
        """What is written now."""
        return load(self.file)

    def settings(self, text: str) -> None:
        """Write collector.toml."""
        self.file.write_text(f'store = "store"\ncatalog = "catalog.sqlite"\nruntime = "run"\n{text}\n')

    def host(self, name: str, agent: RunningAgent, more: str = "") -> None:
        """Define a host with a running agent, reached directly, which both sides trust."""
        agent.trust("collector", self.identity.certificate_pem)
        (self.base / "pins").mkdir(mode=0o700, exist_ok=True)
        identity.write_atomically(self.base / "pins" / f"{name}.pem", agent.certificate_pem, 0o600)
        self.unreachable_host(name, agent.port, more)

    def unreachable_host(self, name: str, port: int, more: str = "") -> None:
        """Define a host on a port of this machine, whatever is there."""
        (self.base / "hosts.d" / f"{name}.toml").write_text(
            f'[[host]]\nname = "{name}"\naddress = "127.0.0.1"\ntransport = "direct"\nagent_port = {port}\n{more}\n'
        )

    def start(self, ready: bool = True) -> RunningCollector:
        """Start the daemon, and wait until it is ready."""
        already = len(self.events("ready"))
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, str(self.file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | self.environment,
            )
        if ready:
            try:
                until(lambda: self._is_ready(already), what=f"the daemon to start, see {self.log_file}")
            except BaseException:
                self.stop(signal.SIGKILL)
                raise
        return self

    def send(self, number: int) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM, timeout: float = 60) -> int:
        """End it with a signal; returns the exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        finally:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _is_ready(self, already: int) -> bool:
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"the daemon ended at start:\n{self.log}")
        return len(self.events("ready")) > already

    def __enter__(self) -> RunningCollector:
        return self.start() if self.process is None else self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()

    @property
    def log(self) -> str:
        """What it logged so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def events(self, event: str | None = None, **fields: object) -> list[Mapping[str, Any]]:
        """Log lines with this event and these fields."""
        # The last one may be there in part.
        lines = self.log.splitlines(keepends=True)
        found = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}\n")]
        return [
            line
            for line in found
            if event in (None, line["event"]) and all(line.get(key) == value for key, value in fields.items())
        ]

    def catalog(self) -> Catalog:
        """Another connection to its catalog; close it."""
        with Store.open(self.base / "store") as store:
            return Catalog.open(self.base / "catalog.sqlite", store.id)

    def snapshots(self, host: str, module: str) -> list[str]:
        """Names of the snapshots in the store."""
        with Store.open(self.base / "store") as store:
            return [one.name for one in store.recorded(host, module)]
