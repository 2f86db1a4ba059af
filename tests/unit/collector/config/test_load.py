"""What is written arrives as values."""

from __future__ import annotations

from pathlib import Path

from pyrsyncbackup_collector.config import Keep, load
from pyrsyncbackup_collector.config.model import HostConfig, Limits, ModuleFilter, Rule, SshConfig

MAIN = """
store = "/srv/store"
catalog = "data/catalog.sqlite"
runtime = "run"

[limits]
pulls = 4
max_file_size = "1.5GiB"
idle = "90s"

[policy]
check = "15m"
pull = "1d"
keep = { last = 3, hourly = 24, within = "2w" }

[[rule]]
hosts = "db*"
modules = "postgresql*"
check = "off"
"""
WEB = """
[[host]]
name = "web1"
address = "web1.example.org"
ssh = { user = "backup", port = 2222, key = "ssh/id_ed25519" }
agent_port = 9000
transport = "direct"
modules = { include = ["etc", "nginx*"], exclude = ["nginx-cache"] }
bwlimit = "10M"
enabled = false
trust = "pinned"

[[rule]]
hosts = "web[12]"
pull = "1h30m"
share = "off"
"""


def test_every_key_arrives_and_paths_are_relative_to_the_main_file(tmp_path: Path) -> None:
    (tmp_path / "collector.toml").write_text(MAIN)
    (tmp_path / "hosts.d").mkdir()
    (tmp_path / "hosts.d" / "web.toml").write_text(WEB)
    (tmp_path / "hosts.d" / "README").write_text("not read")
    config = load(tmp_path / "collector.toml")
    assert (config.store, config.catalog) == (Path("/srv/store"), tmp_path / "data/catalog.sqlite")
    assert (config.state, config.runtime) == (tmp_path, tmp_path / "run")
    assert config.sandbox == "require"
    assert config.limits == Limits(pulls=4, max_file_size="1.5GiB", idle="90s")  # type: ignore[arg-type]
    assert (config.limits.max_file_size, config.limits.idle) == (3 << 29, 90.0)
    assert config.policy.keep == Keep(last=3, hourly=24, within="2w")  # type: ignore[arg-type]
    assert [(rule.hosts, rule.check, rule.pull) for rule in config.rules] == [
        ("db*", None, None),
        ("web[12]", None, 5400.0),
    ]
    assert all(isinstance(rule, Rule) for rule in config.rules)
    assert config.hosts == (
        HostConfig(
            name="web1",
            address="web1.example.org",
            ssh=SshConfig(user="backup", port=2222, key=str(tmp_path / "ssh/id_ed25519")),  # type: ignore[arg-type]
            agent_port=9000,
            transport="direct",
            modules=ModuleFilter(include=["etc", "nginx*"], exclude=["nginx-cache"]),  # type: ignore[arg-type]
            bwlimit="10M",  # type: ignore[arg-type]
            enabled=False,
            trust="pinned",
        ),
    )


def test_two_loads_of_the_same_files_are_equal(tmp_path: Path) -> None:
    (tmp_path / "collector.toml").write_text(MAIN)
    assert load(tmp_path / "collector.toml") == load(tmp_path / "collector.toml")
