"""A collector's configuration and a host in it, for tests of what lies between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pyrsyncbackup_collector.config.model import Config, Limits, PolicySettings
from pyrsyncbackup_collector.fleet.hosts import Host, Ssh

from tests.support.sshd import Sshd


def make_config(folder: Path, **limits: Any) -> Config:
    """A configuration whose directories are all in `folder`; short timeouts."""
    return Config(
        file=folder / "collector.toml",
        store=folder / "store",
        catalog=folder / "catalog.sqlite",
        state=folder / "state",
        runtime=folder / "run",
        sandbox="require",
        limits=Limits(**{"connect": "5s", **limits}),
        policy=PolicySettings(),
        rules=(),
        hosts=(),
    )


def ssh_host(sshd: Sshd, agent_port: int, name: str = "web1", **more: Any) -> Host:
    """A host behind `sshd`, whose own file of known hosts stands for the user's."""
    ssh = Ssh(sshd.user, sshd.port, sshd.user_key, known_hosts=sshd.folder / "user_known_hosts")
    return Host(name, "127.0.0.1", "sshtunnel", ssh, agent_port, **more)


def direct_host(agent_port: int, name: str = "web1", **more: Any) -> Host:
    """A host whose agent is reached without SSH."""
    return Host(name, "127.0.0.1", "direct", Ssh("nobody", 22, Path("/nonexistent")), agent_port, **more)
