"""A collector's configuration and a host in it, for tests of what lies between."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from pyrsyncbackup import identity
from pyrsyncbackup_collector.config.model import Config, Limits, PolicySettings, Space, Upkeep
from pyrsyncbackup_collector.fleet.hosts import Host, Ssh
from pyrsyncbackup_collector.transport.invitations import own_identity

from tests.support.agent import RunningAgent
from tests.support.sshd import Sshd


def make_config(folder: Path, **limits: Any) -> Config:
    """A configuration whose directories are all in `folder`; patient, for machines that are busy."""
    return Config(
        file=folder / "collector.toml",
        store=folder / "store",
        catalog=folder / "catalog.sqlite",
        state=folder / "state",
        runtime=folder / "run",
        mirror_dir=folder / "mirror",
        sandbox="require",
        limits=Limits(**{"connect": "60s", **limits}),
        upkeep=Upkeep(),
        space=Space(),
        policy=PolicySettings(),
        rules=(),
        hosts=(),
    )


def ssh_host(
    sshd: Sshd,
    agent_port: int,
    name: str = "web1",
    *,
    transport: Literal["sshtunnel", "openssh"] = "sshtunnel",
    **more: Any,
) -> Host:
    """A host behind `sshd`, whose own file of known hosts stands for the user's."""
    ssh = Ssh(sshd.user, sshd.port, sshd.user_key, known_hosts=sshd.folder / "user_known_hosts")
    return Host(name, "127.0.0.1", transport, ssh, agent_port, **more)


def direct_host(agent_port: int, name: str = "web1", **more: Any) -> Host:
    """A host whose agent is reached without SSH."""
    return Host(name, "127.0.0.1", "direct", Ssh("nobody", 22, Path("/nonexistent")), agent_port, **more)


def relayed_host(relay: Host, peer: str, name: str = "web1", **more: Any) -> Host:
    """A host behind `relay`, which calls it `peer`."""
    return Host(name, name, "relay", Ssh("nobody", 22, Path("/nonexistent")), 9737, via=(relay,), peer=peer, **more)


def changed(host: Host, **values: Any) -> Host:
    """The host with other values; `ssh_...` are those of its SSH server."""
    ssh = {key[4:]: value for key, value in values.items() if key.startswith("ssh_")}
    rest = {key: value for key, value in values.items() if not key.startswith("ssh_")}
    return dataclasses.replace(host, ssh=dataclasses.replace(host.ssh, **ssh), **rest)


def introduce(config: Config, agent: RunningAgent, *names: str) -> None:
    """Have collector and agent trust each other, whatever the collector calls it."""
    own = own_identity(config.state)
    agent.trust("ours", own.certificate_pem)
    for name in names:
        pin(config, name, agent.certificate_pem)


def pin(config: Config, name: str, certificate_pem: bytes) -> None:
    """Make it the right one for the host of that name, without a look at other pins."""
    (config.state / "pins").mkdir(mode=0o700, parents=True, exist_ok=True)
    identity.write_atomically(config.state / "pins" / f"{name}.pem", certificate_pem, 0o600)
